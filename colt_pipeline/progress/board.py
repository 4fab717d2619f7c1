"""All runs of a command, their progress, and when they will finish."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence

from colt_pipeline.progress.standing import Followed, Standing

Clock = Callable[[], float]


class Pace:
    """How fast samples arrive.

    Replayed samples arrive faster than measured ones, and a run may begin with some, so only the second half of the
    time so far counts. Samples present at the beginning do not count at all.
    """

    def __init__(self, now: float, samples: int) -> None:
        self._times = [now]
        self._samples = [samples]

    def see(self, now: float, samples: int) -> None:
        """Record the current number of samples."""
        if samples != self._samples[-1]:
            self._times.append(now)
            self._samples.append(samples)

    def secs_until(self, left: int, now: float) -> float | None:
        """Seconds until `left` more samples have arrived; None if unknown."""
        first, last = self._times[0], self._times[-1]
        begin = bisect_right(self._times, (first + last) / 2) - 1
        came = self._samples[-1] - self._samples[begin]
        if not left:
            return 0.0
        if came <= 0:
            return None
        return max(0.0, (last - self._times[begin]) / came * left - (now - last))


class Board:
    """The runs of a command, as of the last `update`.

    Attributes:
        standings: Of each run, it and its parts.
    """

    def __init__(self, followed: Sequence[Followed], clock: Clock = time.monotonic) -> None:
        self._followed = followed
        self._clock = clock
        self._begin = clock()
        self.standings = [run.read() for run in followed]
        self._paces = [Pace(self._begin, run.samples) for run in self.runs]
        self._pace = Pace(self._begin, self._samples)

    @property
    def runs(self) -> list[Standing]:
        """The runs, without their parts."""
        return [run for run, *_ in self.standings]

    @property
    def finished(self) -> int:
        """Number of finished runs."""
        return sum(run.finished for run in self.runs)

    def update(self) -> list[Standing]:
        """Read what was written since the last update; return the runs that have finished since."""
        before = self.runs
        self.standings = [run.read() for run in self._followed]
        now = self._clock()
        for index, (run, earlier) in enumerate(zip(self.runs, before, strict=True)):
            if run.begun and not earlier.begun:
                self._paces[index] = Pace(now, run.samples)
            self._paces[index].see(now, run.samples)
        self._pace.see(now, self._samples)
        return [run for run, earlier in zip(self.runs, before, strict=True) if run.finished and not earlier.finished]

    def elapsed_secs(self) -> float:
        """Seconds since the command began."""
        return self._clock() - self._begin

    def secs_left(self) -> float | None:
        """Seconds until all runs have finished, counting failed ones as unfinished; None if unknown."""
        by_pace = self._pace.secs_until(sum(run.left for run in self.runs), self._clock())
        limits = [run.most_secs_left for run in self.runs if not run.finished]
        return _sooner(by_pace, None if None in limits else sum(secs for secs in limits if secs is not None))

    def secs_left_of(self, index: int) -> float | None:
        """Seconds until this run has finished."""
        run = self.runs[index]
        return _sooner(self._paces[index].secs_until(run.left, self._clock()), run.most_secs_left)

    @property
    def _samples(self) -> int:
        return sum(run.samples for run in self.runs)


def _sooner(secs: float | None, limit: float | None) -> float | None:
    """The smaller of two times, of which either may be unknown."""
    known = [each for each in (secs, limit) if each is not None]
    return min(known, default=None)
