"""TVM's own evolutionary search behind a recording: one ``candidates.jsonl`` per run.

What TVM's strategy proposes is not repeatable, even with a seed: MutateTileSize depends on the order of memory
addresses, and the warm-up noise of XGBModel comes from NumPy's global generator. It is therefore treated like an LLM's
answers: as an external source, whose batches are written to disk before they are used. A replay reads them and creates
no strategy.

A killed run first uses the batches it has, then continues with a fresh strategy that is given all measurements. That
strategy starts from the same database, but trains its cost model at a different time and does not know what the killed
one proposed; proposals that were already measured are dropped, so its first batch may be short. A resumed run is thus a
valid run, but not the one it would have been.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.ir.utils import derived_object
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.cost_model import PyCostModel
from tvm.s_tir.meta_schedule.runner import RunnerResult

from colt_pipeline.config.schema import EvolutionConfig
from colt_pipeline.errors import ReplayMissError
from colt_pipeline.prediction.cost_model import measure_candidates, runner_results
from colt_pipeline.prediction.pretrained import PretrainedModel
from colt_pipeline.runs.batches import Packed, pack, read_batch, unpack
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.recorded import Recorded
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.serialization import digest
from colt_pipeline.space import Program, Space
from colt_pipeline.stack import usable_cores

_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # TVM reports every generation

SCHEMA = 1

Measurements = Sequence[tuple[Program, Sample]]
"""Programs and their measurements, in the order of the search."""


@derived_object
class _Pretrained(PyCostModel):  # type: ignore[misc]
    """A cost model of this project in the place of TVM's."""

    def __init__(self, model: PretrainedModel) -> None:
        super().__init__()
        self._predictions = model

    def load(self, path: str) -> None:
        raise NotImplementedError

    def save(self, path: str) -> None:
        raise NotImplementedError

    def predict(self, context: ms.TuneContext, candidates: Sequence[ms.MeasureCandidate]) -> npt.NDArray[np.float64]:
        return np.array(self._predictions.rate(context, candidates))

    def update(
        self, context: ms.TuneContext, candidates: Sequence[ms.MeasureCandidate], results: Sequence[RunnerResult]
    ) -> None:
        programs = [Program(c.sch, c.sch.trace) for c in candidates]
        latencies = [None if r.run_secs is None else float(r.run_secs[0]) for r in results]
        samples = [Sample(p.key, secs, None) for p, secs in zip(programs, latencies, strict=True)]
        self._predictions.update(programs, samples)


class TvmEvolution:
    """TVM's EvolutionarySearch, XGBModel and MemoryDatabase, unmodified and driven as by TVM's task scheduler."""

    def __init__(
        self,
        space: Space,
        settings: EvolutionConfig,
        warmup_samples: int,
        samples: int,
        cost_model: PretrainedModel | None = None,
    ) -> None:
        """Prepare the search.

        Args:
            space: the programs to search.
            settings: options of EvolutionarySearch.
            warmup_samples: programs measured before predictions are meaningful.
            samples: programs to measure.
            cost_model: what predicts in place of TVM's own XGBModel, if anything.
        """
        options = dict(vars(settings))
        batch = options.pop("num_trials_per_iter")
        threads = usable_cores()
        self._space = space
        # No random state, as usual with TVM: none would make it repeatable.
        self._context = ms.TuneContext(
            mod=space.module,
            target=space.context.target,
            space_generator=space.context.space_generator.clone(),
            search_strategy=ms.search_strategy.EvolutionarySearch(**options),
            num_threads=threads,
            logger=_log,
        )
        self._model = (
            ms.cost_model.XGBModel(num_warmup_samples=warmup_samples, num_tuning_cores=threads)
            if cost_model is None
            else _Pretrained(cost_model)
        )
        self._database = ms.database.MemoryDatabase()
        self._workload = self._database.commit_workload(space.module)
        self._context.pre_tuning(
            max_trials=samples, num_trials_per_iter=batch, database=self._database, cost_model=self._model
        )
        self._samples = samples
        self._learned = 0

    def next_batch(self, measured: Measurements) -> list[Program]:
        """The next batch of distinct programs that are not in `measured`; empty if TVM has no more.

        Args:
            measured: everything measured in the run; what is new since the last call is learned first.
        """
        self._learn(measured[self._learned :])
        known = {program.key for program, _ in measured}
        # Terminates: TVM proposes nothing twice and gives up after five empty batches.
        while (candidates := self._context.generate_measure_candidates()) is not None:
            programs = [Program(c.sch, c.sch.trace.simplified(True)) for c in candidates]
            new = {p.key: p for p in programs if p.key not in known and not self._space.refuses(p)}
            if new:
                # TVM counts what it has proposed, known or not, and after a batch of known programs offers too many.
                return list(new.values())[: self._samples - len(measured)]
        if not measured:
            _log.warning(
                "TVM's evolutionary search draws too few valid programs of this workload to begin, so the run ends "
                "without samples; try a larger search.evolution.max_fail_count, a smaller "
                "search.evolution.init_min_unmeasured, or search=colt, which draws tiles that give a permitted number "
                "of threads"
            )
        return []

    def _learn(self, measured: Measurements) -> None:
        candidates = measure_candidates([program for program, _ in measured])
        results = runner_results([sample for _, sample in measured])
        for (program, _), result in zip(measured, results, strict=True):
            if result.run_secs is not None:  # TVM's database ignores failures
                record = ms.database.TuningRecord(program.trace, self._workload, result.run_secs, self._context.target)
                self._database.commit_tuning_record(record)
        self._model.update(self._context, candidates, results)
        self._context.notify_runner_results(candidates, results)
        self._learned += len(measured)


