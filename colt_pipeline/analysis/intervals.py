"""Means and shares over workloads and seeds, with 95 % intervals that cover as often as they say, or with none.

Means: Student's t on the variance of a stratified mean (Cochran, Sampling Techniques, 1977, section 5.4), one stratum
per workload. Shares: Clopper and Pearson (Biometrika 26, 1934). Differences of shares: the two intervals combined after
Newcombe (Statistics in Medicine 17, 1998) and Zou and Donner (Statistics in Medicine 27, 2008). All treat strata,
rows and trials as independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

Array = np.ndarray[Any, np.dtype[np.float64]]

_TAIL = 0.025
_PLACES = 12
"""Decimal places to which versions of SciPy agree, so that files made with either have the same bytes."""
_FEWEST = 3
"""Rows below which an interval would be a guess: with two, t has a single degree of freedom."""


class Estimate(NamedTuple):
    """A mean or a share and its 95 % interval, all of shape (points,); NaN where the interval is unknown."""

    mean: Array
    low: Array
    high: Array

    def exp(self) -> Estimate:
        """From estimates of logarithms, the geometric mean and its interval."""
        return Estimate(*map(np.exp, self))


class Share(NamedTuple):
    """A share of independent trials and its 95 % interval; all NaN without trials."""

    share: float
    low: float
    high: float


def stratified_mean(strata: Sequence[Array]) -> Estimate:
    """The mean of the strata's means, and Student's t interval with one degree of freedom per row beyond the first.

    The degrees of freedom are those of equally noisy strata, and fewer if sizes differ; where one stratum is four times
    as noisy as the others, 95 % mean 89 to 92 % (NOTES.md).

    Args:
        strata: per stratum (a workload) an array of shape (rows, points); a row is a seed.

    Returns:
        NaN at points where a value is NaN or a stratum is empty. The interval alone is NaN if a stratum has a single
        row, with fewer than three rows in all, and where the rows of each stratum are equal.
    """
    mean = _mean(strata)
    if not repeated(strata):
        return Estimate(mean, _unknown(strata), _unknown(strata))
    variance = sum(rows.var(axis=0, ddof=1) / len(rows) for rows in strata) / len(strata) ** 2
    freedom = _freedom([len(rows) for rows in strata])
    differ = np.any([np.ptp(rows, axis=0) > 0 for rows in strata], axis=0)  # rounding may leave equal rows a variance
    half = np.where(differ, round(float(special.stdtrit(freedom, 1 - _TAIL)), _PLACES) * np.sqrt(variance), np.nan)
    return Estimate(mean, mean - half, mean + half)


def stratified_share(strata: Sequence[Array]) -> Estimate:
    """Like `stratified_mean`, for outcomes from 0 to 1, with the interval of a share.

    Strata have equal weight. If their sizes differ, the interval is that of as many trials as would give a share of
    the same variance.
    """
    mean = _mean(strata)
    if not repeated(strata):
        return Estimate(mean, _unknown(strata), _unknown(strata))
    trials = len(strata) ** 2 / sum(1 / len(rows) for rows in strata)
    return Estimate(mean, *_clopper_pearson(mean * trials, trials))


def share(hits: int, trials: int) -> Share:
    """The share of hits among independent trials."""
    if not trials:
        return Share(math.nan, math.nan, math.nan)
    low, high = _clopper_pearson(np.array([hits]), trials)
    return Share(hits / trials, float(low[0]), float(high[0]))


def difference(one: Share, other: Share) -> Share:
    """`one` - `other`, of independent trials."""
    middle = one.share - other.share
    below = math.hypot(one.share - one.low, other.high - other.share)
    above = math.hypot(one.high - one.share, other.share - other.low)
    return Share(middle, middle - below, middle + above)


def repeated(strata: Sequence[Array]) -> bool:
    """Whether there are enough rows for an interval."""
    sizes = [len(rows) for rows in strata]
    return min(sizes) > 1 and sum(sizes) >= _FEWEST


def _freedom(sizes: Sequence[int]) -> float:
    """Satterthwaite's degrees of freedom of equally noisy strata: of equal sizes, one per row beyond the first."""
    total = sum(1 / size for size in sizes)
    return round(total**2 / sum(1 / (size**2 * (size - 1)) for size in sizes), _PLACES)


def _clopper_pearson(hits: Array, trials: float) -> tuple[Array, Array]:
    """The exact interval of a share; between whole numbers of hits it is interpolated by the beta distribution."""
    low = np.round(special.betaincinv(hits, trials - hits + 1, _TAIL), _PLACES)  # NaN at 0 hits
    high = np.round(special.betaincinv(hits + 1, trials - hits, 1 - _TAIL), _PLACES)  # NaN if all are hits
    return np.where(hits == 0, 0.0, low), np.where(hits == trials, 1.0, high)


def _mean(strata: Sequence[Array]) -> Array:
    if not all(map(len, strata)):
        return _unknown(strata)
    mean: Array = np.mean([rows.mean(axis=0) for rows in strata], axis=0)
    return mean


def _unknown(strata: Sequence[Array]) -> Array:
    return np.full(strata[0].shape[1], np.nan)
