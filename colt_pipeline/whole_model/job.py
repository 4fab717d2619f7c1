"""A run of a whole model: its kernels are searched in turn, then it is measured as a whole.

TVM splits the model into kernels (`workloads.extracted`). Each is an ordinary run in the directory ``RUN/TASK`` with
its own tree; statistics of the LLMs are shared between the trees. Samples go batch by batch to the most promising
kernel (`search.allocation`). Finally the model with the best kernels is compiled, checked and timed as a whole.

The next kernel and its statistics follow from the states of all runs, so an interrupted run resumes where it stopped,
and ``record=replay`` measures nothing; of a user's own model it needs the file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import tvm

from colt_pipeline.app import shown_speedup
from colt_pipeline.assemble import assemble
from colt_pipeline.config.schema import AS_MANY_AS_FIT, Config, WorkloadConfig
from colt_pipeline.config.sources import file_digest
from colt_pipeline.errors import BudgetError, ConfigError, ReplayMissError
from colt_pipeline.job import Job, further_batches, write_outputs
from colt_pipeline.llm.unusable import note_unusable_models
from colt_pipeline.measurement.devices import Device
from colt_pipeline.measurement.ledger import Ledger
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.measurement.measurer import MakeMeasurer
from colt_pipeline.measurement.whole_model import measure_model
from colt_pipeline.progress.terminal import table_is_shown
from colt_pipeline.records import LIMIT, EndReason, Measurement
from colt_pipeline.runs.clock import Clock
from colt_pipeline.runs.events import Event, Finished
from colt_pipeline.runs.layout import CLOCK, SOURCE, WHOLE_MODEL, WHOLE_MODEL_MEASUREMENTS, run_directory
from colt_pipeline.runs.rundir import RunDir
from colt_pipeline.search.allocation import Share, next_task
from colt_pipeline.search.batch import choose_batch
from colt_pipeline.search.expand import plant
from colt_pipeline.search.loop import advance, apply, fold
from colt_pipeline.search.state import State
from colt_pipeline.serialization import digest
from colt_pipeline.whole_model.plan import Kernel, announcement, planned, task_config
from colt_pipeline.whole_model.report import best_of, summarize
from colt_pipeline.workloads.catalogue import extracted, model
from colt_pipeline.workloads.extracted import ExtractedModel

MeasureModel = Callable[..., list[Measurement]]
"""See `whole_model.measure_model`."""

UNTUNED: EndReason = "untuned"
"""Why the run of a kernel that is not searched ends."""
_BESIDE_SECS = 5.0
"""Up to so long, an untuned model runs in turn with the tuned one."""
_BRIEF_FLOP = 5 * 10**9
"""Kernels with so much arithmetic in all take seconds, unscheduled (about a GFLOP per second), and are measured before
the search is announced."""
_AWAKE = 8
"""Kernels whose worker processes, with their inputs, stay in memory at once."""


@dataclass(frozen=True)
class TunedKernels:
    """What a run came to."""

    summary: dict[str, Any]
    """The run in numbers, as in its directory."""
    whole: ExtractedModel
    modules: dict[str, tvm.IRModule]
    """Task -> its best scheduled module, of those that are faster than unscheduled."""
    target: dict[str, Any]
    """TVM's target dict."""


