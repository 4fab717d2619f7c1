"""Comparisons with the single large model, computed by hand; the unoptimized program takes 1 s."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from colt_pipeline.analysis.notes import several_spaces
from colt_pipeline.analysis.tables.comparisons import comparisons
from colt_pipeline.analysis.tables.invocation import best_latencies
from colt_pipeline.analysis.tables.ratios import ratios
from colt_pipeline.analysis.tables.statistics import statistics
from colt_pipeline.analysis.tidy import aggregate
from stages import aggregate as aggregate_stage
from stages import tables as tables_stage
from tests.analysis.conftest import WriteNoise, WriteRun

LARGE = {"gpt-5.2": (4, 0)}
SMALL = {"gpt-5-mini": (4, 0)}
TWO = {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}
TWICE = (1.0, 2.0) * 10  # a floor of 2
LARGE_ROW, SMALL_ROW, TWO_ROW = "gpt-5.2 (stand-in)", "gpt-5-mini (stand-in)", "COLT (2 models, stand-in)"

Compare = Callable[[], dict[str, dict[Any, Any]]]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """`comparisons` of the runs and recordings written so far: label -> row."""

    def compare() -> dict[str, dict[Any, Any]]:
        recordings = tmp_path / "noise"
        recordings.mkdir(exist_ok=True)
        table = comparisons(aggregate(tmp_path / "runs", recordings))
        return {row["configuration"]: row for row in table.to_dict("records")}

    return compare


def test_a_row_by_hand(write_run: WriteRun, write_noise: WriteNoise, compare: Compare) -> None:
    write_noise(TWICE)
    ratios = (5.0, 6.0, 7.5)
    for seed, ratio in enumerate(ratios):
        write_run(f"a{seed}", LARGE, (0.9, 0.02 * 2**seed), model_set="large", seed=seed)
        write_run(f"b{seed}", TWO, (0.02 * 2**seed * ratio,), seed=seed)
    logs = np.log(ratios)
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / math.sqrt(3)
    rows = compare()
    assert rows[TWO_ROW] == {
        "workload": "FLUX convolution",
        "configuration": TWO_ROW,
        "measurement": "measured",
        "latency (ms)": pytest.approx(40 * math.exp(logs.mean())),  # of 20, 40 and 80 ms times the ratios
        "reference": LARGE_ROW,
        "verdict": "faster",
        "ratio": pytest.approx(math.exp(logs.mean())),
        "ratio low": pytest.approx(math.exp(logs.mean() - half)),
        "ratio high": pytest.approx(math.exp(logs.mean() + half)),
        "noise floor": pytest.approx(2 ** (1 / math.sqrt(3))),
        "seeds": 3,
    }
    assert rows[LARGE_ROW]["latency (ms)"] == pytest.approx(40.0)
    assert all(pd.isna(rows[LARGE_ROW][column]) for column in ("reference", "verdict", "ratio", "noise floor", "seeds"))


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [((0.2, 0.18, 0.15), "slower"), ((1.2, 1.3, 1.4), "within noise"), ((1.0, 2.0, 9.0), "not distinguishable")],
)
def test_a_verdict_needs_both_the_interval_and_the_noise(
    write_run: WriteRun, write_noise: WriteNoise, compare: Compare, ratios: tuple[float, ...], expected: str
) -> None:
    write_noise(TWICE)
    for seed, ratio in enumerate(ratios):
        write_run(f"a{seed}", LARGE, (0.1,), model_set="large", seed=seed)
        write_run(f"b{seed}", TWO, (0.1 * ratio,), seed=seed)
    assert compare()[TWO_ROW]["verdict"] == expected


def test_one_seed_gives_neither_an_interval_nor_a_verdict_and_two_pairs_no_interval(
    write_run: WriteRun, write_noise: WriteNoise, compare: Compare
) -> None:
    write_noise(TWICE)
    write_run("a", LARGE, (0.1,), model_set="large")
    write_run("b", TWO, (0.001,))
    row = compare()[TWO_ROW]
    assert (row["ratio"], row["verdict"]) == (pytest.approx(0.01), "one seed: no verdict") and math.isnan(
        row["ratio low"]
    )
    write_run("c", LARGE, (0.1,), model_set="large", seed=1)
    write_run("d", TWO, (0.002,), seed=1)
    row = compare()[TWO_ROW]
    assert (row["seeds"], row["verdict"]) == (2, "too few seeds: no verdict") and math.isnan(row["ratio low"])


def test_without_recorded_noise_no_difference_counts(
    write_run: WriteRun, write_noise: WriteNoise, compare: Compare
) -> None:
    write_noise(TWICE, device="another-machine")
    for seed in range(3):
        write_run(f"a{seed}", LARGE, (0.1,), model_set="large", seed=seed)
        write_run(f"b{seed}", TWO, (1e-6 * (1 + seed),), seed=seed)
    assert compare()[TWO_ROW]["verdict"] == "noise unknown"


def test_estimates_give_no_verdict_and_say_that_they_are_estimates(
    write_run: WriteRun, write_noise: WriteNoise, compare: Compare
) -> None:
    write_noise(TWICE)
    for seed in range(3):
        write_run(f"a{seed}", LARGE, (0.1,), model_set="large", measurement="estimated", seed=seed)
        write_run(f"b{seed}", TWO, (0.001 * (1 + seed),), measurement="estimated", seed=seed)
    rows = compare()
    assert rows[TWO_ROW]["verdict"] == "estimated: no verdict"
    assert {row["measurement"] for row in rows.values()} == {"estimated (not measured)"}


def test_an_estimate_is_not_compared_with_a_measurement_nor_devices_with_each_other(
    write_run: WriteRun, write_noise: WriteNoise, compare: Compare
) -> None:
    write_noise(TWICE)
    write_noise(TWICE, device="other")
    write_run("a", LARGE, (0.1,), model_set="large")
    write_run("b", TWO, (0.001,), measurement="estimated")
    write_run("c", SMALL, (0.001,), model_set="small", device="other")
    rows = compare()
    assert len(rows) == 3 and all(pd.isna(row["reference"]) and pd.isna(row["verdict"]) for row in rows.values())
    assert list(rows) == [
        "gpt-5.2 (stand-in), device=cpu-2-cores, measurement=measured",
        "COLT (2 models, stand-in), device=cpu-2-cores, measurement=estimated",
        "gpt-5-mini (stand-in), device=other, measurement=measured",
    ]


def test_latencies_are_compared_across_design_spaces_unlike_speedups(
    write_run: WriteRun, compare: Compare, tmp_path: Path
) -> None:
    write_run("a", TWO, (0.1,))
    write_run("b", TWO, (0.05,), space=["row_fusion"])
    ours, other = f"{TWO_ROW}, TVM's space", f"{TWO_ROW}, TVM's space with row fusion"
    rows = compare()
    assert list(rows) == [ours, other]
    assert rows[other]["reference"] == ours and rows[other]["ratio"] == pytest.approx(0.5)
    tidy = aggregate(tmp_path / "runs")
    assert ratios(tidy)["reference"].isna().all()
    assert list(best_latencies(tidy))[1:3] == [f"unoptimized{ending}" for ending in (ours[25:], other[25:])]
    assert "in different design spaces do not compare" in several_spaces(tidy)


def test_a_single_configuration_is_compared_with_nothing_and_named_after_its_model(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("a", SMALL, (0.1,), model_set="small")
    data = aggregate(tmp_path / "runs")
    assert comparisons(data).empty and ratios(data).empty
    assert set(statistics(data)["configuration"]) == {"gpt-5-mini (stand-in)"}


def test_only_common_seeds_are_compared(write_run: WriteRun, write_noise: WriteNoise, compare: Compare) -> None:
    write_noise(TWICE)
    write_run("a0", LARGE, (0.3,), model_set="large")
    write_run("a1", LARGE, (0.1,), model_set="large", seed=1)
    write_run("b1", TWO, (0.05,), seed=1)
    write_run("b2", TWO, (0.0125,), seed=2)
    write_run("c2", SMALL, (0.01,), model_set="small", seed=2)
    rows = compare()
    assert rows[TWO_ROW]["ratio"] == pytest.approx(0.5), "0.05 / 0.1, seed 1"
    assert rows[TWO_ROW]["latency (ms)"] == pytest.approx(25.0), "the geometric mean of its own seeds"
    assert math.isnan(rows[SMALL_ROW]["ratio"]) and rows[SMALL_ROW]["seeds"] == 0
    assert rows[SMALL_ROW]["verdict"] == "a run is missing or found nothing: no verdict"


def test_a_seed_that_found_nothing_leaves_no_verdict(
    write_run: WriteRun, write_noise: WriteNoise, compare: Compare
) -> None:
    write_noise(TWICE)
    write_run("a", LARGE, (0.1,), model_set="large")
    write_run("b", TWO, (0.001,))
    write_run("c", TWO, (None,), seed=1)
    write_run("d", LARGE, (0.1,), model_set="large", seed=1)
    row = compare()[TWO_ROW]
    assert math.isnan(row["latency (ms)"]) and row["verdict"] == "a run is missing or found nothing: no verdict"


def test_without_a_large_model_the_first_configuration_of_the_target_is_the_reference(
    write_run: WriteRun, compare: Compare
) -> None:
    write_run("a", TWO, (0.1,))
    write_run("b", SMALL, (0.2,), model_set="small")
    write_run("c", TWO, (0.1,), target="gpu")
    write_run("d", SMALL, (0.1,), model_set="small", target="gpu")
    compared = {label: row["reference"] for label, row in compare().items() if pd.notna(row["reference"])}
    assert compared == {f"{TWO_ROW}, target={target}": f"{SMALL_ROW}, target={target}" for target in ("cpu", "gpu")}


def test_a_workload_that_the_reference_has_not_run_has_no_ratio(write_run: WriteRun, compare: Compare) -> None:
    write_run("a", LARGE, (0.1,), model_set="large", workload="my_kernel")
    write_run("b", TWO, (0.1,))
    row = compare()[TWO_ROW]
    assert math.isnan(row["ratio"]) and row["reference"] == LARGE_ROW
    assert row["verdict"] == "a run is missing or found nothing: no verdict"


def test_stages_carry_the_noise_into_the_table(write_run: WriteRun, write_noise: WriteNoise, tmp_path: Path) -> None:
    write_noise(TWICE)
    write_run("a", LARGE, (0.1,), model_set="large")
    write_run("b", TWO, (0.04,))
    runs, noise, data, out = (str(tmp_path / name) for name in ("runs", "noise", "data", "tables"))
    assert aggregate_stage.main(["--runs", runs, "--noise", noise, "--out", data]) == 0
    assert tables_stage.main(["--data", data, "--out", out]) == 0
    assert (tmp_path / "tables" / "comparisons.csv").read_text().splitlines()[2] == (
        'FLUX convolution,"COLT (2 models, stand-in)",measured,40,gpt-5.2 (stand-in),one seed: no verdict,0.4,,,2,1'
    )
    latex = (tmp_path / "tables" / "tables.tex").read_text()
    assert r"noise ×2.00" in latex and r"\begin{tabular}{lllrllrrrrr}" in latex


def test_a_mistyped_noise_directory_is_a_message(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--runs", str(runs_dir), "--noise", str(tmp_path / "gone"), "--out", str(tmp_path / "data")]
    assert aggregate_stage.main(arguments) == 1
    assert "gone is not a directory" in capsys.readouterr().err
