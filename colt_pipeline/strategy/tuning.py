"""One task of TVM's as a run of this project: the search goes on until it needs measurements, which TVM makes."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary, finalize

import numpy as np
import tvm
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.schedule import Trace

from colt_pipeline.assemble import assemble
from colt_pipeline.errors import BudgetError, DeviceError, DeviceMismatchError
from colt_pipeline.job import Job, further_batches, write_outputs
from colt_pipeline.measurement.backend import local
from colt_pipeline.measurement.lock import batch_lock
from colt_pipeline.measurement.measurer import Measurer
from colt_pipeline.records import LIMIT, Measurement
from colt_pipeline.runs.events import Measured
from colt_pipeline.runs.layout import run_directory
from colt_pipeline.search.loop import advance, fold
from colt_pipeline.space import Space
from colt_pipeline.space.generate import leave_choice
from colt_pipeline.strategy.configured import configured, recorded_runner
from colt_pipeline.strategy.door import Awaiting, Door
from colt_pipeline.workloads.catalogue import build

TVM = "tvm"
"""Who measured, in ``measure.runner``: TVM's runner; "" = this project's workers."""
_NAMES = {"": "this project's Runner", TVM: "TVM's runner"}
_open: WeakValueDictionary[Path, Tuning] = WeakValueDictionary()
"""Run directory -> the tuning that has it open."""


def handed_over(module: tvm.IRModule) -> Path | None:
    """A file that stands for this very module, if a tuning waits for its measurement; see `owner`."""
    for tuning in _open.values():
        for number, schedule in enumerate(tuning.awaited):
            if schedule.mod.same_as(module):
                return tuning.artifact(number)
    return None


def owner(artifact: Path) -> tuple[Tuning, int] | None:
    """The tuning that such a file belongs to, and the module's number in its batch."""
    for tuning in _open.values():
        if artifact.parent.parent == tuning.scratch:
            return tuning, int(artifact.name)
    return None


