"""Tune a whole model: ``python -m colt_pipeline.tune_model experiment=end_to_end`` (paper section 4, table 2).

TVM splits the model into kernels (`workloads.extracted`). Each is an ordinary run in the directory ``RUN/TASK`` with
its own tree; statistics of the LLMs are shared between the trees. Samples go batch by batch to the most promising
kernel (`search.allocation`). Finally the model with the best kernels is compiled, checked and timed as a whole.

The next kernel and its statistics follow from the states of all runs, so an interrupted command resumes where it
stopped, and ``record=replay`` needs neither a compiler nor the model's weights.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from colt_pipeline.app import attempt, command, escaping, message_and_exit, shown_speedup
from colt_pipeline.config.compose import CONF
from colt_pipeline.config.schema import Config, MeasureConfig, WorkloadConfig
from colt_pipeline.config.spaces import summarized
from colt_pipeline.errors import ConfigError, ReplayMissError
from colt_pipeline.job import Job, further_batches, write_outputs
from colt_pipeline.llm.unusable import note_unusable_models
from colt_pipeline.measurement.ledger import Ledger
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.progress.standing import followed_model
from colt_pipeline.progress.terminal import table_is_shown
from colt_pipeline.progress.watch import watched
from colt_pipeline.records import EMBEDDED, EndReason, Measurement, digest
from colt_pipeline.runs.events import Event, Finished
from colt_pipeline.runs.layout import WHOLE_MODEL, WHOLE_MODEL_MEASUREMENTS, run_directory
from colt_pipeline.runs.rundir import RunDir
from colt_pipeline.search.allocation import Share, next_task
from colt_pipeline.search.loop import advance, fold
from colt_pipeline.search.state import State
from colt_pipeline.tools.forecast import announced

if TYPE_CHECKING:
    import tvm

    from colt_pipeline.measurement.measurer import MakeMeasurer
    from colt_pipeline.workloads.extracted import Task
    from colt_pipeline.workloads.llama import Llama

    MeasureModel = Callable[[Llama, Mapping[str, tvm.IRModule], dict[str, Any], MeasureConfig], Measurement]

UNTUNED: EndReason = "untuned"
"""Why the run of a kernel that is not worth tuning ends."""
_WORTH_TUNING = 1e-4
"""Fraction of the model's floating-point operations above which a kernel is tuned."""


def run(
    config: Config,
    make_measurer: MakeMeasurer | None = None,
    measure: MeasureModel | None = None,
) -> dict[str, Any]:
    """Tune (or resume, or replay) the model, write the outputs of all its runs, and return the model's.

    Args:
        config: the run.
        make_measurer: replaces what measures kernels, for tests.
        measure: replaces what measures the whole model, for tests.

    Raises:
        ColtError: a run cannot continue; all can be resumed.
    """
    # These import TVM, which --help and invalid configurations do not need.
    from colt_pipeline.assemble import assemble
    from colt_pipeline.workloads.extracted import extracted
    from colt_pipeline.workloads.llama import model_of

    model = model_of(config.workload.name, config.workload.shape)
    tasks = extracted(model).tasks
    tuned = _worth_tuning(tasks)
    batch = config.search.batch_size
    if config.target.kind != "llvm" or not config.search.grows_tree:
        raise ConfigError("a whole model is tuned on a CPU by a tree search; choose target=cpu and search=colt")
    if config.minutes is not None:
        raise ConfigError(f"minutes={config.minutes:g} limits one search; for a whole model, give samples instead")
    if config.samples < batch * len(tuned):
        raise ConfigError(
            f"samples={config.samples} must be at least {batch * len(tuned)}: one batch of "
            f"search.batch_size={batch} for each of {len(tuned)} kernels"
        )
    with ExitStack() as cleanup:
        peers: list[State] = []
        jobs: dict[str, Job] = {}
        for task in tasks:
            shared = peers if task in tuned else ()
            job = cleanup.enter_context(assemble(_task_config(config, task), make_measurer, shared))
            jobs[task.name] = job
            if task in tuned:
                peers.append(job.state)
        for job in jobs.values():
            fold(job.world, job.journal, job.state)
        for task in tasks:
            if task not in tuned:
                _measure_untuned(jobs[task.name])
        _search(config, tuned, jobs)
        for job in jobs.values():
            write_outputs(job)
            note_unusable_models(job.config.run, job.journal.events, job.cassette.reply)
        whole = _whole(config, model, jobs, measure)
        summary = _summary(config, tasks, jobs, whole)
    directory = run_directory(config.results, config.experiment, config.run)
    RunDir(directory, config.identity()).write_json(WHOLE_MODEL, summary)
    return summary


def _worth_tuning(tasks: Sequence[Task]) -> list[Task]:
    total = sum(task.weight * task.flop for task in tasks)
    return [task for task in tasks if task.weight * task.flop >= _WORTH_TUNING * total]


def _task_config(config: Config, task: Task) -> Config:
    workload = WorkloadConfig(f"{config.workload.name}.{task.name}", config.workload.shape)
    return replace(config, run=f"{config.run}/{task.name}", workload=workload)


def _measure_untuned(job: Job) -> None:
    if job.state.started is None:
        next(advance(job.world, job.journal, job.state))
    _finish(job, UNTUNED)