def tune(
    config: Config, make_measurer: MakeMeasurer | None = None, measure: MeasureModel | None = None
) -> TunedKernels:
    """Tune (or resume, or replay) the model, and write the outputs of all its runs.

    Args:
        config: the run.
        make_measurer: replaces what measures kernels, for tests.
        measure: replaces what measures the whole model, for tests.

    Raises:
        ColtError: a run cannot continue; all can be resumed.
    """
    if config.target.kind != "llvm" or not config.search.grows_tree:
        raise ConfigError("a whole model is tuned on a CPU by a tree search; choose target=cpu and search=colt_plus")
    whole = extracted(model(**vars(config.workload)), config.prepack)
    source = None if config.workload.source is None else _source(config.workload)
    kernels = planned(config, whole)
    if all(kernel.role == "left" for kernel in kernels):
        whys = "; ".join(f"{kernel.name}: {kernel.why}" for kernel in kernels[:3]) or "it calls no kernel"
        raise ConfigError(f"there is nothing to tune in {config.workload.name}: {whys}")
    tuned = [kernel for kernel in kernels if kernel.role == "tuned"]
    batch = config.search.batch_size
    if config.search.sample != "program":
        raise ConfigError(
            f"search.sample={config.search.sample} counts calls, and a model's kernels share measured programs; add "
            "search.sample=program"
        )
    if config.samples < batch * len(tuned):
        raise ConfigError(
            f"samples={config.samples} must be at least {batch * len(tuned)}: one batch of "
            f"search.batch_size={batch} for each of {len(tuned)} kernels"
        )
    print(f"{config.run}  {len(kernels)} kernels", file=sys.stderr, flush=True)
    with ExitStack() as cleanup:
        peers: list[State] = []
        jobs: dict[str, Job] = {}
        for kernel in kernels:
            if kernel.role == "left":
                continue
            shared = peers if kernel in tuned else ()
            its = task_config(config, kernel.task)
            if kernel not in tuned:
                its = replace(its, start_from=None)
            job = cleanup.enter_context(assemble(its, make_measurer, shared, any_space=True))
            jobs[kernel.name] = job
            if kernel in tuned:
                peers.append(job.state)
        for job in jobs.values():
            fold(job.world, job.journal, job.state)
        if sum(kernel.task.flop for kernel in kernels if kernel.name in jobs) <= _BRIEF_FLOP:
            for number, job in enumerate(jobs.values(), start=1):
                _start(job)
                if number > _AWAKE:
                    job.evaluator.rest()
        print("\n".join(announcement(config, kernels, _untuned(jobs))), file=sys.stderr, flush=True)
        for kernel in kernels:
            if kernel.role in ("drawn", "measured"):
                _measure_only(jobs[kernel.name], kernel.role == "drawn")
        stopped = _search(config, tuned, jobs)
        for kernel in tuned:
            if config.measure.confirm:
                jobs[kernel.name].confirm()
                jobs[kernel.name].evaluator.rest()
        for job in jobs.values():
            write_outputs(job, stopped if job.state.finished is None else None)
            note_unusable_models(job.config.run, job.journal.events, job.cassette.reply)
        modules = {
            name: job.world.program(job.state.programs[best]).schedule.mod
            for name, job in jobs.items()
            if (best := best_of(job).program) is not None
        }
        measured = _whole(config, jobs, modules, measure or measure_model)
        summary = summarize(config, whole, kernels, jobs, measured, stopped)
        target = next(iter(jobs.values())).target
    directory = run_directory(config.results, config.experiment, config.run)
    rundir = RunDir(directory, config.identity())
    if source is not None:
        rundir.write_json(SOURCE, source)
    rundir.write_json(WHOLE_MODEL, summary)
    return TunedKernels(summary, whole, modules, target)


def _source(workload: WorkloadConfig) -> dict[str, Any]:
    """Where the files of a user's own model are, for `export`."""
    paths = {"source": workload.source, "weights": workload.weights}
    known = {key: path for key, path in paths.items() if path is not None}
    return {**paths, "sha256": {key: file_digest(f"workload.{key}", path) for key, path in known.items()}}


def _measure_only(job: Job, draw: bool) -> None:
    """Measure the unscheduled program, and with `draw` one program of its design spaces."""
    if job.state.finished is not None:
        return
    _start(job)
    if draw and not job.state.samples:
        if not job.state.plantings:
            _append(job, plant(job.world, job.state))
        if job.state.pending:
            _append(job, job.world.measure(choose_batch(job.world, job.state, 1)))
    _finish(job, UNTUNED)
    job.evaluator.rest()


def _start(job: Job) -> None:
    """Measure the unscheduled program of a kernel, with which its run begins."""
    if job.state.started is None:
        next(advance(job.world, job.journal, job.state))


def _untuned(jobs: Mapping[str, Job]) -> dict[str, float]:
    """Kernel -> seconds of a call, unscheduled, as far as that is measured."""
    return {name: job.state.started.baseline_secs for name, job in jobs.items() if job.state.started is not None}


def _append(job: Job, event: Event) -> None:
    job.journal.append(event)
    apply(job.world, job.state, event)


