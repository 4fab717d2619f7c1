"""How long to time a kernel: enough runs for a steady median, within the budget, and few for a clear loser.

Everything here depends on the run times alone; no clock is read, so tests need no kernel.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from colt_pipeline.config.schema import MeasureConfig
from colt_pipeline.records import StopReason

Timer = Callable[[int, int], Sequence[float]]
"""(number, repeat) -> `repeat` run times in seconds, each the mean of `number` runs."""


def time_kernel(timer: Timer, settings: MeasureConfig, best_secs: float | None) -> tuple[tuple[float, ...], StopReason]:
    """Time a kernel.

    Args:
        timer: runs the kernel.
        settings: see ``conf/measure``.
        best_secs: the best latency so far, if any.

    Returns:
        Run times in seconds, and why timing stopped. ``slower``: the single warm run took more than `settings.slower`
        times `best_secs`; ``steady``: the spread is within `settings.max_spread`; ``repeats`` and ``budget``: a limit
        was reached first. Half of a run's time limit counts as such a limit, so that a slow kernel yields a latency
        rather than a timeout.

    Raises:
        ValueError: the timer reports an impossible time.
    """
    cold, first, number = first_runs(timer, settings)
    if best_secs is not None and settings.slower and first > settings.slower * best_secs:
        return (first,), "slower"
    run_secs = [first] if number == 1 else []
    spent = cold + first
    while True:
        stop = enough(run_secs, spent, settings)
        if stop is not None:
            return tuple(run_secs), stop
        missing = settings.min_repeats - len(run_secs)
        room = settings.max_repeats - len(run_secs)
        results = times(timer(number, missing if missing > 0 else min(settings.min_repeats, room)))
        run_secs.extend(results)
        spent += number * sum(results)


def first_runs(timer: Timer, settings: MeasureConfig) -> tuple[float, float, int]:
    """The times of the first two runs, and how many runs a timed one should consist of.

    The first is cold: it starts threads, loads code and touches memory, and takes up to 1.6 times as long as a warm run
    of 10 ms.
    """
    cold, first = (times(timer(1, 1))[0] for _ in range(2))
    # A flush precedes each timed run, so repetitions of the kernel within a run would be warm.
    return cold, first, 1 if settings.cache_flush_mib else max(1, math.ceil(settings.min_repeat_secs / first))


def spread(run_secs: Sequence[float]) -> float:
    """Interquartile range / median."""
    if len(run_secs) == 1:
        return 0.0
    # Not with NumPy, whose first quantile imports masked arrays: 70 ms in each fork.
    low, middle, high = statistics.quantiles(run_secs, n=4, method="inclusive")
    return (high - low) / middle


def times(results: Sequence[float]) -> Sequence[float]:
    """What a timer returned.

    Raises:
        ValueError: it is impossible.
    """
    if not all(math.isfinite(t) and t > 0 for t in results):
        raise ValueError(f"the device reports the run times {list(results)}")
    return results


def enough(run_secs: Sequence[float], spent_secs: float, settings: MeasureConfig) -> StopReason | None:
    """Why no further run is needed; None if one is.

    Args:
        run_secs: of the warm runs so far.
        spent_secs: how long all runs took.
        settings: see ``conf/measure``.
    """
    fewest = len(run_secs) >= settings.min_repeats
    if fewest and spread(run_secs) <= settings.max_spread:
        return "steady"
    if run_secs and spent_secs + settings.min_repeats * run_secs[-1] > settings.run_timeout_secs / 2:
        return "budget"
    if not fewest:
        return None
    if len(run_secs) >= settings.max_repeats:
        return "repeats"
    return "budget" if spent_secs >= settings.budget_secs else None
