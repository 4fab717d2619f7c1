"""Intervals: how often they cover the truth, what they are by hand, and when there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from colt_pipeline.analysis.intervals import Share, difference, share, stratified_mean, stratified_share

Array = np.ndarray[Any, np.dtype[np.float64]]

DESIGNS = [(1, 3), (2, 2), (2, 3), (4, 3), (5, 2), (5, 3)]
"""Workloads x seeds."""
DRAWS = 4000


def _column(*values: float) -> Array:
    return np.array(values, dtype=float)[:, None]


def _covered(low: Array, truth: float | Array, high: Array) -> float:
    return float(np.mean((low <= truth) & (truth <= high)))


def _logs(workloads: int, seeds: int, deviations: Sequence[float]) -> list[Array]:
    """Strata with the means 0, 1, 2, ...; a column is one experiment."""
    rng = np.random.default_rng(workloads * 10 + seeds)
    return [mean + rng.normal(scale=deviations[mean], size=(seeds, DRAWS)) for mean in range(workloads)]


@pytest.mark.parametrize(("workloads", "seeds"), DESIGNS)
def test_intervals_of_geometric_means_and_ratios_cover_them(workloads: int, seeds: int) -> None:
    estimate = stratified_mean(_logs(workloads, seeds, [1.0] * workloads)).exp()
    truth = math.exp((workloads - 1) / 2)
    assert _covered(estimate.low, truth, estimate.high) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(("workloads", "seeds"), DESIGNS)
def test_intervals_cover_nearly_as_often_if_workloads_are_not_equally_noisy(workloads: int, seeds: int) -> None:
    """The degrees of freedom are exact for equal deviations only; here every other one is four times as large."""
    estimate = stratified_mean(_logs(workloads, seeds, ([1.0, 4.0] * workloads)[:workloads]))
    assert _covered(estimate.low, (workloads - 1) / 2, estimate.high) >= 0.895


@pytest.mark.parametrize("sizes", [(3, 2), (5, 2, 2), (10, 2)])
def test_intervals_cover_if_a_workload_lacks_seeds(sizes: Sequence[int]) -> None:
    rng = np.random.default_rng(sum(sizes))
    estimate = stratified_mean([rng.normal(size=(size, DRAWS)) for size in sizes])
    assert _covered(estimate.low, 0.0, estimate.high) >= 0.95 - 0.01


@pytest.mark.parametrize(("workloads", "seeds"), DESIGNS)
@pytest.mark.parametrize("chance", [0.05, 0.5, 0.8, 0.97])
def test_intervals_of_shares_of_pairs_cover_them(workloads: int, seeds: int, chance: float) -> None:
    """Workloads differ in their chance, whose mean is estimated; some pairs are equal and count half."""
    rng = np.random.default_rng(7)
    chances = np.clip(chance + 0.1 * (np.arange(workloads) - (workloads - 1) / 2), 0, 1)
    strata = []
    for own in chances:
        won = (rng.random((seeds, DRAWS)) < own).astype(float)
        ties = rng.random((seeds, DRAWS)) < 0.1
        strata.append(np.where(ties, 0.5, won))
    estimate = stratified_share(strata)
    truth = float(np.mean(0.9 * chances + 0.05))
    assert _covered(estimate.low, truth, estimate.high) >= 0.95


@pytest.mark.parametrize("trials", [5, 30, 200])
@pytest.mark.parametrize("chance", [0.02, 0.4, 0.99])
def test_intervals_of_shares_cover_them(trials: int, chance: float) -> None:
    rng = np.random.default_rng(trials)
    ends = [share(hits, trials) for hits in range(trials + 1)]
    drawn = rng.binomial(trials, chance, size=DRAWS)
    low, high = (np.array([getattr(end, name) for end in ends])[drawn] for name in ("low", "high"))
    assert _covered(low, chance, high) >= 0.95 - 0.01, "exact: at least 95 %, less what the simulation may miss"


@pytest.mark.parametrize(("one", "other"), [(0.4, 0.47), (0.05, 0.05), (0.9, 0.2)])
@pytest.mark.parametrize("trials", [(30, 60), (150, 230)])
def test_intervals_of_differences_cover_them(one: float, other: float, trials: tuple[int, int]) -> None:
    rng = np.random.default_rng(11)
    hits = [rng.binomial(count, chance, size=1000) for count, chance in zip(trials, (one, other), strict=True)]
    found = [difference(share(int(a), trials[0]), share(int(b), trials[1])) for a, b in zip(*hits, strict=True)]
    low, high = (np.array([getattr(end, name) for end in found]) for name in ("low", "high"))
    assert _covered(low, one - other, high) >= 0.94


def test_strata_have_equal_weight_whatever_their_number_of_rows() -> None:
    estimate = stratified_mean([_column(1, 1, 1, 1), _column(5, 7)])
    assert estimate.mean == [3.5]
    freedom = (1 / 4 + 1 / 2) ** 2 / (1 / (4**2 * 3) + 1 / (2**2 * 1))  # of equal variances of 4 rows and of 2
    half = stats.t.ppf(0.975, freedom) * math.sqrt(0 / 4 + 2 / 2) / 2  # variances 0 and 2
    assert (estimate.low[0], estimate.high[0]) == pytest.approx((3.5 - half, 3.5 + half))


def test_points_are_estimated_apart() -> None:
    whole = stratified_mean([np.array([[1.0, 4.0], [2.0, 9.0], [6.0, 5.0]])])
    parts = [stratified_mean([_column(1, 2, 6)]), stratified_mean([_column(4, 9, 5)])]
    for values, own in zip(whole, zip(*parts, strict=True), strict=True):
        assert values.tolist() == pytest.approx([float(x[0]) for x in own])


@pytest.mark.parametrize(
    "strata",
    [[_column(3)], [_column(3), _column(4), _column(5)], [_column(1, 2), _column(3)], [_column(1, 2)]],
    ids=["one seed", "one seed of three workloads", "one seed of one workload", "two pairs"],
)
def test_too_few_rows_give_no_interval(strata: list[Array]) -> None:
    for estimate in (stratified_mean(strata), stratified_share([rows / 10 for rows in strata])):
        assert not np.isnan(estimate.mean).any()
        assert np.isnan(estimate.low).all() and np.isnan(estimate.high).all()


def test_equal_rows_give_no_interval_of_a_mean() -> None:
    """They would have the width 0, also where rounding leaves a tiny variance."""
    same = np.log([[0.1, 2.0], [0.1, 3.0], [0.1, 4.0]])
    estimate = stratified_mean([same, same])
    assert np.isnan(estimate.low).tolist() == [True, False]


@pytest.mark.parametrize("outcome", [0.0, 0.5, 1.0])
def test_equal_outcomes_still_leave_a_share_uncertain(outcome: float) -> None:
    estimate = stratified_share([_column(outcome, outcome)] * 2)
    assert estimate.mean == [outcome]
    assert estimate.high[0] - estimate.low[0] > 0.5
    assert 0 <= estimate.low[0] <= outcome <= estimate.high[0] <= 1


def test_shares_by_hand() -> None:
    """With all of n hits the lower end is 0.025^(1/n)."""
    assert share(5, 5) == pytest.approx(Share(1.0, 0.025 ** (1 / 5), 1.0))
    assert share(0, 3) == pytest.approx(Share(0.0, 0.0, 1 - 0.025 ** (1 / 3)))
    assert all(map(math.isnan, share(0, 0)))
    assert stratified_share([_column(1, 1, 1)] * 5).low[0] == pytest.approx(0.025 ** (1 / 15))


def test_a_difference_by_hand() -> None:
    one, other = Share(0.6, 0.5, 0.8), Share(0.3, 0.2, 0.5)
    low, high = 0.3 - math.hypot(0.1, 0.2), 0.3 + math.hypot(0.2, 0.1)
    assert difference(one, other) == pytest.approx(Share(0.3, low, high))


def test_strata_of_different_sizes_are_as_uncertain_as_their_variance() -> None:
    """Two and six trials of weight one half: (1/2 + 1/6) / 4 is the variance of six trials of weight 1/6."""
    uneven = stratified_share([_column(1, 1), _column(*[1] * 6)])
    assert uneven.low[0] == pytest.approx(0.025 ** (1 / 6))


def test_a_missing_value_or_an_empty_stratum_leaves_all_unknown() -> None:
    for strata in ([_column(1, math.nan, 3), _column(1, 2, 3)], [np.empty((0, 1)), _column(1, 2, 3)]):
        assert np.isnan(np.concatenate(stratified_mean(strata))).all()
        assert np.isnan(np.concatenate(stratified_share(strata))).all()
