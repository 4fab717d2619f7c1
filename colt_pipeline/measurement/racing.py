"""A race: kernels run once warm, those that are clearly slower than the best stop, and the others run on in turn.

A kernel is clearly slower if it takes longer than the best one by more than the spread of run times explains. The
spread is that of repeated runs on this device, whatever causes it. Kernels that are close take turns, so that a drift
of the machine affects them alike, and each round doubles their runs.

The first warm run still takes longer than later ones, often by a quarter. Where it is all there is, it is corrected by
what has been seen of that, and otherwise it is not compared.

The best kernel of earlier races takes part, too, while its process is alive: the others are compared with what it takes
now, not with what it took then.

Everything here depends on the run times alone; no clock is read, so tests need no kernel.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from colt_pipeline.config.schema import MeasureConfig
from colt_pipeline.measurement.timing import enough
from colt_pipeline.records import Measurement, StopReason

ASSUMED_SPREAD = 0.1
_ASSUMED_RUNS = 8
"""What is assumed before any spread has been seen, and as how many runs that counts."""
ASSUMED_SETTLING = 0.2
_ASSUMED_KERNELS = 4
"""The same of the logarithm of a first warm run over the median of later ones, and as how many kernels it counts."""
_MEDIAN_DEVIATION = statistics.NormalDist().inv_cdf(0.75)
"""Of a normal distribution with standard deviation 1."""
_KEPT = 64
"""Kernels whose runs say how large the spread is."""
_PACE_RUNS = 2


class Racer(Protocol):
    """A kernel whose process lives from run to run."""

    def enter(self) -> Measurement:
        """Its first runs: a cold one, then warm ones, checked."""
        ...

    def again(self, repeats: int) -> Measurement:
        """Further warm runs."""
        ...

    def leave(self) -> None:
        """End its process; after an error there is none."""
        ...


@dataclass
class _Lane:
    """A kernel in one race."""

    racer: Racer
    entered: Measurement | None = None
    cold_secs: float = math.inf
    run_secs: list[float] = field(default_factory=list)
    failed: Measurement | None = None
    stop: StopReason | None = None

    @property
    def alive(self) -> bool:
        """Whether its process is."""
        return self.failed is None and self.stop != "slower"

    @property
    def later_secs(self) -> list[float]:
        """Warm runs without the first, which does not count as one in the race that a kernel did not enter."""
        return self.run_secs if self.entered is None else self.run_secs[1:]

    def compared(self, settling: float) -> tuple[float, int]:
        """The time to compare, and of how many runs it is.

        Args:
            settling: see `settling_seen`.
        """
        if len(self.later_secs) > 1:
            return statistics.median(self.later_secs), len(self.later_secs)
        # What disturbs one run rarely disturbs the other.
        first_secs = min(self.cold_secs, self.run_secs[0])
        return min(first_secs, *self.later_secs) if self.later_secs else first_secs * math.exp(-settling), 1

    def enter(self) -> None:
        self.entered = self.racer.enter()
        cold_secs, warm_secs = self.entered.run_secs[:1], self.entered.run_secs[1:]
        if self._took(replace(self.entered, run_secs=warm_secs)):
            [self.cold_secs], self.run_secs = cold_secs, list(warm_secs)

    def again(self, repeats: int) -> None:
        further = self.racer.again(repeats)
        if self._took(further):
            self.run_secs.extend(further.run_secs)

    def _took(self, measured: Measurement) -> bool:
        if measured.error is not None:
            self.failed = measured
        return self.failed is None

    def result(self) -> Measurement:
        assert self.entered is not None
        return self.failed or replace(self.entered, run_secs=tuple(self.run_secs), stop=self.stop)


class Races:
    """Measures one batch of kernels after the other."""

    def __init__(self, settings: MeasureConfig) -> None:
        """Nothing has been seen yet.

        Args:
            settings: see ``conf/measure``.
        """
        self._settings = settings
        self._seen: deque[list[float]] = deque(maxlen=_KEPT)
        self._settled: deque[float] = deque(maxlen=_KEPT)
        self._pacemaker: Racer | None = None
        """The best kernel so far."""

    def run(self, racers: Sequence[Racer], best_secs: float) -> list[Measurement]:
        """Measure kernels that have not run before.

        Args:
            racers: the kernels.
            best_secs: the best latency so far, measured at some time; infinite if there is none.

        Returns:
            A measurement of each, in order. ``slower``: it was clearly slower than the best.
        """
        lanes, pace = [_Lane(racer) for racer in racers], self._pace(best_secs)
        for number, lane in enumerate(lanes, start=1):
            lane.enter()
            self._stop_slower([*pace, *lanes[:number]], best_secs)
        repeats, first = 1, 0
        while running := self._running(lanes):
            pace = [lane for lane in pace if lane.alive]
            turn = [*pace, *running]
            first = (first + 1) % len(turn)
            for lane in (*turn[first:], *turn[:first]):
                lane.again(max(1, min(repeats, self._settings.max_repeats - len(lane.run_secs))))
            self._stop_slower([*pace, *lanes], best_secs)
            repeats *= 2
        everyone = [*pace, *lanes]
        self._seen.extend(lane.later_secs for lane in everyone if len(lane.later_secs) > 1)
        settled = [lane for lane in lanes if len(lane.later_secs) > 1]
        self._settled.extend(math.log(lane.run_secs[0] / statistics.median(lane.later_secs)) for lane in settled)
        alive = [lane for lane in everyone if lane.alive]
        best = min(alive, key=lambda lane: lane.compared(0.0), default=None)
        for lane in alive:
            if lane is not best:
                lane.racer.leave()
        self._pacemaker = best.racer if best is not None else None
        return [lane.result() for lane in lanes]

    def _pace(self, best_secs: float) -> list[_Lane]:
        """The best kernel so far, if it still runs."""
        if self._pacemaker is None:
            return []
        lane = _Lane(self._pacemaker)
        # One run more heats the caches, and a turn has the time limit of a first one, which is of two runs.
        fits = (1 + _PACE_RUNS) * best_secs < self._settings.run_timeout_secs
        lane.again(_PACE_RUNS if fits else 1)
        return [lane] if lane.alive else []

    def _stop_slower(self, lanes: Sequence[_Lane], best_secs: float) -> None:
        """Stop those that are clearly slower than the best of them, or than what was the best at another time."""
        alive = [lane for lane in lanes if lane.alive]
        if not alive:
            return
        settling = settling_seen(self._settled)
        spread = spread_seen([*self._seen, *(lane.later_secs for lane in alive)])
        best, best_runs = min(lane.compared(settling) for lane in alive)
        for lane in alive:
            if lane.stop is not None or lane.entered is None:
                continue
            secs, runs = lane.compared(settling)
            limit = best * clear_ratio(spread, runs, best_runs, self._settings)
            if secs > limit or 0 < self._settings.slower * best_secs < secs:
                lane.stop = "slower"
                lane.racer.leave()

    def _running(self, lanes: Sequence[_Lane]) -> list[_Lane]:
        """Those that need further runs; the others get their reason to stop."""
        running = [lane for lane in lanes if lane.alive and lane.stop is None]
        settings = self._settings
        if len(running) > 1:  # a steady time does not say which of them is the best
            settings = replace(settings, max_spread=-1.0)
        for lane in running:
            lane.stop = enough(lane.run_secs, lane.cold_secs + sum(lane.run_secs), settings)
        return [lane for lane in running if lane.stop is None]


def spread_seen(kernels: Iterable[Sequence[float]]) -> float:
    """Standard deviation of the logarithm of a run time, from repeated runs of several kernels.

    It is estimated from the median deviation, so that single disturbed runs count for little.

    Args:
        kernels: run times of each.
    """
    deviations = [_MEDIAN_DEVIATION * ASSUMED_SPREAD] * _ASSUMED_RUNS
    for run_secs in filter(None, kernels):
        middle, free = statistics.median(run_secs), len(run_secs) - 1
        if free:
            deviations += [abs(math.log(secs / middle)) * math.sqrt(len(run_secs) / free) for secs in run_secs]
    return statistics.median(deviations) / _MEDIAN_DEVIATION


def settling_seen(kernels: Iterable[float]) -> float:
    """The logarithm of a first warm run over the median of later ones, which nine of ten kernels stay below.

    It is known of those alone that ran on, which are those with a fast first run, so their median would be too low.
    """
    return max(0.0, statistics.quantiles([*kernels, *[ASSUMED_SETTLING] * _ASSUMED_KERNELS], n=10)[-1])


def clear_ratio(spread: float, runs: int, best_runs: int, settings: MeasureConfig) -> float:
    """How many times the best time is clearly slower: ``measure.racing`` standard errors, at least `max_spread`."""
    return math.exp(max(settings.racing * spread * math.sqrt(1 / runs + 1 / best_runs), settings.max_spread))
