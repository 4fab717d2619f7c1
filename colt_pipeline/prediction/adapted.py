"""A pretrained cost model that adapts to the workload: trees of other workloads, corrected by a Gaussian process.

What the trees get wrong is alike for programs whose decisions are alike, so a Gaussian process over the decisions
learns it from a few programs, where trees over TVM's features need hundreds. It also knows how little it knows: the
spread of its prediction is that of programs never seen, and shrinks near those that were measured.

Predictions are rounded, because the last digits of linear algebra depend on the processor, and journals must not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from colt_pipeline.prediction.pretrained import Experience, PretrainedModel, trained_on
from colt_pipeline.space import Program
from colt_pipeline.space.decisions import Point, point

_LENGTH = 1.5
"""Distance in each coordinate at which programs are half alike: a factor of 2.8 in each factor of each tile."""
_NOISE = 0.3
"""Variance of the noise relative to that of what is learned."""
_DIGITS = 4
_SLOWEST = -4.0

Numbers = npt.NDArray[np.float64]


class AdaptedModel(PretrainedModel):
    """Scores programs like `PretrainedModel`, whose trees never see this workload; their errors are learned apart."""

    def score(self, programs: Sequence[Program], rng: np.random.Generator) -> list[float]:
        """Predicted scores, in order; uniform noise from `rng` until the model is warm."""
        if not self.warm:
            return [float(x) for x in rng.uniform(size=len(programs))]
        mean, _ = self._predicted(programs)
        return [float(np.exp(x)) for x in mean]

    def choose(self, programs: Sequence[Program], count: int, optimism: float) -> list[int]:
        """Indices of `count` programs, each the best by prediction plus `optimism` times what its prediction may be off,
        given that those before it will have been measured."""
        mean, process = self._predicted(programs)
        points = [self._point(p) for p in programs]
        spread = process.spread(points)
        chosen: list[int] = []
        for _ in range(min(count, len(programs))):
            value = np.round(mean + optimism * spread(chosen), _DIGITS)
            value[chosen] = -np.inf
            chosen.append(int(np.argmax(value)))
        return chosen

    def _predicted(self, programs: Sequence[Program]) -> tuple[Numbers, _Process]:
        if self._process is None:
            with self._stopwatch.lap("train"):
                self._process = self._adapted()
        mean = self._of_others(programs) + self._process.mean([self._point(p) for p in programs])
        return np.round(mean, _DIGITS), self._process

    def _of_others(self, programs: Sequence[Program]) -> Numbers:
        if not self._others:
            return np.zeros(len(programs))
        rows = np.stack([self._of(p) for p in programs])
        return np.asarray(trained_on(self._others).inplace_predict(rows), np.float64)

    def _adapted(self) -> _Process:
        if not np.isfinite(self._latencies).any():
            return _Process([], np.zeros(0))
        labels = np.maximum(Experience([], self._latencies).labels(), _SLOWEST)
        return _Process([self._point(p) for p in self._measured], labels - self._of_others(self._measured))

    _process: _Process | None = None

    def update(self, programs, samples) -> None:
        super().update(programs, samples)
        self._process = None

    def _point(self, program: Program) -> Point:
        if program.key not in self._points:
            self._points[program.key] = point(program.trace)
        return self._points[program.key]

    @property
    def _points(self) -> dict[str, Point]:
        return self.__dict__.setdefault("_known_points", {})


class _Process:
    """A Gaussian process: Matern 3/2 over the coordinates; programs of different design spaces have only the mean in
    common."""

    def __init__(self, points: Sequence[Point], values: Numbers) -> None:
        self._points = list(points)
        self._mean = float(np.mean(values)) if len(values) else 0.0
        self._scale = float(np.std(values)) if len(values) > 1 else 1.0
        self._covariance = _alike(points, points) + _NOISE * np.eye(len(points))
        self._weights = np.linalg.solve(self._covariance, values - self._mean)

    def mean(self, points: Sequence[Point]) -> Numbers:
        return self._mean + _alike(points, self._points) @ self._weights

    def spread(self, points: Sequence[Point]):
        """Standard deviation at each point, as a function of the indices of points that will be measured as well."""
        known = _alike(points, self._points)
        solved = np.linalg.solve(self._covariance, known.T) if self._points else np.zeros((0, len(points)))
        posterior = _alike(points, points) - known @ solved

        def given(chosen: Sequence[int]) -> Numbers:
            left = posterior
            if chosen:
                columns = posterior[:, list(chosen)]
                square = columns[list(chosen)] + _NOISE * np.eye(len(chosen))
                left = posterior - columns @ np.linalg.solve(square, columns.T)
            return self._scale * np.sqrt(np.maximum(np.diag(left), 0.0))

        return given


def _alike(these: Sequence[Point], those: Sequence[Point]) -> Numbers:
    """Covariance of each of `these` with each of `those`: 1 for equal ones."""
    result = np.zeros((len(these), len(those)))
    for design in {p.design for p in these} & {p.design for p in those}:
        i = [n for n, p in enumerate(these) if p.design == design]
        j = [n for n, p in enumerate(those) if p.design == design]
        a, b = np.stack([these[n].coordinates for n in i]), np.stack([those[n].coordinates for n in j])
        squares = ((a[:, None] - b[None]) ** 2).mean(-1) / _LENGTH**2
        r = np.sqrt(3 * squares)
        result[np.ix_(i, j)] = (1 + r) * np.exp(-r)
    return result