def _search(config: Config, tuned: Sequence[Kernel], jobs: Mapping[str, Job]) -> str | None:
    """Search the most promising kernel until the samples are used up; the last batch may slightly exceed them.

    Returns:
        Why it ended although it could continue, if so.
    """
    if not tuned:
        return None
    searched = [jobs[kernel.name] for kernel in tuned]
    shares = [Share(kernel.task.weight, job.state) for kernel, job in zip(tuned, searched, strict=True)]
    awake: list[int] = []
    with ExitStack() as cleanup:
        clock = None if config.minutes is None else cleanup.enter_context(closing(_clock(config, searched[0])))
        searches = [cleanup.enter_context(closing(further_batches(job))) for job in searched]
        begin, resumed_at = time.monotonic(), _samples(searched)
        while (done := _samples(searched)) < config.samples:
            if clock is not None:
                try:
                    clock.check(done)
                except BudgetError as error:
                    print(f"{config.run}  {error}", file=sys.stderr, flush=True)
                    return LIMIT
            index = next_task(shares, config.search.batch_size)
            if index is None:
                break
            awake = [i for i in awake if i != index] + [index]
            for rested in awake[:-_AWAKE]:
                searched[rested].evaluator.rest()
            next(searches[index], None)
            now = _samples(searched)
            if clock is not None:
                clock.tick(now, time.monotonic() - begin)
            if now > done:
                elapsed = time.monotonic() - begin
                left = elapsed / (now - resumed_at) * max(config.samples - now, 0)
                left = left if clock is None else min(left, clock.secs_left)
                _progress(config, tuned[index], searched[index], now, left)
    for job in searched:
        _finish(job, "budget")
    return None


def _clock(config: Config, some: Job) -> Clock:
    assert config.minutes is not None
    path = some.cassette.path.parent.parent / CLOCK
    return Clock(path, config.minutes, "append" if some.evaluator.live else "replay")


def _samples(jobs: Sequence[Job]) -> int:
    return sum(len(job.state.samples) for job in jobs)


def _finish(job: Job, reason: EndReason) -> None:
    if job.state.finished is None:
        event: Event = Finished(reason)
        job.journal.append(event)
        job.state.apply(event)


def _progress(config: Config, kernel: Kernel, job: Job, samples: int, left_secs: float) -> None:
    if table_is_shown():
        return  # a table has it
    assert job.state.started is not None
    speedup = shown_speedup(job.state.speedup, job.state.started.measurement)
    own, of = len(job.state.samples), "" if config.samples == AS_MANY_AS_FIT else f"/{config.samples}"
    print(
        f"{config.run}  {samples}{of} samples  {kernel.name} {own}: {speedup}  ETA {left_secs:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def _whole(
    config: Config, jobs: Mapping[str, Job], modules: Mapping[str, tvm.IRModule], measure: MeasureModel
) -> list[Measurement]:
    """The latency of the model with the best kernels, from the recording or else measured and recorded.

    Returns:
        Of the tuned model, and of the untuned one if it was measured, too.
    """
    some = next(iter(jobs.values()))
    best = {name: best_of(jobs[name]).program for name in modules}
    header = {**some.evaluator.header, "workload": config.workload.name}
    header["workload_hash"] = digest({name: job.workload.hash for name, job in jobs.items()})
    path = some.cassette.path.parent.parent / WHOLE_MODEL_MEASUREMENTS
    keys = [digest(best), digest({})]
    with closing(Ledger(path, header, "append" if some.evaluator.live else "replay")) as ledger:
        if ledger.get(keys[0]) is None:
            if not some.evaluator.live:
                raise ReplayMissError(
                    f"replay of {path}: the model with these kernels was not measured in the recording; the code, the "
                    "configuration or a package differs from the recorded run. Use record=missing device=local to "
                    "measure it on this machine; with stand_ins=false that also asks models live, which costs money."
                )
            print(f"{config.run}  the whole model with {len(modules)} tuned kernels", file=sys.stderr, flush=True)
            beside = config.kernels != "flop" and bool(best) and _untuned_secs(jobs, config) <= _BESIDE_SECS
            with device_lock(Device(some.evaluator.header["device"]).lock):
                measured = measure(config.workload, config.prepack, modules, some.target, config.measure, beside)
            for key, measurement in zip(keys, measured, strict=False):
                if ledger.get(key) is None:
                    ledger.put(key, measurement)
        found = [ledger.get(key) for key in dict.fromkeys(keys)]
    return [measurement for measurement in found if measurement is not None]


def _untuned_secs(jobs: Mapping[str, Job], config: Config) -> float:
    weights = {task.name: task.weight for task in extracted(model(**vars(config.workload)), config.prepack).tasks}
    return sum(weights[name] * secs for name, secs in _untuned(jobs).items())
