"""Comparisons of searches, computed by hand; the unoptimized program takes 1 s, so speedup is 1 / latency."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from colt_pipeline.analysis.compared import key
from colt_pipeline.analysis.figures.curves import search_curves_data, search_curves_plot
from colt_pipeline.analysis.searches import searches
from colt_pipeline.analysis.tables.files import read_tables
from colt_pipeline.analysis.tables.ratios import ratios, search_speedups
from colt_pipeline.analysis.tables.samples_needed import Bound, geometric_mean, median, needed_by, samples_to_reach
from colt_pipeline.analysis.tidy import Tidy, aggregate
from colt_pipeline.errors import ConfigError
from stages import aggregate as aggregate_stage
from stages import figures as figures_stage
from stages import tables as tables_stage
from tests.analysis.conftest import AddRun, WriteNoise, WriteRun

TWO = {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}
NOBODY = {"gpt-5-mini": (0, 0)}
OURS, PAPERS, AUTHORS = "COLT+ (stand-in)", "COLT (stand-in)", "COLT, authors' code (stand-in)"
TVM = "TVM's evolutionary search"


@pytest.fixture
def add(write_run: WriteRun) -> AddRun:
    """Write a run: search, workload, seed and latencies."""

    def add(search: str, workload: str, seed: int, *latencies: float | None, **changes: Any) -> None:
        name = f"{search}-{workload}-{seed}"
        write_run(name, TWO, latencies, search=search, workload=workload, seed=seed, **changes)

    return add


@pytest.fixture
def add_without_llm(write_run: WriteRun) -> AddRun:
    """Like `write`, for a search without LLM: its calls.csv has no rows."""

    def add(search: str, workload: str, seed: int, *latencies: float | None) -> None:
        name = f"{search}-{workload}-{seed}"
        changes = {"search": search, "workload": workload, "seed": seed, "llm_backend": "none", "largest": None}
        path = write_run(name, NOBODY, latencies, **changes) / "calls.csv"
        path.write_text(path.read_text().splitlines()[0] + "\n")

    return add


@pytest.fixture
def tidy(tmp_path: Path) -> Callable[[], Tidy]:
    """The runs written so far, aggregated."""

    def tidy() -> Tidy:
        return aggregate(tmp_path / "runs")

    return tidy


def rows(table: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """The rows without missing values, as tuples."""
    return [tuple(row) for row in table[list(columns)].itertuples(index=False)]


def against(table: pd.DataFrame, name: str) -> dict[Any, Any]:
    """The row of `ratios` about the only checkpoint of a configuration."""
    (row,) = table[(table["configuration"] == name) & (table["workloads"] == "Geometric mean")].to_dict("records")
    return row


def test_a_geometric_mean_over_workloads_and_seeds_by_hand(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    for seed, latencies in enumerate([(1.0, 0.5), (0.5, 0.125)]):
        add("colt_plus", "flux_conv", seed, *latencies)
        add("colt_plus", "my_kernel", seed, 0.25, 0.25)
    assert rows(search_speedups(tidy()), "workload", "samples", OURS) == [
        ("FLUX convolution", 2, pytest.approx(4.0)),  # of 2 and 8
        ("my_kernel", 2, pytest.approx(4.0)),
        ("Geometric mean", 2, pytest.approx(4.0)),
        ("Geometric mean, held out", 2, pytest.approx(4.0)),  # without flux_conv
    ]
    add("paper", "flux_conv", 0, 0.5, 0.5)
    (mean, low, high), *_ = rows(ratios(tidy()), "speedup", "speedup low", "speedup high")
    # my_kernel does not vary; the logarithms of flux_conv do by ln 4, so the mean's standard error is ln 4 / 2 / 2.
    half = stats.t.ppf(0.975, 2) * math.log(4) / 4
    assert (mean, low, high) == pytest.approx((4.0, 4 * math.exp(-half), 4 * math.exp(half)))


def test_checkpoints_are_powers_and_the_last_sample(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    add("colt_plus", "flux_conv", 0, *[0.5] * 40)
    assert searches(tidy()).checkpoints == [8, 16, 32, 40]
    add("paper", "flux_conv", 0, *[0.5] * 128)
    assert searches(tidy()).checkpoints == [8, 16, 32, 64, 128]


def test_a_run_that_is_over_has_no_later_speedup_unless_its_search_was_exhausted(
    add: AddRun, tidy: Callable[[], Tidy]
) -> None:
    add("colt_plus", "flux_conv", 0, 0.5, 0.25)
    add("paper", "flux_conv", 0, 0.5, stopped="exhausted")
    add("official_code", "flux_conv", 0, 0.5)
    (row,) = search_speedups(tidy()).query("workload == 'FLUX convolution'").to_dict("records")
    assert (row[OURS], row[PAPERS]) == pytest.approx((4.0, 2.0)) and math.isnan(row[AUTHORS])


def test_a_mean_over_fewer_workloads_is_missing(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    add("colt_plus", "flux_conv", 0, 0.5)
    add("colt_plus", "my_kernel", 0, 0.5)
    add("paper", "flux_conv", 0, 0.5)
    last = search_speedups(tidy()).iloc[-1]
    assert last[OURS] == pytest.approx(2.0) and math.isnan(last[PAPERS])
    row = against(ratios(tidy()), PAPERS)
    assert math.isnan(row["ratio"]) and row["verdict"] == "a run is missing or found nothing: no verdict"


def test_equal_runs_have_a_ratio_of_exactly_one_without_an_interval(
    add: AddRun, write_noise: WriteNoise, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for workload in ("flux_attention", "my_kernel"):
        write_noise((1.0, 1.5) * 10, workload)
        for seed in range(4):
            latencies = rng.uniform(size=20)
            add("colt_plus", workload, seed, *latencies)
            add("paper", workload, seed, *latencies)
    table = ratios(aggregate(tmp_path / "runs", tmp_path / "noise")).query("configuration == @PAPERS")
    assert rows(table, "samples", "ratio", "better", "pairs", "seeds", "verdict") == [
        (8, 1.0, 0.5, 8, 4, "within noise"),
        (16, 1.0, 0.5, 8, 4, "within noise"),
        (20, 1.0, 0.5, 8, 4, "within noise"),
    ]
    assert table[["ratio low", "ratio high"]].isna().all(axis=None)
    assert ((table["better low"] < 0.2) & (table["better high"] > 0.8)).all(), "ties say no more than coins"


def test_ratios_are_paired_by_seed_and_the_floor_shrinks_with_the_pairs(
    add: AddRun, write_noise: WriteNoise, tmp_path: Path
) -> None:
    """Seeds differ by a factor of 100, but the reference is about twice as fast on each, so the interval is narrow."""
    write_noise((1.0, 1.5) * 10)
    for seed, latency in enumerate((1.0, 0.1, 0.01)):
        add("colt_plus", "flux_conv", seed, latency / (1.9, 2.0, 2.1)[seed])
        add("paper", "flux_conv", seed, latency)
    add("colt_plus", "flux_conv", 3, 1e-9)  # a seed that only one of them has
    row = against(ratios(aggregate(tmp_path / "runs", tmp_path / "noise")), PAPERS)
    assert row["ratio"] == pytest.approx((1.9 * 2.0 * 2.1) ** (1 / 3))
    assert 1.7 < row["ratio low"] < row["ratio"] < row["ratio high"] < 2.3
    assert row["noise floor"] == pytest.approx(1.5 ** (1 / math.sqrt(3)))
    assert (row["better"], row["pairs"], row["reference"], row["verdict"]) == (1.0, 3, OURS, "faster")
    assert (row["better low"], row["better high"]) == (pytest.approx(0.025 ** (1 / 3)), 1.0)
    assert row["speedup high"] / row["speedup low"] > 50


def test_a_faster_baseline_makes_the_reference_slower(add: AddRun, write_noise: WriteNoise, tmp_path: Path) -> None:
    write_noise((1.0, 1.5) * 10)
    for seed in range(3):
        add("colt_plus", "flux_conv", seed, 0.5)
        add("evolutionary", "flux_conv", seed, 0.1 + 0.01 * seed)
    table = ratios(aggregate(tmp_path / "runs", tmp_path / "noise"))
    assert table["verdict"].dropna().tolist() == ["slower"]


@pytest.mark.parametrize(
    ("seeds", "verdict"), [(1, "one seed: no verdict"), (2, "too few seeds: no verdict"), (3, "noise unknown")]
)
def test_one_seed_or_two_pairs_give_no_interval(
    add: AddRun, tidy: Callable[[], Tidy], seeds: int, verdict: str
) -> None:
    for seed in range(seeds):
        add("colt_plus", "flux_conv", seed, 0.1 + 0.01 * seed)
        add("paper", "flux_conv", seed, 0.5)
    row = against(ratios(tidy()), PAPERS)
    bounds = [row[f"{what} {end}"] for what in ("speedup", "ratio", "better") for end in ("low", "high")]
    assert row["verdict"] == verdict and row["ratio"] > 4
    # The paper's runs do not vary, so their speedup has no interval whatever the number of seeds.
    assert [math.isnan(bound) for bound in bounds[2:]] == [seeds < 3] * 4 and all(map(math.isnan, bounds[:2]))


def test_five_workloads_of_one_seed_give_no_interval_either(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    for index in range(5):
        add("colt_plus", f"kernel{index}", 0, 0.1 + 0.01 * index)
        add("paper", f"kernel{index}", 0, 0.5)
    row = against(ratios(tidy()), PAPERS)
    assert (row["pairs"], row["seeds"], row["verdict"]) == (5, 1, "one seed: no verdict")
    assert math.isnan(row["ratio low"]) and math.isnan(row["better low"])


def test_model_sets_are_compared_with_the_single_large_model_on_each_target(
    write_run: WriteRun, tidy: Callable[[], Tidy]
) -> None:
    for target in ("cpu", "gpu"):
        for model_set, calls, latency in (("2", TWO, 0.25), ("large", {"gpt-5.2": (4, 0)}, 0.5)):
            write_run(f"{model_set}{target}", calls, (latency,), model_set=model_set, target=target)
    table = ratios(tidy())
    assert rows(table[table["ratio"].notna()], "configuration", "reference", "ratio") == [
        (f"COLT (2 models, stand-in), target={target}", f"gpt-5.2 (stand-in), target={target}", pytest.approx(0.5))
        for target in ("cpu", "gpu")
    ]


def test_estimates_give_no_verdict_however_clear(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    for seed in range(3):
        add("colt_plus", "flux_conv", seed, 0.001 * (1 + seed), measurement="estimated")
        add("paper", "flux_conv", seed, 0.5, measurement="estimated")
    assert against(ratios(tidy()), PAPERS)["verdict"] == "estimated: no verdict"


def test_workloads_that_the_search_was_tuned_on_are_also_left_out(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    for workload, latency in (("flux_conv", 0.01), ("my_kernel", 0.25)):
        add("colt_plus", workload, 0, latency)
        add("paper", workload, 0, 0.5)
    table = ratios(tidy()).query("configuration == @PAPERS")
    assert rows(table, "workloads", "ratio", "pairs") == [
        ("Geometric mean", pytest.approx(10.0), 2),
        ("Geometric mean, held out", pytest.approx(2.0), 1),
    ]


def test_the_share_of_better_pairs_by_hand(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    for seed, (mine, others) in enumerate([(0.1, 0.2), (0.2, 0.1), (0.1, 0.1), (0.1, 0.3)]):
        add("colt_plus", "flux_conv", seed, mine)
        add("paper", "flux_conv", seed, others)
    row = against(ratios(tidy()), PAPERS)
    assert row["better"] == (1 + 0 + 0.5 + 1) / 4
    assert row["better low"] < row["better"] < row["better high"]


def test_each_checkpoint_has_the_ratio_and_the_winner_of_its_sample(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    add("colt_plus", "flux_conv", 0, *[0.5] * 8, 0.125)
    add("paper", "flux_conv", 0, *[0.25] * 9)
    table = ratios(tidy()).query("configuration == @PAPERS")
    assert rows(table, "samples", "speedup", "ratio", "better") == [
        (8, pytest.approx(4.0), pytest.approx(0.5), 0.0),
        (9, pytest.approx(4.0), pytest.approx(2.0), 1.0),
    ]


def test_the_workload_with_the_fewest_seeds_decides_whether_there_is_a_verdict(
    add: AddRun, tidy: Callable[[], Tidy]
) -> None:
    for workload, seed in (("flux_conv", 0), ("flux_conv", 1), ("flux_conv", 2), ("llama3_8b_attention", 0)):
        add("colt_plus", workload, seed, 0.1 * (1 + 0.1 * seed))
        add("paper", workload, seed, 0.5)
    row = against(ratios(tidy()), PAPERS)
    assert (row["verdict"], row["pairs"], row["seeds"]) == ("one seed: no verdict", 4, 1)


def test_the_caption_of_samples_needed_names_a_search_that_is_there(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    add("colt_plus", "flux_conv", 0, 0.5)
    assert needed_by(tidy()) == ""
    add("evolutionary_8", "flux_conv", 0, 0.5)
    assert needed_by(tidy()) == "Ratio: the samples that TVM's evolutionary search (batches of 8) needs / these."
    add("evolutionary", "flux_conv", 0, 0.5)
    assert needed_by(tidy()) == "Ratio: the samples that TVM's evolutionary search needs / these."


def test_samples_needed_by_hand(add: AddRun, add_without_llm: AddRun, tidy: Callable[[], Tidy]) -> None:
    # The best known latency is 90 ms, so 99 ms suffice and 101 ms do not.
    for seed, latencies in enumerate([(0.5, 0.099, 0.5, 0.5), (0.099, 0.5, 0.09, 0.5), (0.5, 0.5, 0.5, 0.5)]):
        add("colt_plus", "flux_conv", seed, *latencies)
    for seed, others in enumerate([(0.5, 0.5, 0.5, 0.099), (None, None, 0.2, 0.101), (0.5, 0.5, 0.5, 0.5)]):
        add("paper", "flux_conv", seed, *others)
        add_without_llm("evolutionary", "flux_conv", seed, 0.5, 0.5, 0.5, 0.099)
    table = samples_to_reach(tidy())
    assert rows(table.query("workload == 'FLUX convolution'"), "search", "reached", "samples", "ratio") == [
        (OURS, "2/3", "2", "2.00"),  # after 2, 1 and never
        (PAPERS, "1/3", ">4", "<1.00"),
        (TVM, "3/3", "4", "1.00"),
    ]
    assert table["best (ms)"].iloc[0] == pytest.approx(90.0)
    assert rows(table.query("workload == 'Geometric mean'"), "search", "ratio") == [
        (OURS, "2.00"),
        (PAPERS, "<1.00"),
        (TVM, "1.00"),
    ]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([Bound(3), Bound(1), Bound(2)], Bound(2)),
        ([Bound(3), Bound(1)], Bound(3)),
        ([Bound(3), Bound(48, ">"), Bound(2)], Bound(3)),
        ([Bound(48, ">"), Bound(1), Bound(32, ">")], Bound(32, ">")),
        ([], None),
    ],
)
def test_the_median_of_numbers_and_lower_bounds(numbers: list[Bound], expected: Bound | None) -> None:
    assert median(numbers) == expected


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        (Bound(6), Bound(3), Bound(2)),
        (Bound(6, ">"), Bound(3), Bound(2, ">")),
        (Bound(6), Bound(3, ">"), Bound(2, "<")),
        (Bound(6, ">"), Bound(3, ">"), None),
    ],
)
def test_ratios_of_bounds(own: Bound, other: Bound, expected: Bound | None) -> None:
    assert own.over(other) == expected


def test_means_of_bounds() -> None:
    both, least = geometric_mean([Bound(2), Bound(8)]), geometric_mean([Bound(2), Bound(8, ">")])
    assert both is not None and vars(both) == vars(Bound(4)) | {"value": pytest.approx(4)}
    assert least is not None and vars(least) == vars(Bound(4, ">")) | {"value": pytest.approx(4)}
    assert geometric_mean([Bound(2, "<"), Bound(8, ">")]) is None
    assert geometric_mean([Bound(2), None]) is None


def test_columns_are_searches_the_reference_first(
    add: AddRun, add_without_llm: AddRun, tidy: Callable[[], Tidy]
) -> None:
    add("official_code", "flux_conv", 0, 0.5)
    add_without_llm("evolutionary", "flux_conv", 0, 0.5)
    add("paper", "flux_conv", 0, 0.5)
    assert searches(tidy()).names == [PAPERS, AUTHORS, TVM]
    add("colt_plus", "flux_conv", 0, 0.5)
    assert searches(tidy()).names == [OURS, PAPERS, AUTHORS, TVM]
    assert searches(tidy()).reference == OURS
    assert key(tidy()) == (
        "no LLM, stand-in LLMs · measured latency · cpu-2-cores · TVM's space · 1 seed · 1 sample · warm-up 16 · "
        "model set 2"
    )


def test_a_search_with_several_model_sets_counts_once_for_each(
    add: AddRun, write_run: WriteRun, tidy: Callable[[], Tidy]
) -> None:
    add("colt_plus", "flux_conv", 0, 0.5)
    add("paper", "flux_conv", 0, 0.5)
    write_run("small", {"gpt-5-mini": (4, 0)}, (0.5,), model_set="small", search="colt_plus")
    assert searches(tidy()).names == ["gpt-5-mini (stand-in), search=colt_plus", "COLT+ (2 models, stand-in)", PAPERS]


def test_the_key_tells_the_noise(add: AddRun, write_noise: WriteNoise, tmp_path: Path) -> None:
    add("colt_plus", "flux_conv", 0, 0.5)
    add("colt_plus", "my_kernel", 0, 0.5)
    write_noise((1.0, 1.5) * 10)
    write_noise((1.0, 1.8) * 10, "my_kernel")
    assert key(aggregate(tmp_path / "runs", tmp_path / "noise")).endswith(" · noise ×1.50 to ×1.80")


@pytest.mark.parametrize(("change", "value"), [("target", "gpu"), ("device", "other"), ("measurement", "estimated")])
def test_runs_of_two_worlds_are_not_compared(add: AddRun, tidy: Callable[[], Tidy], change: str, value: str) -> None:
    add("colt_plus", "flux_conv", 0, 0.5)
    add("paper", "flux_conv", 0, 0.5, **{change: value})
    with pytest.raises(ConfigError, match=f"cannot be compared across {change}s"):
        searches(tidy())


def test_searches_are_compared_within_a_design_space(
    add: AddRun, tidy: Callable[[], Tidy], write_run: WriteRun
) -> None:
    for space in ({}, {"space": ["row_fusion"]}):
        for search, secs in (("colt_plus", 0.1), ("evolutionary", 0.2)):
            name = f"{search}{len(space)}"
            write_run(name, TWO, (secs / (1 + len(space)),), search=search, workload="flux_conv", **space)
    table = ratios(tidy())
    ends = [", TVM's space", ", TVM's space with row fusion"]
    compared = table[table["reference"].notna() & (table["workloads"] == "Geometric mean")]
    assert rows(compared, "configuration", "reference", "ratio") == [
        (f"{TVM} (stand-in){end}", f"{OURS}{end}", pytest.approx(2.0)) for end in ends
    ]
    names = list(search_speedups(tidy()))[2:]
    assert names == [f"{name}{end}" for name in (OURS, f"{TVM} (stand-in)") for end in ends]
    needed = samples_to_reach(tidy()).query("workload == 'FLUX convolution'").set_index("search")
    assert needed["reached"].to_dict() == {names[0]: "0/1", names[1]: "1/1", names[2]: "0/1", names[3]: "0/1"}


def test_curves_of_workloads_and_their_mean(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    for seed in range(2):
        add("colt_plus", "flux_conv", seed, None, 0.5, 0.25)
        add("colt_plus", "my_kernel", seed, 0.5, 0.5, 0.0625)
    add("colt_plus", "flux_conv", 2, None, 0.5, 0.125)
    add("colt_plus", "my_kernel", 2, 0.5, 0.5, 0.0625)
    data = search_curves_data(tidy())
    assert rows(data, "workload", "sample", "speedup", "seeds") == [
        ("Geometric mean", 2, pytest.approx(2.0), 3),
        ("Geometric mean", 3, pytest.approx(8.0 * 2 ** (1 / 6)), 3),
        ("flux_conv", 2, pytest.approx(2.0), 3),
        ("flux_conv", 3, pytest.approx(4.0 * 2 ** (1 / 3)), 3),
        ("my_kernel", 1, pytest.approx(2.0), 3),
        ("my_kernel", 2, pytest.approx(2.0), 3),
        ("my_kernel", 3, pytest.approx(16.0), 3),
    ]
    known = data[data["low"].notna()]  # where seeds differ
    assert rows(known, "workload", "sample") == [("Geometric mean", 3), ("flux_conv", 3)]
    assert ((known["low"] < known["speedup"]) & (known["speedup"] < known["high"])).all()


@pytest.mark.parametrize("workloads", [1, 6])
def test_the_figure_is_identical_when_drawn_again(
    add: AddRun, tidy: Callable[[], Tidy], tmp_path: Path, workloads: int
) -> None:
    for index in range(workloads):
        for seed in range(2):
            add("colt_plus", f"kernel{index}", seed, 0.5 / (1 + seed), 0.25)
            add("paper", f"kernel{index}", seed, 0.5, 0.3)
    data = search_curves_data(tidy())
    for name in ("one", "two"):
        search_curves_plot(data, "title", "stand-in LLMs", tmp_path / name)
    for suffix in ("png", "svg", "csv"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    svg = (tmp_path / "one.svg").read_text()
    assert [f">kernel{index}<" in svg for index in range(7)] == [index < workloads for index in range(7)]
    assert svg.count(">COLT+ (stand-in)<") == svg.count(">COLT (stand-in)<") == 1, "one legend"


def test_nothing_valid_can_be_drawn(add: AddRun, tidy: Callable[[], Tidy], tmp_path: Path) -> None:
    add("colt_plus", "flux_conv", 0, None)
    data = search_curves_data(tidy())
    search_curves_plot(data, "title", "key", tmp_path / "figure")
    assert data.empty and (tmp_path / "figure.png").exists()


def test_stages_write_the_tables_and_the_figure_of_searches(
    add: AddRun, add_without_llm: AddRun, tmp_path: Path
) -> None:
    for seed in range(2):
        add("colt_plus", "flux_conv", seed, 0.5, 0.25)
        add_without_llm("evolutionary", "flux_conv", seed, 0.5, 0.3)
    out = tmp_path / "out"
    assert aggregate_stage.main(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "data")]) == 0
    for stage in (tables_stage, figures_stage):
        assert stage.main(["--data", str(tmp_path / "data"), "--out", str(out)]) == 0
    tables = ["call_counts", "invocation_rates", "ratios", "recorded_times", "samples_to_reach"]
    tables += ["search_speedups", "statistics"]
    figures = ["cost_against_quality", "final_speedups", "ranks", "search_curves"]
    assert sorted(path.stem for path in out.glob("*.svg")) == figures
    assert sorted(read_tables(out, "")) == tables
    said = "no LLM, stand-in LLMs · measured latency"
    assert all((out / name).read_text().count(said) == len(tables) for name in ("tables.md", "tables.tex"))
    drawn = [" ".join(re.sub("<[^>]+>", "", path.read_text()).split()) for path in out.glob("*.svg")]  # several lines
    assert all(said in text for text in drawn)
