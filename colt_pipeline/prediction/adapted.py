"""A pretrained cost model that adapts to the workload: trees of other workloads, corrected by a Gaussian process.

What the trees get wrong is alike for programs whose decisions are alike, so a Gaussian process over the decisions
learns it from a few programs, where trees over TVM's features need hundreds. It also knows how little it knows: the
spread of its prediction is that of programs never seen, and shrinks near those that were measured.

Predictions are rounded, because the last digits of linear algebra depend on the processor, and journals must not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

from colt_pipeline.prediction.pretrained import Experience, PretrainedModel, trained_on
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.space import Program, Space
from colt_pipeline.space.program import Point

_LENGTH = 1.5
"""Root mean square distance of decisions, in doublings, at which programs are about half alike."""
_NOISE = 0.3
"""Variance of the noise relative to that of what is learned."""
_PRIOR = 0.5
_TRUST = 0.25
"""What is predicted for other workloads counts with a factor: its mean before anything was measured, and its relative
variance. Where other workloads teach nothing about this one, the factor falls to 0."""
_DIGITS = 4
_SLOWEST = -4.0
"""Lowest label that is learned from, so that a failure says no more than a slow program."""
_MOST = 512
"""Programs whose predictions serve to predict those of sketches."""

Numbers = npt.NDArray[np.float64]


class _HasPoint(Protocol):
    @property
    def point(self) -> Point: ...


class AdaptedModel(PretrainedModel):
    """Scores programs like `PretrainedModel`, but its trees never see this workload; their errors are learned apart."""

    def __init__(self, space: Space, warmup_samples: int, others: Sequence[Experience], stopwatch: Stopwatch) -> None:
        """See `PretrainedModel`."""
        super().__init__(space, warmup_samples, others, stopwatch)
        self._process: _Process | None = None
        """None if something was measured since it was learned."""

    def score(self, programs: Sequence[Program], rng: np.random.Generator) -> list[float]:
        """Predicted scores, in order; uniform noise from `rng` until the model is warm."""
        if not self.warm:
            return [float(x) for x in rng.uniform(size=len(programs))]
        # NumPy's exp differs in the last digit where there is AVX-512, and journals must not.
        return [math.exp(x) for x in self._predicted(programs)]

    def prospects(self, programs: Sequence[Program], optimism: float) -> Callable[[Sequence[int]], list[float]]:
        """What each program may score: its prediction, plus `optimism` standard deviations of what that may be off.

        Returns:
            A function of the indices of those programs that will be measured anyway: they tell about those near them.
        """
        points, trends = [p.point for p in programs], self._of_others(programs)
        predicted, spread = self._learned().mean(points, trends), self._learned().spread(points, trends)
        return lambda chosen: [float(x) for x in np.round(predicted + optimism * spread(chosen), _DIGITS)]

    def screen(self, sketches: Sequence[_HasPoint], programs: Sequence[Program]) -> list[float]:
        """Rough scores of programs that were not made, from their decisions alone.

        The trees cannot see them, so what these would predict is learned from `programs` and those that were measured.
        """
        points = [sketch.point for sketch in sketches]
        known = list({program.key: program for program in (*self._measured, *programs)}.values())[-_MOST:]
        trees = _Process([program.point for program in known], self._of_others(known), noise=0.05)
        return [float(x) for x in self._learned().mean(points, trees.mean(points))]

    def update(self, programs: Sequence[Program], samples: Sequence[Sample]) -> None:
        """Learn from measured programs."""
        super().update(programs, samples)
        self._process = None

    def _predicted(self, programs: Sequence[Program]) -> Numbers:
        """ln(best latency / latency) of each program."""
        return np.round(self._learned().mean([p.point for p in programs], self._of_others(programs)), _DIGITS)

    def _learned(self) -> _Process:
        if self._process is None:
            with self._stopwatch.lap("train"):
                valid = bool(np.isfinite(self._latencies).any())
                measured = self._measured if valid else []
                labels = np.maximum(Experience([], self._latencies).labels(), _SLOWEST) if valid else np.zeros(0)
                self._process = _Process([p.point for p in measured], labels, _NOISE, self._of_others(measured))
        return self._process

    def _of_others(self, programs: Sequence[Program]) -> Numbers:
        """What the trees of other workloads predict."""
        if not self._others or not programs:
            return np.zeros(len(programs))
        return np.asarray(trained_on(self._others).inplace_predict(np.stack(self._of(programs))), np.float64)


class _Process:
    """A Gaussian process over decisions (Rasmussen, Williams 2006, chapter 2), with a Matern covariance of order 3/2.

    Programs of different designs have only the mean and the trend in common.
    """

    def __init__(self, points: Sequence[Point], values: Numbers, noise: float, trends: Numbers | None = None) -> None:
        """Learn `values` at `points`; `trends` are what others predict for these."""
        self._points = list(points)
        self._noise = noise
        self._trends = np.zeros(len(points)) if trends is None else trends
        self._level = float(np.mean(self._trends)) if len(points) else 0.0
        errors = values - _PRIOR * self._trends
        self._mean = float(np.mean(errors)) if len(points) else 0.0
        self._scale = float(np.std(errors)) if len(points) > 1 else 1.0
        self._covariance = self._alike(points, self._trends, points, self._trends) + noise * np.eye(len(points))
        self._weights = np.linalg.solve(self._covariance, errors - self._mean)

    def mean(self, points: Sequence[Point], trends: Numbers | None = None) -> Numbers:
        """The expected value at each point."""
        given = np.zeros(len(points)) if trends is None else trends
        known = self._alike(points, given, self._points, self._trends)
        return self._mean + _PRIOR * given + known @ self._weights

    def spread(self, points: Sequence[Point], trends: Numbers) -> Callable[[Sequence[int]], Numbers]:
        """Standard deviation at each point, given the indices of points whose values will be known as well."""
        known = self._alike(points, trends, self._points, self._trends)
        posterior = self._alike(points, trends, points, trends) - known @ np.linalg.solve(self._covariance, known.T)

        def given(chosen: Sequence[int]) -> Numbers:
            columns = posterior[:, list(chosen)]
            among = columns[list(chosen)] + self._noise * np.eye(len(chosen))
            left = np.diag(posterior) - np.sum(columns * np.linalg.solve(among, columns.T).T, axis=1)
            return np.asarray(self._scale * np.sqrt(np.maximum(left, 0.0)))

        return given

    def _alike(self, these: Sequence[Point], trends: Numbers, those: Sequence[Point], their_trends: Numbers) -> Numbers:
        """Covariance of each of `these` with each of `those`, relative to the variance of what is learned."""
        return _alike(these, those) + _TRUST * np.outer(trends - self._level, their_trends - self._level)


def _alike(these: Sequence[Point], those: Sequence[Point]) -> Numbers:
    """Covariance of each of `these` with each of `those`: 1 if they are equal."""
    result = np.zeros((len(these), len(those)))
    for design in {p.design for p in these} & {p.design for p in those}:
        rows = [n for n, p in enumerate(these) if p.design == design]
        columns = [n for n, p in enumerate(those) if p.design == design]
        a = np.stack([these[n].coordinates for n in rows])
        b = np.stack([those[n].coordinates for n in columns])
        distance = np.sqrt(3 / max(a.shape[1], 1)) * cdist(a, b) / _LENGTH
        result[np.ix_(rows, columns)] = (1 + distance) * np.exp(-distance)
    return result
