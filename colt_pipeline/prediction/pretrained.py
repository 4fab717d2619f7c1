"""A cost model that is useful from the first sample: trained on other workloads' recordings, then on the run's as well.

TVM's features describe single stores; a program is represented by the sum and the maximum of each feature over its
stores, and by their number. The label is ln(best latency / latency) within a workload, so the model learns what makes
programs fast regardless of the workload. Recordings of the workload being tuned are always excluded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import xgboost as xgb
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.feature_extractor import PerStoreFeature

from colt_pipeline.prediction.cost_model import measure_candidates
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.space import Program, Space

_SLOWEST = -6.0
"""Label of the slowest programs and of failed ones."""
_OWN_WEIGHT = 4.0
"""Weight of the run's own samples relative to those of other workloads."""
_ROUNDS = 150
# One thread: predictions, and hence journals, must not depend on the number of cores.
_PARAMETERS = {
    "objective": "reg:squarederror",
    "max_depth": 4,
    "eta": 0.1,
    "subsample": 0.8,
    "colsample_bytree": 0.5,
    "max_bin": 64,
    "nthread": 1,
    "seed": 0,
}

FEATURES = 2 * 164 + 1
"""Numbers that represent a program."""

Rows = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Experience:
    """Programs of one workload: features (n, 329) and latencies in seconds (n,), infinite for failures."""

    features: Sequence[Rows]
    latencies: Sequence[float]
    weight: float = 1.0
    """Weight of each program in training."""

    def labels(self) -> npt.NDArray[np.float64]:
        """ln(best / latency), at least _SLOWEST."""
        best = min(self.latencies)
        return np.array([max(np.log(best / t), _SLOWEST) if np.isfinite(t) else _SLOWEST for t in self.latencies])


class PretrainedModel:
    """Scores programs by predicted best latency / latency, about 1 for the fastest."""

    def __init__(self, space: Space, warmup_samples: int, others: Sequence[Experience], stopwatch: Stopwatch) -> None:
        """Create a model that starts from other workloads.

        Args:
            space: the programs to score.
            warmup_samples: if `others` is empty, programs measured before the first training; until then, noise.
            others: measurements of other workloads.
            stopwatch: records the time of training as ``train``.
        """
        self._space = space
        self._stopwatch = stopwatch
        self._extractor = PerStoreFeature()
        self._features: dict[int, Rows] = {}
        """By `Program.structure`."""
        self._others = tuple(others)
        self._warmup = warmup_samples
        self._measured: list[Program] = []
        self._latencies: list[float] = []
        self._booster: xgb.Booster | None = None
        """None if something was measured since the last training; the next prediction trains it."""

    @property
    def warm(self) -> bool:
        """Whether predictions come from a trained model."""
        return bool(self._others) or (len(self._latencies) >= self._warmup and bool(np.isfinite(self._latencies).any()))

    def score(self, programs: Sequence[Program], rng: np.random.Generator) -> list[float]:
        """Predicted scores, in order; uniform noise from `rng` until the model is warm."""
        if not self.warm:
            return [float(x) for x in rng.uniform(size=len(programs))]
        if self._booster is None:
            with self._stopwatch.lap("train"):
                self._booster = self._trained()
        predicted = self._booster.inplace_predict(np.stack(self._of(programs)))
        return [float(np.exp(x)) for x in predicted]

    def rate(self, context: ms.TuneContext, candidates: Sequence[ms.MeasureCandidate]) -> list[float]:
        """Predicted scores of candidates of TVM's, whose features are not kept; 0 until the model is warm."""
        if not self.warm:
            return [0.0] * len(candidates)
        if self._booster is None:
            with self._stopwatch.lap("train"):
                self._booster = self._trained()
        rows = [_row(stores.numpy()) for stores in self._extractor.extract_from(context, list(candidates))]
        return [float(np.exp(x)) for x in self._booster.inplace_predict(np.stack(rows))]

    def update(self, programs: Sequence[Program], samples: Sequence[Sample]) -> None:
        """Learn from measured programs."""
        self._measured += programs
        self._latencies += [np.inf if s.latency_secs is None else s.latency_secs for s in samples]
        self._booster = None

    def _trained(self) -> xgb.Booster:
        if not np.isfinite(self._latencies).any():
            return trained_on(self._others)
        own = Experience(self._of(self._measured), self._latencies, _OWN_WEIGHT)
        return _train([*self._others, own])

    def _of(self, programs: Sequence[Program]) -> list[Rows]:
        new = {p.structure: p for p in programs if p.structure not in self._features}
        self._features |= zip(new, features(self._space, self._extractor, list(new.values())), strict=True)
        return [self._features[p.structure] for p in programs]


@lru_cache(maxsize=8)
def trained_on(others: tuple[Experience, ...]) -> xgb.Booster:
    """The booster with which every run on a workload starts; trained once per process."""
    return _train(others)


def _train(known: Sequence[Experience]) -> xgb.Booster:
    data = xgb.DMatrix(
        np.concatenate([np.stack(e.features) for e in known]),
        np.concatenate([e.labels() for e in known]),
        weight=np.concatenate([np.full(len(e.latencies), e.weight) for e in known]),
        nthread=1,
    )
    return xgb.train(_PARAMETERS, data, _ROUNDS)


def features(space: Space, extractor: PerStoreFeature, programs: Sequence[Program]) -> list[Rows]:
    """Sum and maximum of TVM's 164 features over each program's stores, and the number of stores: (329,).

    Rounded like the recorded feature files, so that a program has equal features in both.
    """
    if not programs:
        return []
    extracted = extractor.extract_from(space.extraction, measure_candidates(programs))
    return [_row(stores.numpy()) for stores in extracted]


def _row(stores: npt.NDArray[np.float64]) -> Rows:
    """What a program's stores (stores, 164) are to the model."""
    row = np.concatenate([stores.sum(0), stores.max(0), [len(stores)]])
    (used,) = row.nonzero()  # most of them, those of GPUs for instance, are zero
    row[used] = [float(f"{x:.4g}") for x in row[used]]
    return row.astype(np.float32)


def predicted(known: Sequence[Experience], rows: Sequence[Rows]) -> npt.NDArray[np.float32]:
    """What a model that has learned from `known` expects of programs with these features: ln(best / latency)."""
    scores: npt.NDArray[np.float32] = _train(known).inplace_predict(np.stack(rows))
    return scores