def _search(config: Config, tasks: Sequence[Task], jobs: Mapping[str, Job]) -> None:
    """Search the most promising kernel until the samples are used up; the last batch may slightly exceed them."""
    searched = [jobs[task.name] for task in tasks]
    shares = [Share(task.weight, job.state) for task, job in zip(tasks, searched, strict=True)]
    with ExitStack() as cleanup:
        searches = [cleanup.enter_context(closing(further_batches(job))) for job in searched]
        begin, resumed_at = time.monotonic(), _samples(searched)
        while (done := _samples(searched)) < config.samples:
            index = next_task(shares, config.search.batch_size)
            if index is None:
                break
            next(searches[index], None)
            now = _samples(searched)
            if now > done:
                left = (time.monotonic() - begin) / (now - resumed_at) * max(config.samples - now, 0)
                _progress(config, tasks[index], searched[index], now, left)
    for job in searched:
        _finish(job, "budget")


def _samples(jobs: Sequence[Job]) -> int:
    return sum(len(job.state.samples) for job in jobs)


def _finish(job: Job, reason: EndReason) -> None:
    if job.state.finished is None:
        event: Event = Finished(reason)
        job.journal.append(event)
        job.state.apply(event)


def _progress(config: Config, task: Task, job: Job, samples: int, left_secs: float) -> None:
    if table_is_shown():
        return  # a table has it
    assert job.state.started is not None
    speedup = shown_speedup(job.state.speedup, job.state.started.measurement)
    own = len(job.state.samples)
    print(
        f"{config.run}  {samples}/{config.samples} samples  {task.name} {own}: {speedup}  ETA {left_secs:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def _whole(config: Config, model: Llama, jobs: Mapping[str, Job], measure: MeasureModel | None) -> Measurement:
    """The latency of the model with the best kernels, from the recording or else measured and recorded."""
    from colt_pipeline.measurement.devices import Device
    from colt_pipeline.measurement.whole_model import measure_model

    some = next(iter(jobs.values()))
    # A kernel that no schedule made faster stays unscheduled.
    best = {
        name: job.state.best.program for name, job in jobs.items() if job.state.best and (job.state.speedup or 0) > 1
    }
    header = {**some.evaluator.header, "workload": config.workload.name}
    header["workload_hash"] = digest({name: job.workload.hash for name, job in jobs.items()})
    path = some.cassette.path.parent.parent / WHOLE_MODEL_MEASUREMENTS
    key = digest(best)
    with closing(Ledger(path, header, "append" if some.evaluator.live else "replay")) as ledger:
        known = ledger.get(key)
        if known is None:
            if not some.evaluator.live:
                raise ReplayMissError(
                    f"replay of {path}: the model with these kernels was not measured in the recording; the code, the "
                    "configuration or a package differs from the recorded run. Use record=missing device=local to "
                    "measure it on this machine; with stand_ins=false that also asks models live, which costs money."
                )
            modules = {
                name: jobs[name].world.program(jobs[name].state.programs[program]).schedule.mod
                for name, program in best.items()
            }
            print(f"{config.run}  the whole model with {len(modules)} tuned kernels", file=sys.stderr, flush=True)
            with device_lock(Device(some.evaluator.header["device"]).lock):
                known = (measure or measure_model)(model, modules, some.target, config.measure)
            ledger.put(key, known)
    return known


def _summary(config: Config, tasks: Sequence[Task], jobs: Mapping[str, Job], whole: Measurement) -> dict[str, Any]:
    """The run in numbers; a kernel's latencies are seconds per call."""
    rows = []
    for task in tasks:
        state = jobs[task.name].state
        assert state.started is not None
        row: dict[str, Any] = {"task": task.name, "shape": task.shape, "weight": task.weight, "flop": task.flop}
        row |= {"tuned": state.finished != UNTUNED, "samples": len(state.samples)}
        unoptimized = state.started.baseline_secs
        rows.append(
            row | {"unoptimized_secs": unoptimized, "best_secs": min(state.best_secs or unoptimized, unoptimized)}
        )
    some = jobs[tasks[0].name]
    assert some.state.started is not None and whole.latency_secs is not None
    unoptimized = sum(row["weight"] * row["unoptimized_secs"] for row in rows)
    return {
        "experiment": config.experiment,
        "model": config.workload.name,
        "shape": config.workload.shape,
        "target": config.target.name,
        **summarized(config.space),
        "search": config.search.name,
        "model_set": config.model_set,
        "largest": config.largest,
        "models": [spec.name for spec in some.world.models],
        "llm_backend": ", ".join(sorted({spec.provider for spec in some.world.models})),
        "measurement": some.state.started.measurement,
        "device": some.state.started.device,
        "seed": config.seed,
        "samples": sum(row["samples"] for row in rows),
        "unoptimized_secs": unoptimized,
        "unoptimized_how": "sum over kernels of calls x measured latency",
        "tuned_secs": whole.latency_secs,
        "tuned_how": "measured whole",
        "tuned_sum_secs": sum(row["weight"] * row["best_secs"] for row in rows),
        "speedup": unoptimized / whole.latency_secs,
        "max_relative_error": whole.max_relative_error,
        "tasks": rows,
    }


def _show(summary: dict[str, Any]) -> None:
    who = " (LLMs: stand-ins)" if EMBEDDED in summary["llm_backend"] else ""
    print(
        f"{summary['model']}, model_set={summary['model_set']}{who}: {summary['samples']} samples, unoptimized "
        f"{summary['unoptimized_secs']:.1f} s ({summary['unoptimized_how']}), tuned {summary['tuned_secs']:.3f} s "
        f"({summary['tuned_how']}; sum of its kernels {summary['tuned_sum_secs']:.3f} s), {summary['speedup']:.1f}x"
    )


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _job(raw: DictConfig) -> None:
    attempt(lambda config: _show(run(config)), raw)


@escaping()
def main() -> None:
    """Announce the cost of live calls and run Hydra's jobs; see `app.command`."""
    with message_and_exit():
        configs = announced(sys.argv[1:])
    with watched(configs, followed_model):
        command(_job)


if __name__ == "__main__":
    main()
