"""Figures beyond the paper's: their numbers, computed by hand, and what is drawn of them."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex

from colt_pipeline.analysis.course_alterations import alterations_and_chance, persistence
from colt_pipeline.analysis.figures.drawing import NEUTRAL
from colt_pipeline.analysis.figures.finals import final_data, final_plot
from colt_pipeline.analysis.figures.pareto import CALLS, ESTIMATED, on_front, pareto_data, pareto_plot
from colt_pipeline.analysis.figures.persistence import persistence_plot
from colt_pipeline.analysis.figures.ranks import ALL, rank_data, rank_plot
from colt_pipeline.analysis.figures.shares import share_data, share_plot
from colt_pipeline.analysis.figures.times import time_plot
from colt_pipeline.analysis.intervals import share, stratified_mean
from colt_pipeline.analysis.recorded_times import LLM, RUNS, recorded_times, time_data
from colt_pipeline.analysis.tidy import Tidy, aggregate
from colt_pipeline.search.outcome import ALTERATIONS
from tests.analysis.conftest import WriteRun

TWO = {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}
PRICES = {"gpt-5.2": (1.0, 10.0), "gpt-5-mini": (1.0, 10.0)}
"""The third model has no price."""


def _waiting(tidy: Tidy, llm_secs: float) -> Tidy:
    """The same runs, with answers of the given duration per model."""
    return replace(tidy, calls=tidy.calls.assign(llm_secs=llm_secs))


COUNTED = {"gpt-5.2": (1, 1), "gpt-5-mini": (3, 0)}


MADE = {"gpt-5.2": (1, 1), "gpt-5-mini": (2, 2)}
TURNS = (
    {"sample": 0, "gpt-5-mini": 1, "gpt-5.2": 1, ALTERATIONS: 0},
    {"sample": 2, "gpt-5-mini": 2, "gpt-5.2": 0, ALTERATIONS: 1},
)


@pytest.fixture
def write_counted(write_run: WriteRun) -> WriteRun:
    """A run of two models, with their programs and calls."""

    def write(name: str, latencies: tuple[float | None, ...], **changes: Any) -> Path:
        return write_run(name, COUNTED, latencies, made=MADE, turns=TURNS, **changes)

    return write


def test_who_was_called_when_is_complete_over_runs(
    write_counted: WriteRun, write_run: WriteRun, tmp_path: Path
) -> None:
    write_counted("a", (0.5, None))
    write_run("b", {"tiny": (1, 0)}, (0.5,), model_set="mine", turns=({"sample": 1, "tiny": 1, ALTERATIONS: 0},))
    write_run("c", {"tiny": (0, 0)}, (0.5,), model_set="none")
    tidy = aggregate(tmp_path / "runs")
    made = tidy.calls.set_index("model")[["children", "regressions"]].T
    assert made["gpt-5-mini"].tolist() == [2, 2] and made["gpt-5.2"].tolist() == [1, 1]
    columns = ["sample", "gpt-5-mini", "gpt-5.2", "tiny", ALTERATIONS]
    assert list(tidy.turns.columns[-5:]) == columns
    assert tidy.turns[columns].to_numpy().tolist() == [[0, 1, 1, 0, 0], [2, 2, 0, 0, 1], [1, 0, 0, 1, 0]]


def test_alterations_are_held_against_the_chance_of_their_own_rule(
    write_run: WriteRun, write_counted: WriteRun, tmp_path: Path
) -> None:
    """Each run has 2 programs of a small model, both regressions, 1 below a regression, and 1 alteration."""
    for search, rule in (("paper", "streak"), ("colt_plus", "path_birth"), ("random_course_alteration", "random")):
        write_counted(rule, (0.5, None), search=search, journal={"course_rule": rule, "after_regression": 1})
    never = {"course_rule": "never", "after_regression": 1}
    write_run("never", {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}, (0.5,), made=MADE, search="mine", journal=never)
    write_run("b", {"gpt-5-mini": (3, 0)}, (0.5,), model_set="small")
    data = alterations_and_chance(aggregate(tmp_path / "runs")).set_index("rule")
    assert set(data["programs"]) == set(data["regressions"]) == {2}
    assert data["chance"].dropna().to_dict() == {"path_birth": 0.5, "streak": 0.5}, "p q, and p^2 / (1 + p)"
    assert data["rate"].to_dict() == {"path_birth": 0.5, "streak": 0.5, "random": 0.5, "never": 0.0}
    assert data["rate low"].isna().to_dict() == {"path_birth": False, "streak": False, "random": False, "never": True}


def test_independent_regressions_alter_the_course_as_often_as_the_streak_rule_says() -> None:
    rng = np.random.default_rng(0)
    for regression in (0.2, 0.5, 0.8):
        streak = altered = 0
        for regressed in rng.random(100_000) < regression:
            streak = streak + 1 if regressed else 0
            if streak == 2:
                altered, streak = altered + 1, 0
        assert altered / 100_000 == pytest.approx(regression**2 / (1 + regression), abs=0.005)


def test_persistence_is_pooled_over_runs_and_needs_both_kinds(write_counted: WriteRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        counts = {"after_regression": 10, "after_regression_regressed": 4, "after_rise": 5, "after_rise_regressed": 3}
        write_counted(f"a{seed}", (0.5, None), seed=seed, journal=counts)
    write_counted("b", (0.5, None), search="colt_plus", journal={"after_regression": 3, "after_rise": 0})
    write_counted("c", (0.5, None), search="mine")
    (row,) = persistence(aggregate(tmp_path / "runs")).to_dict("records")
    assert (row["after a regression: programs"], row["otherwise: programs"]) == (20, 10)
    assert (row["after a regression"], row["otherwise"], row["difference"]) == pytest.approx((0.4, 0.6, -0.2))
    ends = [row[f"after a regression {end}"] for end in ("low", "high")]
    assert ends == pytest.approx(share(8, 20)[1:]) and row["difference low"] < -0.2 < row["difference high"]


def test_marks_of_persistence_are_explained_in_grey(write_counted: WriteRun, tmp_path: Path) -> None:
    counts = {"after_regression": 4, "after_regression_regressed": 2, "after_rise": 4, "after_rise_regressed": 2}
    for search in ("paper", "colt_plus"):
        write_counted(search, (0.5, None), search=search, journal=counts)
    persistence_plot(persistence(aggregate(tmp_path / "runs")), "title", "key", tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    entries = (">after a regression<", ">otherwise<", ">95 % interval<")
    assert [svg.count(entry) for entry in entries] == [1, 1, 1] and to_hex(NEUTRAL) in svg


def test_shares_add_up_to_a_hundred_and_name_the_stand_ins(
    write_run: WriteRun, write_counted: WriteRun, tmp_path: Path
) -> None:
    write_counted("a", (0.5, None, 0.5))
    write_run("b", {"gpt-5-mini": (3, 0)}, (0.5,), model_set="small")
    data = share_data(aggregate(tmp_path / "runs"))
    rows = data[["sample", "until", "model", "calls", "percent"]].to_numpy().tolist()
    assert rows[:3] == [
        [0, 2, "gpt-5.2 (stand-in)", 1, 50.0],
        [0, 2, "gpt-5-mini (stand-in)", 1, 50.0],
        [0, 2, ALTERATIONS, 0, 0.0],
    ]
    assert data.groupby("sample")["percent"].sum().tolist() == pytest.approx([100, 100])
    assert set(data["configuration"]) == {"COLT (2 models, stand-in)"}, "a single model has all calls"


def test_a_model_that_answered_in_two_ways_stands_in_the_legend_once(write_counted: WriteRun, tmp_path: Path) -> None:
    write_counted("a", (0.5, None, 0.5))
    for name in ("one", "two"):
        share_plot(share_data(aggregate(tmp_path / "runs")), "title", "key", tmp_path / name)
        write_counted(name, (0.5, None, 0.5), search="mine", llm_backend="random")
    one, two = ((tmp_path / f"{name}.svg").read_text() for name in ("one", "two"))
    assert ">gpt-5-mini (stand-in)<" in one and ">gpt-5-mini<" not in one
    assert two.count(">gpt-5-mini<") == 1 and "gpt-5-mini (" not in two
    assert ">COLT (stand-in)<" in two and ">mine (random)<" in two, "panels say what answered"


def test_costs_are_summed_over_workloads_and_averaged_over_seeds(write_run: WriteRun, tmp_path: Path) -> None:
    for seed, secs in ((0, 0.5), (1, 0.125)):
        for workload in ("flux_conv", "my_kernel"):
            where: dict[str, Any] = {"seed": seed, "workload": workload, "prices": PRICES}
            write_run(f"two-{workload}-{seed}", TWO, (secs,), **where)
            alone = {"gpt-5-mini": (4 + 4 * seed, 0)}
            write_run(f"one-{workload}-{seed}", alone, (0.5,), model_set="small", **where)
    data = pareto_data(aggregate(tmp_path / "runs")).set_index(["cost", "configuration"])
    colt, small = "COLT (2 models, stand-in)", "gpt-5-mini (stand-in)"
    assert data.loc[(CALLS, colt), "amount"] == 8 and data.loc[(CALLS, small), "amount"] == 12
    assert data.loc[(CALLS, colt), "speedup"] == pytest.approx(4.0)
    assert data.loc[(ESTIMATED, colt), "amount"] == pytest.approx(2 * 4 * (100 * 1 + 10 * 10) / 1e6)
    assert data["front"].to_dict() == {
        (cost, name): name == colt for cost in (CALLS, ESTIMATED) for name in (colt, small)
    }
    known = data.loc[[(cost, colt) for cost in (CALLS, ESTIMATED)]]
    assert (known["low"] < known["speedup"]).all() and (known["speedup"] < known["high"]).all()
    assert data["low"].isna().sum() == 2, "equal seeds do not show how much seeds differ"


def test_one_seed_has_no_front(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", {"gpt-5-mini": (4, 0)}, (0.5,), model_set="small")
    write_run("b", TWO, (0.25,))
    data = pareto_data(aggregate(tmp_path / "runs"))
    assert len(data) == 2 and not data["front"].any()
    pareto_plot(data, "title", "key", tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    assert "front" not in svg and "interval" not in svg and ">one seed<" in svg


def test_without_a_price_there_is_no_cost_and_random_answers_cost_nothing(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", {"gpt-5-mini": (4, 0)}, (0.5,), model_set="small", prices=PRICES)
    write_run("b", {"tiny": (4, 0)}, (0.5,), model_set="mine", prices=PRICES)
    write_run("c", TWO, (0.25,), search="random_proposer", llm_backend="random", prices=PRICES)
    data = pareto_data(aggregate(tmp_path / "runs"))
    amounts = {cost: own["amount"].tolist() for cost, own in data.groupby("cost")}
    assert sorted(amounts[CALLS]) == [0, 4, 4]
    assert sorted(amounts[ESTIMATED]) == pytest.approx([0, 4 * 200 / 1e6]), "tiny has no price"


def test_where_no_model_has_a_price_calls_are_the_only_cost(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", {"gpt-5-mini": (4, 0)}, (0.5,), model_set="small")
    write_run("b", TWO, (0.5,))
    assert pareto_data(aggregate(tmp_path / "runs"))["cost"].unique().tolist() == [CALLS]


def test_the_front_holds_whom_nobody_beats() -> None:
    assert on_front([1, 2, 3, 3, 1], [5, 9, 8, 9, 5]) == [True, True, False, False, True]


def test_ranks_are_averaged_over_common_seeds_and_ties_shared(write_run: WriteRun, tmp_path: Path) -> None:
    for seed, one, two in ((0, 0.5, 0.25), (1, 0.5, 0.5), (2, 0.5, None)):
        write_run(f"one{seed}", {"gpt-5-mini": (1, 0)}, (one,), seed=seed, model_set="small")
        write_run(f"two{seed}", TWO, (two,), seed=seed)
    data = rank_data(aggregate(tmp_path / "runs"))
    means = data[data["seed"].isna()].set_index("configuration")
    colt, small = "COLT (2 models, stand-in)", "gpt-5-mini (stand-in)"
    assert means["value"].to_dict() == {colt: 1.25, small: 1.75}
    assert ALL not in set(data["workload"]), "one workload needs no mean over them"
    assert means[["low", "high"]].isna().all(axis=None), "two seeds are points"
    seeds = data.dropna(subset="seed").set_index(["configuration", "seed"])["value"].to_dict()
    assert seeds == {(colt, 0): 1.0, (colt, 1): 1.5, (small, 0): 2.0, (small, 1): 1.5}


def test_ranks_have_intervals_of_possible_ranks(write_run: WriteRun, tmp_path: Path) -> None:
    for seed, (one, two) in enumerate(((0.5, 0.25), (0.5, 0.25), (0.25, 0.5))):
        for workload in ("flux_conv", "my_kernel"):
            write_run(
                f"one{workload}{seed}", {"gpt-5-mini": (1, 0)}, (one,), seed=seed, workload=workload, model_set="small"
            )
            write_run(f"two{workload}{seed}", TWO, (two,), seed=seed, workload=workload)
    data = rank_data(aggregate(tmp_path / "runs"))
    assert data["seed"].isna().all() and set(data["workload"]) == {ALL, "FLUX convolution", "my_kernel"}
    own = data[data["workload"] == "my_kernel"]
    assert own["value"].tolist() == pytest.approx([5 / 3, 4 / 3])
    assert own["low"].tolist() == [1, 1] and own["high"].tolist() == [2, 2], "t alone would reach from 0.2 to 3.1"


def test_intervals_of_mean_ranks_cover_them() -> None:
    """Four configurations of slightly different speedups, on 5 workloads with 3 seeds and 2 with 2."""
    rng = np.random.default_rng(0)
    for workloads, seeds in ((5, 3), (2, 3), (2, 2)):
        speedups = rng.normal([0, 0.3, 0.6, 0.9], 1, (1500, workloads, seeds, 4))
        ranks = 4 - speedups.argsort(axis=-1).argsort(axis=-1).astype(float)
        truth = ranks.mean(axis=(0, 1, 2))
        found = [stratified_mean(list(own)) for own in ranks]
        low, high = (np.array([getattr(own, end) for own in found]) for end in ("low", "high"))
        covered = ((low <= truth) & (truth <= high))[~np.isnan(low)]
        assert covered.mean() > 0.92


def test_one_seed_and_one_configuration_have_no_rank(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,))
    assert rank_data(aggregate(tmp_path / "runs")).empty and pareto_data(aggregate(tmp_path / "runs")).empty
    write_run("b", {"gpt-5-mini": (1, 0)}, (0.25,), model_set="small")
    assert rank_data(aggregate(tmp_path / "runs")).empty


def test_axes_name_estimates(write_run: WriteRun, tmp_path: Path) -> None:
    for seed in (0, 1):
        for model_set, calls in (("2", TWO), ("small", {"gpt-5-mini": (1, 0)})):
            where: dict[str, Any] = {"seed": seed, "measurement": "estimated"}
            write_run(f"{model_set}{seed}", calls, (0.5 + seed / 4,), model_set=model_set, **where)
    tidy = aggregate(tmp_path / "runs")
    for name, words, data, plot in (
        ("finals", ">Estimated speedup over<", final_data(tidy), final_plot),
        ("ranks", ">estimated speedup (1: fastest)<", rank_data(tidy), rank_plot),
        ("costs", ">Estimated speedup over<", pareto_data(tidy), pareto_plot),
    ):
        assert set(data["measurement"]) == {"estimated"}
        plot(data, "title", "key", tmp_path / name)
        assert words in (tmp_path / f"{name}.svg").read_text()


def test_recorded_times_are_means_over_runs(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,), timed_secs=0.75)
    write_run("b", TWO, (0.5,), seed=1, timed_secs=0.25)
    tidy = _waiting(aggregate(tmp_path / "runs"), 6.0)
    assert tidy.runs.columns[-1] == "timed_secs"
    assert time_data(tidy)[["configuration", "runs", LLM, RUNS]].to_numpy().tolist() == [
        ["COLT (stand-in)", 2, 12.0, 0.5]
    ]


def test_estimates_have_no_timed_runs(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,), timed_secs=0.75, measurement="estimated")
    (row,) = recorded_times(aggregate(tmp_path / "runs")).to_dict("records")
    assert (row["runs"], row[LLM]) == (1, 0.0) and math.isnan(row[RUNS])


def test_stand_ins_take_no_time_that_could_be_drawn(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,))
    tidy = aggregate(tmp_path / "runs")
    assert time_data(tidy).empty and recorded_times(tidy)[RUNS].isna().all()


def test_targets_are_not_mixed(write_run: WriteRun, write_counted: WriteRun, tmp_path: Path) -> None:
    for target, seed in product(("cpu", "gpu"), (0, 1)):
        where = {"target": target, "seed": seed}
        write_counted(f"a{target}{seed}", (0.5, None, 0.5), **where)
        write_run(f"b{target}{seed}", {"gpt-5-mini": (1, 0)}, (0.25, 0.25, 0.25), model_set="small", **where)
    tidy = aggregate(tmp_path / "runs")
    for make in (final_data, rank_data, alterations_and_chance, share_data, pareto_data):
        data = make(tidy)
        assert {name.rpartition("target=")[2] for name in data["configuration"]} == {"cpu", "gpu"}


def test_every_figure_draws_the_same_bytes_again(write_run: WriteRun, write_counted: WriteRun, tmp_path: Path) -> None:
    counts = {"after_regression": 4, "after_regression_regressed": 2, "after_rise": 4, "after_rise_regressed": 2}
    for seed in (0, 1):
        write_counted(f"a{seed}", (0.5, None, 0.25), prices=PRICES, seed=seed, journal=counts)
        write_run(f"b{seed}", {"gpt-5-mini": (1, 0)}, (0.25,) * 3, model_set="small", seed=seed)
    tidy = _waiting(aggregate(tmp_path / "runs"), 1.0)
    figures = {
        "finals": (final_data, final_plot),
        "pareto": (pareto_data, pareto_plot),
        "ranks": (rank_data, rank_plot),
        "persistence": (persistence, persistence_plot),
        "shares": (share_data, share_plot),
        "times": (time_data, time_plot),
    }
    for name, (data, plot) in figures.items():
        for place in ("one", "two"):
            (tmp_path / place).mkdir(exist_ok=True)
            plot(data(tidy), "A title", "stand-in LLMs", tmp_path / place / name)
        for suffix in ("png", "svg", "csv"):
            first = (tmp_path / "one" / f"{name}.{suffix}").read_bytes()
            assert first == (tmp_path / "two" / f"{name}.{suffix}").read_bytes()
        svg = (tmp_path / "one" / f"{name}.svg").read_text()
        assert ">A title<" in svg and ">stand-in LLMs<" in svg
