"""Course alterations beside chance and the persistence of regressions, by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from colt_pipeline.analysis.course_alterations import alterations_and_chance, persistence, persistence_table
from colt_pipeline.analysis.tidy import aggregate
from tests.analysis.conftest import WriteRun

ALTERED_THRICE = {"gpt-5.2": (7, 3), "gpt-5-mini": (10, 0)}
MADE = {"gpt-5.2": (10, 9), "gpt-5-mini": (10, 4)}  # those of the largest model do not count
FIVE_BELOW = {
    **{"after_regression": 5, "after_regression_regressed": 1, "after_rise": 4, "after_rise_regressed": 2},
    **{"predicted": 10, "predicted_regressed": 4},
}
TWO_OF_TEN, THREE_OF_TEN, FIVE_OF_TEN = (0.0252, 0.5561), (0.0667, 0.6525), (0.1871, 0.8129)  # Clopper-Pearson


@pytest.mark.parametrize(
    ("rule", "chance"),
    [
        ("path_birth", 0.4 * 0.5),  # a regression, and half of the programs are below one
        ("path", math.nan),
        ("streak", 0.4**2 / 1.4),
        ("random", math.nan),
    ],
)
def test_each_rule_has_its_own_chance(write_run: WriteRun, tmp_path: Path, rule: str, chance: float) -> None:
    write_run("a", ALTERED_THRICE, (0.5,), made=MADE, journal={"course_rule": rule, **FIVE_BELOW})
    (row,) = alterations_and_chance(aggregate(tmp_path / "runs")).to_dict("records")
    assert (row["configuration"], row["rule"]) == ("COLT (stand-in)", rule)
    assert (row["programs"], row["regressions"], row["alterations"], row["rate"]) == (10, 4, 3, 0.3)
    assert (row["rate low"], row["rate high"]) == pytest.approx(THREE_OF_TEN, abs=5e-5)
    assert row["chance"] == pytest.approx(chance, nan_ok=True)


def test_the_chance_of_a_streak_is_how_often_the_rule_fires_on_independent_regressions(
    write_run: WriteRun, tmp_path: Path
) -> None:
    """If all programs regress, it fires at every second."""
    write_run("a", ALTERED_THRICE, (0.5,), made={"gpt-5-mini": (10, 10)}, journal={"course_rule": "streak"})
    assert alterations_and_chance(aggregate(tmp_path / "runs"))["chance"].tolist() == [0.5]


def test_a_rule_that_never_fires_has_a_rate_of_zero_without_an_interval(write_run: WriteRun, tmp_path: Path) -> None:
    calls = {"gpt-5.2": (7, 0), "gpt-5-mini": (10, 0)}
    write_run("a", calls, (0.5,), made=MADE, journal={"course_rule": "never", **FIVE_BELOW})
    (row,) = alterations_and_chance(aggregate(tmp_path / "runs")).to_dict("records")
    assert row["rate"] == 0 and all(math.isnan(row[name]) for name in ("rate low", "rate high", "chance"))


def test_a_rule_that_could_have_fired_but_did_not_has_an_interval(write_run: WriteRun, tmp_path: Path) -> None:
    calls = {"gpt-5.2": (7, 0), "gpt-5-mini": (10, 0)}
    write_run("a", calls, (0.5,), made=MADE, journal={"course_rule": "path", **FIVE_BELOW})
    (row,) = alterations_and_chance(aggregate(tmp_path / "runs")).to_dict("records")
    assert (row["rate"], row["rate low"]) == (0, 0) and row["rate high"] == pytest.approx(1 - 0.025**0.1)


def test_programs_are_pooled_over_workloads_and_seeds(write_run: WriteRun, tmp_path: Path) -> None:
    for name, workload, seed in (("a", "flux_conv", 0), ("b", "flux_conv", 1), ("c", "my_kernel", 0)):
        journal = {"course_rule": "path", **FIVE_BELOW}
        write_run(name, ALTERED_THRICE, (0.5,), workload=workload, seed=seed, made=MADE, journal=journal)
    tidy = aggregate(tmp_path / "runs")
    assert alterations_and_chance(tidy)[["programs", "regressions", "alterations"]].to_numpy().tolist() == [[30, 12, 9]]
    counts = persistence(tidy)[["after a regression: programs", "otherwise: programs"]]
    assert counts.to_numpy().tolist() == [[15, 12]]


def test_persistence_and_the_interval_of_the_difference_by_hand(write_run: WriteRun, tmp_path: Path) -> None:
    after = {"after_regression": 10, "after_regression_regressed": 2, "after_rise": 10, "after_rise_regressed": 5}
    write_run("a", ALTERED_THRICE, (0.5,), made=MADE, journal=after)
    (row,) = persistence(aggregate(tmp_path / "runs")).to_dict("records")
    assert (row["after a regression"], row["otherwise"], row["difference"]) == (0.2, 0.5, -0.3)
    assert (row["after a regression low"], row["after a regression high"]) == pytest.approx(TWO_OF_TEN, abs=5e-5)
    assert (row["otherwise low"], row["otherwise high"]) == pytest.approx(FIVE_OF_TEN, abs=5e-5)
    below = math.hypot(0.2 - TWO_OF_TEN[0], FIVE_OF_TEN[1] - 0.5)
    above = math.hypot(TWO_OF_TEN[1] - 0.2, 0.5 - FIVE_OF_TEN[0])
    assert (row["difference low"], row["difference high"]) == pytest.approx((-0.3 - below, -0.3 + above), abs=1e-4)


@pytest.mark.parametrize(
    "journal",
    [None, {**FIVE_BELOW, "after_rise": 0, "after_rise_regressed": 0}, {**FIVE_BELOW, "after_regression": 0}],
)
def test_there_is_nothing_to_compare_without_journals_or_without_either_kind(
    write_run: WriteRun, tmp_path: Path, journal: dict[str, int] | None
) -> None:
    write_run("a", ALTERED_THRICE, (0.5,), made=MADE, journal=journal)
    assert persistence_table(aggregate(tmp_path / "runs")).empty


def test_one_run_without_a_journal_leaves_a_configuration_out(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", ALTERED_THRICE, (0.5,), made=MADE, journal={"course_rule": "path", **FIVE_BELOW})
    write_run("b", ALTERED_THRICE, (0.5,), made=MADE, seed=1)
    tidy = aggregate(tmp_path / "runs")
    assert persistence(tidy).empty and pd.isna(alterations_and_chance(tidy)["chance"]).all()


def test_a_single_large_model_has_no_alterations(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", {"gpt-5.2": (5, 0)}, (0.5,), model_set="large", made={"gpt-5.2": (5, 2)})
    assert alterations_and_chance(aggregate(tmp_path / "runs")).empty
