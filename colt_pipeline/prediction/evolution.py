"""TVM's own evolutionary search behind a recording: one ``candidates.jsonl`` per run.

What TVM's strategy proposes cannot be repeated, not even with a seed: MutateTileSize draws by an order of memory
addresses, and the warm-up noise of XGBModel comes from NumPy's global generator. So it is treated as an LLM's answer
is: an outside source, whose batches are on disk before they are used. A replay reads them and makes no strategy.

A run that was killed uses the batches it has, then goes on with a fresh strategy that is told all measurements. The
fresh one breeds from the same database; but its cost model is trained at another moment, and it does not know what the
killed one proposed, so its proposals that were measured already are dropped and its first batch may be short. A resumed
run is thus a valid run, not the one that it would have been.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tvm.s_tir import meta_schedule as ms

from colt_pipeline.config.schema import EvolutionConfig
from colt_pipeline.errors import RecordingError, ReplayMissError
from colt_pipeline.prediction.cost_model import measure_candidates, runner_results
from colt_pipeline.records import digest
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.jsonl import JsonLines, read_lines
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.space import Program, Space
from colt_pipeline.space.traces import pack, unpack
from colt_pipeline.stack import usable_cores

_log = logging.getLogger(__name__)
_log.setLevel(logging.WARNING)  # TVM reports on every generation

SCHEMA = 1
_FIELDS = ("key", "measured", "instructions", "traces")

Experience = Sequence[tuple[Program, Sample]]
"""Programs and what was measured of them, in the order of the search."""


class Evolution:
    """TVM's EvolutionarySearch, XGBModel and MemoryDatabase, unmodified, driven as TVM's task scheduler drives them."""

    def __init__(self, space: Space, settings: EvolutionConfig, warmup_samples: int, budget: int) -> None:
        """`warmup_samples`: measured programs before predictions mean anything; `budget`: programs to measure."""
        options = dict(vars(settings))
        batch = options.pop("num_trials_per_iter")
        threads = usable_cores()
        # Without a random state, as TVM is used: no state would make it repeat.
        self._context = ms.TuneContext(
            mod=space.module,
            target=space.context.target,
            space_generator=space.context.space_generator.clone(),
            search_strategy=ms.search_strategy.EvolutionarySearch(**options),
            num_threads=threads,
            logger=_log,
        )
        self._model = ms.cost_model.XGBModel(num_warmup_samples=warmup_samples, num_tuning_cores=threads)
        self._database = ms.database.MemoryDatabase()
        self._workload = self._database.commit_workload(space.module)
        self._context.pre_tuning(
            max_trials=budget, num_trials_per_iter=batch, database=self._database, cost_model=self._model
        )
        self._learned = 0

    def next_batch(self, measured: Experience) -> list[Program]:
        """The next batch: programs that are not in `measured`, each once; empty when TVM has no more.

        `measured` is all that was measured in the run; what came since the last call is learned first.
        """
        self._learn(measured[self._learned :])
        known = {program.key for program, _ in measured}
        # Ends: TVM proposes nothing twice, and gives up after five empty batches.
        while (candidates := self._context.generate_measure_candidates()) is not None:
            programs = [Program(c.sch, c.sch.trace.simplified(True)) for c in candidates]
            new = {p.key: p for p in programs if p.key not in known}
            if new:
                return list(new.values())
        return []

    def _learn(self, measured: Experience) -> None:
        candidates = measure_candidates([program for program, _ in measured])
        results = runner_results([sample for _, sample in measured])
        for (program, _), result in zip(measured, results, strict=True):
            if result.run_secs is not None:  # TVM's database ignores failures
                record = ms.database.TuningRecord(program.trace, self._workload, result.run_secs, self._context.target)
                self._database.commit_tuning_record(record)
        self._model.update(self._context, candidates, results)
        self._context.notify_runner_results(candidates, results)
        self._learned += len(measured)


class Breeder:
    """Batches from the recording; with a way to connect, misses are bred live and recorded first, then returned."""

    def __init__(
        self,
        path: Path,
        space: Space,
        settings: Mapping[str, Any],
        connect: Callable[[], Evolution] | None,
        watch: Stopwatch,
    ) -> None:
        """`settings`: all that changes a batch besides the measurements; `connect` makes the strategy at the first
        miss, None makes this a strict replay without one; `watch` books live breeding as ``breed``.

        Raises:
            JournalError: the recording is broken or in use by another process.
            RecordingError: a line of it is no batch.
        """
        self.path = path
        self._space = space
        self._settings = dict(settings)
        self._connect = connect
        self._watch = watch
        self._evolution: Evolution | None = None
        self._file = None if connect is None else JsonLines(path)
        entries = read_lines(path) if self._file is None else self._file.records
        for number, entry in enumerate(entries, start=1):
            if missing := [name for name in _FIELDS if name not in entry]:
                self.close()
                raise RecordingError(f"{path}, line {number}: lacks {', '.join(missing)}; restore the file")
        self._batches = {entry["key"]: (entry["instructions"], entry["traces"]) for entry in entries}
        self._times = [entry["measured"] for entry in entries]
        """How many programs were measured when each batch was bred."""
        self.asked = 0
        """Batches that this object did not find in the recording."""

    def next_batch(self, measured: Experience) -> list[Program]:
        """The next batch of new programs after all that was `measured`, at most what is left of the budget.

        Raises:
            ReplayMissError: strict replay, and the batch was not recorded.
            SpaceError: a recorded trace does not fit this workload, target or TVM.
        """
        key = digest([SCHEMA, self._settings, [[s.program, s.latency_secs, s.error] for _, s in measured]])
        if key in self._batches:
            return self._rebuild(*self._batches[key])
        packed = pack(self._ask(measured))
        programs = self._rebuild(packed.instructions, packed.traces)  # first: what is recorded must replay
        assert self._file is not None
        self._file.append({"key": key, "measured": len(measured), **packed.to_json()})
        self._batches[key] = (packed.instructions, packed.traces)
        return programs

    def _rebuild(self, instructions: Any, traces: Any) -> list[Program]:
        return [self._space.rebuild(trace) for trace in unpack(instructions, traces)]

    def _ask(self, measured: Experience) -> list[str]:
        """The traces of a live batch."""
        if self._connect is None:
            raise ReplayMissError(self._explain(len(measured)))
        with self._watch.lap("breed"):
            if self._evolution is None:
                self._evolution = self._connect()
            self.asked += 1
            return [program.trace_json for program in self._evolution.next_batch(measured)]

    def _explain(self, measured: int) -> str:
        """Why a replay missed."""
        recorded = f"the {len(self._times)} batches of the recording were bred at other times"
        if measured in self._times:
            recorded = "the recorded one came of other settings or latencies"
        return (
            f"replay miss in {self.path}: TVM's batch after {measured} measured programs is not recorded; {recorded}. "
            "Use record=missing device=local to breed it live."
        )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