class Tuning:
    """One task's run, from TVM's first question to its last."""

    def __init__(
        self,
        name: str,
        module: tvm.IRModule,
        target: tvm.target.Target,
        database: ms.Database | None,
        trials: int,
        batch: int,
        overrides: dict[str, Any],
    ) -> None:
        """Describe the run; it begins with the first result.

        Args:
            name: the task's.
            module: one PrimFunc ``main``.
            target: what to compile for.
            database: TVM's, where it records what its runner measures.
            trials: programs to measure, the unoptimized one included.
            batch: programs to measure at once, at most.
            overrides: keys of this project's configuration.

        Raises:
            ConfigError: the configuration or the target is not one to tune with.
        """
        cleanup = ExitStack()
        self.close = finalize(self, cleanup.close)
        """Release files and processes, as happens, too, if TVM gives up and forgets the strategy."""
        self._cleanup = cleanup
        self.scratch = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="colt-")))
        self.config = configured(name, module, target, trials, batch, overrides, self.scratch)
        self._module, self._target, self._database = module, target, database
        self._door = Door()
        self._job: Job | None = None
        self._measurer: Measurer | None = None
        self._best_secs: float | None = None
        self._only: list[Schedule] | None = None
        """All programs of a kernel that leaves no choice, until they are measured."""
        self._committed: set[str] = set()
        """Traces that TVM's database has."""
        self._intervals: list[tuple[float, float]] = []
        self.awaited: list[Schedule] = []
        """The programs that the search waits for, in order."""
        self.measured: dict[int, Measurement] = {}
        """What this project's Runner measured of them."""
        self.directory = run_directory(self.config.results, self.config.experiment, self.config.run).absolute()
        if self.directory in _open:
            _open[self.directory].close()  # left over from a call that failed
        _open[self.directory] = self

    def read_program(self, designs: Sequence[Schedule]) -> None:
        """Make a workload of the module.

        Args:
            designs: TVM's design spaces of it. If neither they nor those of the run's own space leave anything to
                decide, each is measured once, without a search.

        Raises:
            ConfigError: it is a program that cannot be tuned or checked.
        """
        self.workload = build(**vars(self.config.workload))
        if not leave_choice(design.trace for design in designs):
            space = Space(self.workload.module, local(self.config).target, self.config.space.additions)
            if not space.tunable:
                self._only = [program.schedule for program in space.initial(len(designs), np.random.default_rng(0))]

    def next_batch(self) -> list[Schedule] | None:
        """The next programs to measure, the unoptimized one first; None at the end of the search.

        Raises:
            ColtError: the run cannot continue; it can be resumed.
        """
        if self._only is not None:
            only, self._only = self._only, []
            return self._await(only, None) or None
        if self._job is None:
            runner = recorded_runner(self.config)
            if runner is None:  # the first result tells
                return self._await([self._unoptimized()], None)
            self._begin(runner)
        job = self._job
        assert job is not None
        try:
            for event in further_batches(job):  # whatever needs no measurement by TVM
                self._commit(event)
        except Awaiting as awaiting:
            return self._await([self._schedule(job, module) for module in awaiting.modules], awaiting.best_secs)
        except BudgetError as error:
            print(f"{job.config.run}  {error}", file=sys.stderr, flush=True)
        return None

    def _await(self, schedules: list[Schedule], best_secs: float | None) -> list[Schedule]:
        self.awaited, self.measured, self._best_secs = schedules, {}, best_secs
        return schedules

    def _unoptimized(self) -> Schedule:
        return Schedule(self.workload.module, debug_mask="none")

    def _schedule(self, job: Job, module: tvm.IRModule) -> Schedule:
        """The schedule that made `module`, with the trace that TVM's database records."""
        pending = (job.world.program(candidate).schedule for candidate in job.state.pending)
        found = next((schedule for schedule in pending if schedule.mod.same_as(module)), None)
        return found or self._unoptimized()

    def artifact(self, number: int) -> Path:
        """A file that stands for an awaited program, in a directory of its own, which TVM removes with all it holds."""
        directory = Path(tempfile.mkdtemp(dir=self.scratch))
        (directory / str(number)).touch()
        return directory / str(number)

    def measure(self, numbers: Sequence[int]) -> list[Measurement]:
        """Measure some of the awaited programs in this project's workers.

        Raises:
            DeviceError, StackError: nothing can be measured here.
        """
        backend = local(self.config)
        modules = [self.awaited[number].mod for number in numbers]
        with batch_lock(backend.device):
            begin = time.time()
            if self._measurer is None:
                self._measurer = self._cleanup.enter_context(closing(backend.make_measurer(self.workload)))
            found = list(self._measurer.measure(modules, self._best_secs))
            self._intervals.append((begin, time.time()))
        self.measured.update(zip(numbers, found, strict=True))
        return found

    def deliver(self, results: Sequence[Measurement]) -> None:
        """Give the search the results for the awaited programs, which go to disk at once.

        Args:
            results: what TVM was told by its runner, where this project's Runner did not measure.

        Raises:
            ColtError: the run cannot begin, or was measured by another runner so far.
        """
        if self._only is not None:
            return  # TVM's database has them
        runner = "" if self.measured else TVM
        if self._job is None:
            if runner and (error := results[0].error):
                raise DeviceError(
                    f"TVM's builder and runner do not measure the unoptimized {self.config.workload.name}: {error} "
                    f"({results[0].detail}). Give builder=Builder() and runner=Runner() of colt_pipeline.strategy; or, "
                    "if TVM's builder is too late, LocalBuilder(timeout_sec=120)"
                )
            self._begin(runner)
        job = self._job
        assert job is not None
        if (before := job.config.measure.runner) != runner:
            raise DeviceMismatchError(
                f"{job.rundir.path} was measured by {_NAMES[before]} so far, and now by {_NAMES[runner]}, whose "
                "latencies do not compare. Give builder and runner as before, or choose another name for this run: "
                "Colt(run=NAME)"
            )
        for number, (schedule, result) in enumerate(zip(self.awaited, results, strict=True)):
            self._door.deliver(schedule.mod, self.measured.get(number, result))
            self._committed.add(_essence(schedule.trace))
        self._await([], None)
        with job.world.stopwatch.lap("total"):
            event = next(advance(job.world, job.journal, job.state))
        if isinstance(event, Measured):
            self._commit(event)

    def finish(self) -> None:
        """Write the outputs and release everything."""
        with closing(self):
            job = self._job
            if job is None or job.state.started is None:
                return
            if job.state.finished is None and job.state.spent >= job.config.samples:
                next(advance(job.world, job.journal, job.state))
            job.evaluator.intervals[:] = self._intervals
            write_outputs(job, None if job.state.finished else LIMIT)

    def _begin(self, runner: str) -> None:
        """Open the run's files, for latencies from this runner, and go to the end of its journal."""
        measure = self.config.measure
        # TVM's builder compiles by itself.
        measure = replace(measure, runner=runner, vector_math=measure.vector_math and not runner)
        config = replace(self.config, measure=measure)
        door = self._door  # and not self, which could then not be forgotten
        self._job = job = self._cleanup.enter_context(assemble(config, lambda _: door))
        fold(job.world, job.journal, job.state)
        if self._database is not None:
            workload = self._database.commit_workload(self._module)
            records = self._database.get_all_tuning_records()
            self._committed |= {_essence(record.trace) for record in records if record.workload.same_as(workload)}
        for event in job.journal.events:
            if isinstance(event, Measured):
                self._commit(event)

    def _commit(self, event: Measured) -> None:
        """Add to TVM's database what TVM did not measure: earlier results of this run, and shared ones."""
        assert self._job is not None and self._job.state.started is not None
        self._record(self._unoptimized(), self._job.state.started.baseline_secs)
        for sample in event.samples:
            if sample.latency_secs is not None:
                candidate = self._job.state.programs[sample.program]
                self._record(self._job.world.program(candidate).schedule, sample.latency_secs)

    def _record(self, schedule: Schedule, secs: float) -> None:
        if self._database is None or _essence(schedule.trace) in self._committed:
            return
        workload = self._database.commit_workload(self._module)
        self._database.commit_tuning_record(
            ms.database.TuningRecord(
                schedule.trace, workload, [tvm.tirx.FloatImm("float64", secs)], self._target, arguments(schedule)
            )
        )
        self._committed.add(_essence(schedule.trace))


def _essence(trace: Trace) -> str:
    """What two traces of one program have in common: one that was stored and applied again lacks unused steps."""
    return str(trace.simplified(False))


def arguments(schedule: Schedule) -> list[Any]:
    """What a program is called with, as TVM describes it."""
    return list(ms.arg_info.ArgInfo.from_entry_func(schedule.mod, remove_preproc=True))
