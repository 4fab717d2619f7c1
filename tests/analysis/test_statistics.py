"""Statistics of samples and distributions with known results; the unoptimized program takes 1 s."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from colt_pipeline.analysis.bootstrap import interquartile_mean, stratified_interquartile_mean, stratified_mean
from colt_pipeline.analysis.searches import wins
from colt_pipeline.analysis.tables.statistics import (
    AREA,
    EFFICIENCY,
    IMPROVEMENT,
    KNOWN,
    MISSING,
    ONE_SEED,
    SHARE,
    area_under_curve,
    statistics,
)
from colt_pipeline.analysis.tidy import aggregate
from tests.analysis.conftest import AddRun, WriteRun

TWO = {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}


@pytest.fixture
def add(write_run: WriteRun) -> AddRun:
    """Write a run: search, workload, seed and latencies."""

    def add(search: str, workload: str, seed: int, *latencies: float | None, **changes: Any) -> None:
        name = f"{search}-{workload}-{seed}{changes.get('target', '')}"
        write_run(name, TWO, latencies, search=search, workload=workload, seed=seed, **changes)

    return add


@pytest.fixture
def table(tmp_path: Path) -> Callable[[], pd.DataFrame]:
    """The statistics of the runs written so far."""
    return lambda: statistics(aggregate(tmp_path / "runs"))


def row(table: pd.DataFrame, quantity: str, configuration: str) -> dict[Any, Any]:
    (found,) = table[(table["quantity"] == quantity) & (table["configuration"] == configuration)].to_dict("records")
    return found


def _column(*values: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(values, dtype=float)[:, None]


@pytest.mark.parametrize(
    ("values", "mean"),
    [
        ((0, 4, 6, 100), 5.0),  # the middle half
        ((100, 0, 6, 4), 5.0),
        ((7,), 7.0),
        ((1, 2), 1.5),
        ((0, 3, 5, 9, 100), (0.75 * 3 + 5 + 0.75 * 9) / 2.5),  # of five, the second and fourth count partially
        ((-1000, 1, 2, 3, 4, 5, 6, 7000), 3.5),
    ],
)
def test_an_interquartile_mean_by_hand(values: tuple[float, ...], mean: float) -> None:
    assert interquartile_mean(_column(*values)) == pytest.approx([mean])


def test_the_interquartile_mean_of_a_skewed_distribution_lies_where_theory_says_and_its_interval_covers_it() -> None:
    # The mean of the middle half of an exponential distribution: twice the integral of its quantiles -ln(1 - u).
    def antiderivative(u: float) -> float:
        return (1 - u) * math.log(1 - u) + u

    truth = 2 * (antiderivative(0.75) - antiderivative(0.25))
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        strata = [rng.exponential(size=(20, 1)) for _ in range(3)]
        _, low, high = stratified_interquartile_mean(strata)
        covered += low[0] <= truth <= high[0]
    assert interquartile_mean(rng.exponential(size=(200_000, 1))) == pytest.approx([truth], rel=0.01)
    assert covered / 200 == pytest.approx(0.95, abs=0.05)


def test_an_interquartile_mean_pools_strata_and_has_no_interval_with_one_seed() -> None:
    pooled = stratified_interquartile_mean([_column(0, 100), _column(4, 6)])
    assert pooled.mean == [5.0] and pooled.low <= 5.0 <= pooled.high
    alone = stratified_interquartile_mean([_column(0), _column(4), _column(6), _column(100)])
    assert alone.mean == [5.0] and np.isnan(alone.low) and np.isnan(alone.high)
    assert np.isnan(stratified_interquartile_mean([_column(1, np.nan), _column(2, 3)]).mean)
    assert np.isnan(stratified_interquartile_mean([_column(1), np.empty((0, 1))]).mean)


def test_equal_distributions_improve_on_each_other_half_the_time_and_a_shifted_one_always() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(200):
        pairs = [(rng.normal(size=(15, 1)), rng.normal(size=(15, 1))) for _ in range(4)]
        value, low, high = stratified_mean([wins(one, two) for one, two in pairs])
        covered += low[0] <= 0.5 <= high[0]
    assert covered / 200 == pytest.approx(0.95, abs=0.05)
    one = rng.normal(size=(2000, 1))
    assert stratified_mean([wins(one, rng.normal(size=one.shape))]).mean == pytest.approx([0.5], abs=0.05)
    assert stratified_mean([wins(one + 20, one)]) == ([1.0], [1.0], [1.0])


def test_the_area_under_a_step_curve_by_hand() -> None:
    nan = math.nan
    curves = np.log([[nan, 1.0, 4.0, 4.0], [16.0] * 4, [0.5, 2.0, nan, nan], [nan] * 4])
    # No program, then none faster, then halfway twice; the best from the start; a run that has ended; nothing.
    areas = area_under_curve(curves, np.full(4, math.log(16.0)))
    assert areas == pytest.approx([0.25, 1.0, nan, 0.0], nan_ok=True)
    assert np.isnan(area_under_curve(curves, np.zeros(4))).all(), "nothing was faster: there is no scale"


def test_every_quantity_of_two_searches_by_hand(add: AddRun, table: Callable[[], pd.DataFrame]) -> None:
    for seed in (0, 1):
        add("colt", "flux_conv", seed, 0.5, 0.0625)  # speedups 2 and 16
        add("colt", "my_kernel", seed, 0.25, 0.25)
        add("paper", "flux_conv", seed, 0.5, 0.25)
        add("paper", "my_kernel", seed, None, (0.25, 0.5)[seed])
    found = table()
    shares = {name: row(found, SHARE, name) for name in ("colt", "paper")}
    assert shares["colt"]["value"] == 1.0 and (shares["colt"]["low"], shares["colt"]["high"]) == (1.0, 1.0)
    assert shares["paper"]["value"] == pytest.approx((0.25 + 0.5) / 2), "the middle half of 1/4, 1/4, 1/2 and 1"
    assert row(found, AREA, "colt")["value"] == pytest.approx(((1 / 4 + 1) / 2 + 1) / 2)
    assert row(found, AREA, "paper")["value"] == pytest.approx(((1 / 4 + 1 / 2) / 2 + (1 / 2 + 1 / 4) / 2) / 2)
    assert row(found, EFFICIENCY, "colt")["value"] == pytest.approx(8 / 2)  # geometric means: 16 and 4; two samples
    better = row(found, IMPROVEMENT, "colt")
    assert (better["over"], better["value"], better["runs"]) == ("paper", pytest.approx(0.875), 4)
    assert better["interval"] == KNOWN and better["low"] == 0.75 and better["high"] == 1.0


def test_each_pair_of_model_sets_stands_once_and_one_seed_leaves_the_intervals_unknown(
    write_run: WriteRun, table: Callable[[], pd.DataFrame]
) -> None:
    for name, model_set, secs in (("a", "2", 0.5), ("b", "mine", 0.25), ("c", "other", 0.125)):
        write_run(name, TWO, (secs,), model_set=model_set)
    found = table()
    pairs = found[found["quantity"] == IMPROVEMENT]
    assert len(pairs) == 3 and set(pairs["value"]) == {0.0}
    assert set(found["interval"]) == {ONE_SEED} and found[["low", "high"]].isna().all(axis=None)


def test_a_missing_run_leaves_values_unknown_and_is_told_from_a_single_seed(
    add: AddRun, table: Callable[[], pd.DataFrame]
) -> None:
    for seed in (0, 1):
        add("colt", "flux_conv", seed, 0.5)
        add("colt", "my_kernel", seed, 0.5)
        add("paper", "flux_conv", seed, 0.5)
    found = table()
    missing = found[(found["configuration"] == "paper") | found["over"].notna()]
    assert missing["value"].isna().all() and set(missing["interval"]) == {MISSING}
    assert row(found, SHARE, "colt")["interval"] == KNOWN


def test_an_exhausted_search_is_divided_by_the_samples_it_took(add: AddRun, table: Callable[[], pd.DataFrame]) -> None:
    add("colt", "flux_conv", 0, 0.5, 0.25, 0.25, 0.25)
    add("paper", "flux_conv", 0, 0.5, stopped="exhausted")
    found = table()
    assert row(found, EFFICIENCY, "colt")["value"] == pytest.approx(1.0)
    assert row(found, EFFICIENCY, "paper")["value"] == pytest.approx(2.0)


def test_a_search_without_samples_leaves_its_values_unknown_and_the_others_known(
    add: AddRun, table: Callable[[], pd.DataFrame]
) -> None:
    add("colt", "flux_conv", 0, 0.5, 0.25)
    add("evolutionary", "flux_conv", 0, stopped="exhausted")
    found = table()
    assert row(found, EFFICIENCY, "colt")["value"] == pytest.approx(4 / 2)
    assert row(found, SHARE, "colt")["value"] == pytest.approx(1)
    for quantity in (SHARE, EFFICIENCY):
        assert math.isnan(row(found, quantity, "evolutionary")["value"])
        assert row(found, quantity, "evolutionary")["interval"] == MISSING


def test_targets_are_not_compared_with_each_other(add: AddRun, table: Callable[[], pd.DataFrame]) -> None:
    for target in ("cpu", "gpu"):
        for search in ("colt", "paper"):
            add(search, "flux_conv", 0, 0.5, target=target)
    found = table()
    pairs = found.loc[found["quantity"] == IMPROVEMENT, ["configuration", "over"]]
    assert [tuple(pair) for pair in pairs.to_numpy()] == [
        (f"colt, target={target}", f"paper, target={target}") for target in ("cpu", "gpu")
    ]


def test_the_table_repeats(add: AddRun, table: Callable[[], pd.DataFrame]) -> None:
    for seed in range(3):
        add("colt", "flux_conv", seed, 0.5 / (seed + 1))
        add("paper", "flux_conv", seed, 0.5)
    pd.testing.assert_frame_equal(table(), table())
