"""What may be concluded from a ratio of speeds, or from a difference of shares; nothing else concludes anything."""

from __future__ import annotations

import math

FASTER, SLOWER = "faster", "slower"
WITHIN_NOISE = "within noise"
UNCERTAIN = "not distinguishable"
NOISE_UNKNOWN = "noise unknown"
MISSING = "a run is missing or found nothing: no verdict"
ESTIMATED = "estimated: no verdict"
ONE_SEED = "one seed: no verdict"
FEW_SEEDS = "too few seeds: no verdict"
PERSIST, RARER = "regressions persist", "regressions are rarer after one"
NOT_PERSISTENT = "no persistence shown"


def verdict(ratio: float, low: float, high: float, *, floor: float, seeds: int, estimated: bool) -> str:
    """The verdict on whatever is `ratio` times as fast as another.

    Reasons against a verdict come first, those that more runs cannot remove before those that they can. A ratio within
    the noise needs no interval to be called so.

    Args:
        ratio: a geometric mean over pairs of runs; NaN if a run is missing or found nothing.
        low: lower end of its 95 % interval; NaN if unknown.
        high: upper end.
        floor: the noise of this mean, see `noise.mean_floor`; NaN if unknown.
        seeds: the fewest pairs of any workload.
        estimated: whether latencies were computed; no device has confirmed them.

    Returns:
        FASTER or SLOWER only if the interval excludes 1 and the ratio exceeds the floor.
    """
    if math.isnan(ratio):
        return MISSING
    if estimated:
        return ESTIMATED
    if seeds == 1:
        return ONE_SEED
    if ratio == 1 or max(ratio, 1 / ratio) <= floor:  # 1 is below any floor, known or not
        return WITHIN_NOISE
    if math.isnan(low):
        return FEW_SEEDS
    if low <= 1 <= high:
        return UNCERTAIN
    if math.isnan(floor):
        return NOISE_UNKNOWN
    return FASTER if ratio > 1 else SLOWER


def persistence_verdict(low: float, high: float, *, seeds: int, estimated: bool) -> str:
    """The verdict on whether programs regress more often after a regression.

    Args:
        low: lower end of the 95 % interval of the difference of the shares that regress.
        high: upper end.
        seeds: distinct seeds of the runs.
        estimated: whether a latency was computed.

    Returns:
        PERSIST or RARER only if the interval excludes 0.
    """
    if low <= 0 <= high:
        return NOT_PERSISTENT
    if estimated:
        return ESTIMATED
    if seeds == 1:
        return ONE_SEED
    return PERSIST if low > 0 else RARER
