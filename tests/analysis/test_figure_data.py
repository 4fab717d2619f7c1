"""Numbers of the figures beyond the paper's, computed by hand; nothing is drawn."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colt_pipeline.analysis.course_alterations import coin_rate, course_data, wilson
from colt_pipeline.analysis.figures.course_alterations import course_plot
from colt_pipeline.analysis.figures.pareto import CALLS, ESTIMATED, on_front, pareto_data, pareto_plot
from colt_pipeline.analysis.figures.ranks import ALL, rank_data, rank_plot
from colt_pipeline.analysis.figures.shares import share_data, share_plot
from colt_pipeline.analysis.figures.times import time_plot
from colt_pipeline.analysis.recorded_times import LLM, RUNS, recorded_times, time_data
from colt_pipeline.analysis.report.findings import course_findings
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


def test_alterations_are_held_against_chance(write_run: WriteRun, write_counted: WriteRun, tmp_path: Path) -> None:
    write_counted("a", (0.5, None))
    write_run("b", {"gpt-5-mini": (3, 0)}, (0.5,), model_set="small")
    (row,) = course_data(aggregate(tmp_path / "runs")).to_dict("records")
    assert (row["children"], row["regressions"], row["alterations"]) == (2, 2, 1)
    assert (row["rate"], row["coin"]) == (0.5, 0.5)
    (said,) = course_findings(course_data(aggregate(tmp_path / "runs")))
    assert "1 of 2 programs" in said and said.endswith("not distinguishable from chance.")


def test_independent_regressions_alter_the_course_as_often_as_the_formula_says() -> None:
    rng = np.random.default_rng(0)
    for regression in (0.2, 0.5, 0.8):
        streak = altered = 0
        for regressed in rng.random(100_000) < regression:
            streak = streak + 1 if regressed else 0
            if streak == 2:
                altered, streak = altered + 1, 0
        assert altered / 100_000 == pytest.approx(coin_rate(regression), abs=0.005)


def test_the_interval_of_a_share_is_that_of_the_literature_and_covers_it() -> None:
    assert wilson(10, 100) == pytest.approx((0.0552, 0.1744), abs=5e-5)  # Newcombe (1998) gives this form
    assert wilson(0, 10)[0] == 0.0 and wilson(10, 10)[1] == pytest.approx(1.0)
    assert all(map(math.isnan, wilson(0, 0)))
    hits = np.random.default_rng(1).binomial(60, 0.12, size=2000)
    covered = [low <= 0.12 <= high for low, high in (wilson(int(count), 60) for count in hits)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.025)


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
    assert set(data["configuration"]) == {"COLT (2 models)"}, "a single model has all calls"


def test_costs_are_summed_over_workloads_and_averaged_over_seeds(write_run: WriteRun, tmp_path: Path) -> None:
    for seed, secs in ((0, 0.5), (1, 0.125)):
        for workload in ("flux_conv", "my_kernel"):
            where: dict[str, Any] = {"seed": seed, "workload": workload, "prices": PRICES}
            write_run(f"two-{workload}-{seed}", TWO, (secs,), **where)
            alone = {"gpt-5-mini": (4 + 4 * seed, 0)}
            write_run(f"one-{workload}-{seed}", alone, (0.5,), model_set="small", **where)
    data = pareto_data(aggregate(tmp_path / "runs")).set_index(["cost", "configuration"])
    colt, small = "COLT (2 models)", "gpt-5-mini (stand-in)"
    assert data.loc[(CALLS, colt), "amount"] == 8 and data.loc[(CALLS, small), "amount"] == 12
    assert data.loc[(CALLS, colt), "speedup"] == pytest.approx(4.0)
    assert data.loc[(ESTIMATED, colt), "amount"] == pytest.approx(2 * 4 * (100 * 1 + 10 * 10) / 1e6)
    assert data["front"].to_dict() == {
        (cost, name): name == colt for cost in (CALLS, ESTIMATED) for name in (colt, small)
    }
    assert (data["low"] <= data["speedup"]).all() and (data["speedup"] <= data["high"]).all()


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
    data = rank_data(aggregate(tmp_path / "runs")).set_index("configuration")
    assert data["rank"].to_dict() == {"COLT (2 models)": 1.25, "gpt-5-mini (stand-in)": 1.75}
    assert set(data["seeds"]) == {2} and ALL not in set(data["workload"]), "one workload needs no mean over them"
    assert (data["low"].tolist(), data["high"].tolist()) == ([1.0, 1.5], [1.5, 2.0])


def test_one_seed_has_no_interval_and_one_configuration_no_rank(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,))
    assert rank_data(aggregate(tmp_path / "runs")).empty and pareto_data(aggregate(tmp_path / "runs")).empty
    write_run("b", {"gpt-5-mini": (1, 0)}, (0.25,), model_set="small")
    assert rank_data(aggregate(tmp_path / "runs"))[["low", "high"]].isna().all(axis=None)


def test_recorded_times_are_means_over_runs(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,), timed_secs=0.75)
    write_run("b", TWO, (0.5,), seed=1, timed_secs=0.25)
    tidy = _waiting(aggregate(tmp_path / "runs"), 6.0)
    assert tidy.runs.columns[-1] == "timed_secs"
    assert time_data(tidy)[["configuration", "runs", LLM, RUNS]].to_numpy().tolist() == [["paper", 2, 12.0, 0.5]]


def test_estimates_have_no_timed_runs(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,), timed_secs=0.75, measurement="estimated")
    (row,) = recorded_times(aggregate(tmp_path / "runs")).to_dict("records")
    assert (row["runs"], row[LLM]) == (1, 0.0) and math.isnan(row[RUNS])


def test_stand_ins_take_no_time_that_could_be_drawn(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,))
    tidy = aggregate(tmp_path / "runs")
    assert time_data(tidy).empty and recorded_times(tidy)[RUNS].isna().all()


def test_targets_are_not_mixed(write_run: WriteRun, write_counted: WriteRun, tmp_path: Path) -> None:
    for target in ("cpu", "gpu"):
        write_counted(f"a{target}", (0.5, None, 0.5), target=target)
        write_run(f"b{target}", {"gpt-5-mini": (1, 0)}, (0.25, 0.25, 0.25), model_set="small", target=target)
    tidy = aggregate(tmp_path / "runs")
    for data in (rank_data(tidy), course_data(tidy), share_data(tidy), pareto_data(tidy)):
        assert {name.rpartition("target=")[2] for name in data["configuration"]} == {"cpu", "gpu"}


def test_every_figure_draws_the_same_bytes_again(write_run: WriteRun, write_counted: WriteRun, tmp_path: Path) -> None:
    write_counted("a", (0.5, None, 0.25), prices=PRICES)
    write_run("b", {"gpt-5-mini": (1, 0)}, (0.25,) * 3, model_set="small")
    tidy = _waiting(aggregate(tmp_path / "runs"), 1.0)
    figures = {
        "pareto": (pareto_data, pareto_plot),
        "ranks": (rank_data, rank_plot),
        "course": (course_data, course_plot),
        "shares": (share_data, share_plot),
        "times": (time_data, time_plot),
    }
    for name, (data, plot) in figures.items():
        for place in ("one", "two"):
            (tmp_path / place).mkdir(exist_ok=True)
            plot(data(tidy), "stand-in LLMs", tmp_path / place / name)
        for suffix in ("png", "svg", "csv"):
            first = (tmp_path / "one" / f"{name}.{suffix}").read_bytes()
            assert first == (tmp_path / "two" / f"{name}.{suffix}").read_bytes()
        assert ">stand-in LLMs<" in (tmp_path / "one" / f"{name}.svg").read_text()