class Evolution:
    """Batches from the recording; if a strategy can be made, missing batches come from it and are recorded first."""

    def __init__(
        self,
        path: Path,
        space: Space,
        settings: Mapping[str, Any],
        make_strategy: Callable[[], TvmEvolution] | None,
        stopwatch: Stopwatch,
    ) -> None:
        """Open the recording.

        Args:
            path: the run's ``candidates.jsonl``.
            space: rebuilds recorded programs.
            settings: everything besides the measurements that affects a batch.
            make_strategy: called at the first miss; None for a strict replay.
            stopwatch: records the time of the strategy as ``breed``.

        Raises:
            JournalError: the recording is corrupt or in use by another process.
            RecordingError: a line of it is not a batch, or has a trace that no rule or mutator makes.
        """
        self.path = path
        self._space = space
        self._settings = dict(settings)
        self._make_strategy = make_strategy
        self._stopwatch = stopwatch
        self._strategy: TvmEvolution | None = None
        self._recorded: Recorded[str] = Recorded(path, "replay" if make_strategy is None else "append", read_batch)
        self.asked = 0
        """Number of batches that this object did not find in the recording."""

    def next_batch(self, measured: Measurements) -> list[Program]:
        """New programs given all measurements, in a live batch no more than are left to measure; empty at the end.

        Raises:
            ReplayMissError: strict replay, and the batch was not recorded.
            SpaceError: a recorded trace does not match this workload, target or TVM.
        """
        key = digest([SCHEMA, self._settings, [[s.program, s.latency_secs, s.error] for _, s in measured]])
        batch = self._recorded.get(key)
        if batch is not None:
            return self._rebuild(unpack(Packed(batch["instructions"], batch["traces"])))
        traces = self._ask(measured)
        programs = self._rebuild(traces)  # first: what is recorded must replay
        self._recorded.append({"key": key, "measured": len(measured), **pack(traces).to_json()})
        return programs

    def _rebuild(self, traces: Iterable[str]) -> list[Program]:
        return [self._space.rebuild(trace) for trace in traces]

    def _ask(self, measured: Measurements) -> list[str]:
        """The traces of a live batch."""
        if self._make_strategy is None:
            raise ReplayMissError(self._explain(len(measured)))
        with self._stopwatch.lap("breed"):
            if self._strategy is None:
                self._strategy = self._make_strategy()
            self.asked += 1
            return [program.trace_json for program in self._strategy.next_batch(measured)]

    def _explain(self, measured: int) -> str:
        """Why a replay missed."""
        batches = self._recorded.entries
        recorded = f"the {len(batches)} batches of the recording follow other numbers of programs"
        if measured in [batch["measured"] for batch in batches]:
            recorded = "the recorded one was made with other settings or latencies"
        return (
            f"replay miss in {self.path}: TVM's batch after {measured} measured programs is not recorded; {recorded}. "
            "Use record=missing device=local to make it live."
        )

    def close(self) -> None:
        """Release the recording to other processes."""
        self._recorded.close()
