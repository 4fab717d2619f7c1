"""Means over workloads and seeds, and how much they might differ with other seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

RESAMPLES = 2000
_QUANTILES = (0.025, 0.975)


class Estimate(NamedTuple):
    """A mean of either kind and its 95 % interval, all of shape (points,)."""

    mean: Array
    low: Array
    high: Array

    def exp(self) -> Estimate:
        """From estimates of logarithms, the geometric mean and its interval."""
        return Estimate(*map(np.exp, self))


def stratified_mean(strata: Sequence[Array]) -> Estimate:
    """The mean of the strata's means, with the percentile interval of a bootstrap that resamples within each stratum.

    Rows of a stratum are resampled as a whole, which keeps pairs and the points of a curve together. With n rows the
    interval is too narrow by a factor of about sqrt((n - 1) / n), as is usual for bootstrap intervals.

    Args:
        strata: per stratum (a workload) an array of shape (rows, points); a row is a seed.

    Returns:
        NaN at points where a value is NaN or a stratum is empty. The interval is also NaN (unknown) if a stratum has a
        single row, because one seed does not show how much seeds differ.
    """
    mean = np.mean([rows.mean(axis=0) for rows in strata], axis=0) if _complete(strata) else _unknown(strata)
    if not _repeated(strata):
        return Estimate(mean, _unknown(strata), _unknown(strata))
    means = sum(rows.mean(axis=1) for rows in _resampled(strata)) / len(strata)
    return Estimate(mean, *np.quantile(means, _QUANTILES, axis=0))


def stratified_interquartile_mean(strata: Sequence[Array]) -> Estimate:
    """Like `stratified_mean`, but for the interquartile mean over all rows of all strata; see `interquartile_mean`."""
    mean = interquartile_mean(np.concatenate(strata)) if _complete(strata) else _unknown(strata)
    if not _repeated(strata):
        return Estimate(mean, _unknown(strata), _unknown(strata))
    means = interquartile_mean(np.concatenate(list(_resampled(strata)), axis=1))
    return Estimate(mean, *np.quantile(means, _QUANTILES, axis=0))


def interquartile_mean(rows: Array) -> Array:
    """The mean of the middle half along the second to last axis; a row that straddles a quartile counts partially.

    NaN if a value is NaN.
    """
    count = rows.shape[-2]
    ranks = np.arange(count)
    inside = np.minimum(ranks + 1, 0.75 * count) - np.maximum(ranks, 0.25 * count)
    weights = np.clip(inside, 0, 1) / (0.5 * count)
    means: Array = np.moveaxis(np.sort(rows, axis=-2), -2, -1) @ weights  # NaN sorts last, and 0 * NaN is NaN
    return means


def _complete(strata: Sequence[Array]) -> bool:
    return all(len(rows) for rows in strata)


def _repeated(strata: Sequence[Array]) -> bool:
    return all(len(rows) > 1 for rows in strata)


def _unknown(strata: Sequence[Array]) -> Array:
    return np.full(strata[0].shape[1], np.nan)


def _resampled(strata: Sequence[Array]) -> Iterator[Array]:
    """Per stratum, its rows resampled: (RESAMPLES, rows, points)."""
    rng = np.random.default_rng(0)
    for rows in strata:
        yield rows[rng.integers(len(rows), size=(RESAMPLES, len(rows)))]
