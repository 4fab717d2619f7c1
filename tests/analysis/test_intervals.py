"""Bootstrap intervals of distributions with known means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from colt_pipeline.analysis.bootstrap import Estimate, stratified_mean


def _column(*values: float) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(values, dtype=float)[:, None]


def test_strata_have_equal_weight_whatever_their_number_of_rows() -> None:
    estimate = stratified_mean([_column(1, 1, 1, 1), _column(5, 7)])
    assert estimate.mean == [3.5]
    assert (estimate.low, estimate.high) == ([3.0], [4.0]), "only the second stratum varies: 5, 6 or 7"


def test_the_interval_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        strata = [rng.normal(loc=mean, size=(30, 1)) for mean in (0.0, 1.0, 5.0)]
        _, low, high = stratified_mean(strata)
        covered += low[0] <= 2.0 <= high[0]
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_the_interval_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(4)
    strata = [rng.exponential(size=(200, 1)), rng.normal(scale=2, size=(300, 1))]
    deviation = sum(rows.var() / len(rows) for rows in strata) ** 0.5 / 2
    estimate = stratified_mean(strata)
    assert (estimate.high - estimate.low)[0] == pytest.approx(2 * 1.96 * deviation, rel=0.06)


def test_points_of_a_row_stay_together_and_the_result_repeats() -> None:
    rows = np.random.default_rng(5).normal(size=(6, 1))
    twice = stratified_mean([np.hstack([rows, rows])])
    once = stratified_mean([rows])
    assert twice.low.tolist() == [once.low[0]] * 2 and twice.high.tolist() == [once.high[0]] * 2


def test_one_row_has_no_interval_and_none_no_mean() -> None:
    alone = stratified_mean([_column(1, 2), _column(3)])
    assert alone.mean == [2.25] and np.isnan(alone.low) and np.isnan(alone.high)
    nobody = stratified_mean([_column(1, 2), np.empty((0, 1))])
    assert all(np.isnan(values).all() for values in nobody)


def test_a_missing_value_is_missing_in_the_mean_at_its_point_only() -> None:
    estimate = stratified_mean([np.array([[np.nan, 1.0], [2.0, 3.0]])])
    assert np.isnan(estimate.mean[0]) and np.isnan(estimate.low[0]) and estimate.mean[1] == 2.0
    assert (estimate.low[1], estimate.high[1]) == (1.0, 3.0)


def test_logarithms_back_to_numbers() -> None:
    estimate = Estimate(*np.log([[2.0], [1.0], [4.0]])).exp()
    assert [float(values[0]) for values in estimate] == pytest.approx([2.0, 1.0, 4.0])
