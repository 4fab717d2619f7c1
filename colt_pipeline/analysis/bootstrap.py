"""A mean over workloads, and how far it could lie elsewhere with other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

RESAMPLES = 2000
_QUANTILES = (0.025, 0.975)


class Estimate(NamedTuple):
    """A mean and its 95 % interval, all of shape (points,)."""

    mean: Array
    low: Array
    high: Array

    def exp(self) -> Estimate:
        """Of logarithms: the geometric mean and its interval."""
        return Estimate(*map(np.exp, self))


def stratified_mean(strata: Sequence[Array]) -> Estimate:
    """The mean over strata of their means, with the percentile interval of a bootstrap that resamples in each stratum.

    Rows of a stratum are resampled whole, so what stands in one row stays together: pairs, and the points of a curve.
    With n rows the interval is too narrow by about sqrt((n - 1) / n), as bootstrap intervals are.

    Args:
        strata: Per stratum (a workload) an array (rows, points); a row is a seed.

    Returns:
        NaN at points where a value is NaN or a stratum is empty. The interval is NaN (unknown) also where a stratum
        has a single row, for one seed does not say how far seeds differ.
    """
    points = strata[0].shape[1]
    if not all(len(rows) for rows in strata):
        return Estimate(*np.full((3, points), np.nan))
    mean = np.mean([rows.mean(axis=0) for rows in strata], axis=0)
    if min(map(len, strata)) == 1:
        return Estimate(mean, *np.full((2, points), np.nan))
    rng = np.random.default_rng(0)
    resampled = np.zeros((RESAMPLES, points))
    for rows in strata:
        resampled += rows[rng.integers(len(rows), size=(RESAMPLES, len(rows)))].mean(axis=1)
    low, high = np.quantile(resampled / len(strata), _QUANTILES, axis=0)
    return Estimate(mean, low, high)
