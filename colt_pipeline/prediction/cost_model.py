"""TVM's XGBoost cost model, unmodified, with a seeded stand-in for its warm-up noise (paper section 3.1).

TVM's XGBModel predicts uniform random numbers from NumPy's global generator until it has `num_warmup_samples` samples.
Here the same noise comes from the run's own generator, so that runs are repeatable; features are extracted once per
program; and the model is trained only when a prediction needs it, which skips trainings that no prediction would see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm.ir.utils import derived_object
from tvm.s_tir.meta_schedule.cost_model.xgb_model import XGBConfig, XGBModel
from tvm.s_tir.meta_schedule.feature_extractor import PerStoreFeature, PyFeatureExtractor
from tvm.s_tir.meta_schedule.runner import RunnerResult
from tvm.s_tir.meta_schedule.search_strategy import MeasureCandidate
from tvm_ffi import register_error, structural_hash
from xgboost import config_context

from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.space import Program, Space

# One, because predictions, and hence journals, must not depend on the number of cores. TVM applies it only to training;
# everything else in XGBoost uses a thread per core, and these busy-wait for any whose core another process occupies.
_THREADS = 1


@derived_object
class _FeatureCache(PyFeatureExtractor):  # type: ignore[misc]
    """TVM's per-store features, extracted once per program of this process."""

    def __init__(self) -> None:
        super().__init__()
        self._extractor = PerStoreFeature()
        self._by_hash: dict[int, Any] = {}

    def extract_from(self, context: Any, candidates: Sequence[MeasureCandidate]) -> list[Any]:
        """One tensor of shape (stores, 164) per candidate."""
        hashes = [structural_hash(c.sch.mod) for c in candidates]
        new = {h: c for h, c in zip(hashes, candidates, strict=True) if h not in self._by_hash}
        if new:
            self._by_hash.update(zip(new, self._extractor.extract_from(context, list(new.values())), strict=True))
        return [self._by_hash[h] for h in hashes]


# Lets a KeyboardInterrupt pass through callbacks from C++ unchanged.
register_error("KeyboardInterrupt", KeyboardInterrupt)


Batch = tuple[Sequence[Program], Sequence[Sample]]
"""Measured programs and their measurements."""


class CostModel:
    """Scores programs: higher is faster, 1 is the fastest measured so far."""

    def __init__(self, space: Space, warmup_samples: int, stopwatch: Stopwatch) -> None:
        """Create an untrained model.

        Args:
            space: the programs to score.
            warmup_samples: programs measured before predictions are meaningful.
            stopwatch: records the time of training as ``train``.
        """
        self._space = space
        self._stopwatch = stopwatch
        self._model = XGBModel(
            extractor=_FeatureCache(), config=XGBConfig(nthread=_THREADS), num_warmup_samples=warmup_samples
        )
        self._warmup_samples = warmup_samples
        self._measured = 0
        self._waiting: list[Batch] = []
        """Measured batches that the model has not seen yet."""

    @property
    def warm(self) -> bool:
        """Whether predictions come from the trained model."""
        return self._measured >= max(self._warmup_samples, 1)

    def score(self, programs: Sequence[Program], rng: np.random.Generator) -> list[float]:
        """Predicted scores, in order; uniform noise from `rng` until the model is warm."""
        if not self.warm:
            return [float(x) for x in rng.uniform(size=len(programs))]
        with config_context(nthread=_THREADS):
            if self._waiting:
                with self._stopwatch.lap("train"):
                    self._catch_up()
            return [float(x) for x in self._model.predict(self._space.extraction, measure_candidates(programs))]

    def update(self, programs: Sequence[Program], samples: Sequence[Sample]) -> None:
        """Learn from measured programs; TVM trains on min(cost)/cost, and retrains when a fifth of the data is new."""
        if programs:
            self._measured += len(programs)
            self._waiting.append((programs, samples))

    def _catch_up(self) -> None:
        """Train once, on the data of the last training that would have happened had the model seen every batch."""
        size, trained, last = self._model.data_size, self._model.last_train_size, 0
        for number, (programs, _) in enumerate(self._waiting, start=1):
            size += len(programs)
            if size - trained >= trained / 5:  # XGBModel.update's own rule
                trained, last = size, number
        for batches in (self._waiting[:last], self._waiting[last:]):
            programs = [program for batch, _ in batches for program in batch]
            samples = [sample for _, batch in batches for sample in batch]
            self._model.update(self._space.extraction, measure_candidates(programs), runner_results(samples))
        self._waiting = []
        assert self._model.data_size == self._measured  # TVM would skip a program without a store


def measure_candidates(programs: Sequence[Program]) -> list[MeasureCandidate]:
    """Programs in the form that TVM's strategies and cost models expect."""
    return [MeasureCandidate(p.schedule, []) for p in programs]


def runner_results(samples: Sequence[Sample]) -> list[RunnerResult]:
    """Samples in the form that TVM's strategies and cost models expect."""
    return [
        RunnerResult([tvm.tirx.FloatImm("float64", s.latency_secs)], None)
        if s.latency_secs is not None
        else RunnerResult(None, s.error)
        for s in samples
    ]
