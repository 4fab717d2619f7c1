"""What a run of a whole model came to: the best program of each kernel, the summary, and the table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from colt_pipeline.app import aligned
from colt_pipeline.config.schema import Config
from colt_pipeline.config.spaces import summarized
from colt_pipeline.job import Job
from colt_pipeline.records import EMBEDDED, Measurement
from colt_pipeline.runs.layout import run_directory
from colt_pipeline.whole_model.plan import Kernel, short
from colt_pipeline.workloads.extracted import ExtractedModel


@dataclass(frozen=True)
class Best:
    """The fastest program of a kernel; one that no schedule made faster stays unscheduled."""

    program: str | None
    """Its key; None = unscheduled."""
    secs: float
    cold_secs: float | None = None
    """With cold caches, where that was measured."""


def best_of(job: Job) -> Best:
    """The best program of a kernel, as confirmed, or else as its search measured it."""
    state = job.state
    assert state.started is not None
    found = Best(None, state.started.baseline_secs)
    confirmed = job.confirmed
    if confirmed:
        found = min(found, Best(confirmed[0].program, confirmed[0].latency_secs), key=lambda b: b.secs)
    elif state.best is not None and state.best.latency_secs is not None and (state.speedup or 0) > 1:
        found = Best(state.best.program, state.best.latency_secs)
    return found if found.program is None else replace(found, cold_secs=job.cold_secs(found.program))


def summarize(
    config: Config,
    whole: ExtractedModel,
    kernels: Sequence[Kernel],
    jobs: Mapping[str, Job],
    measured: Sequence[Measurement],
    stopped: str | None,
) -> dict[str, Any]:
    """The run in numbers; a kernel's latencies are seconds per call."""
    rows = [_row(config, kernel, jobs[kernel.name]) for kernel in kernels if kernel.name in jobs]
    some = next(iter(jobs.values()))
    assert some.state.started is not None
    tuned_secs = measured[0].latency_secs
    assert tuned_secs is not None
    summed = sum(row["weight"] * row["unoptimized_secs"] for row in rows)
    unoptimized, how = summed, "sum over kernels of calls x measured latency"
    if len(measured) > 1 and measured[1].latency_secs is not None:
        unoptimized, how = measured[1].latency_secs, "measured whole"
    summary = {
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
        "unoptimized_how": how,
        "tuned_secs": tuned_secs,
        "tuned_how": "measured whole",
        "tuned_sum_secs": sum(row["weight"] * row["best_secs"] for row in rows),
        "speedup": unoptimized / tuned_secs,
        "max_relative_error": measured[0].max_relative_error,
        "tasks": rows,
    }
    if config.kernels != "flop":
        summary |= {"prepack": config.prepack, "reference": whole.model.referee, "stopped": stopped or "budget"}
        summary |= {"unoptimized_sum_secs": summed}
    return summary


def _row(config: Config, kernel: Kernel, job: Job) -> dict[str, Any]:
    task, state, best = kernel.task, job.state, best_of(job)
    assert state.started is not None
    row: dict[str, Any] = {"task": task.name, "shape": task.shape, "weight": task.weight, "flop": task.flop}
    row |= {"tuned": kernel.role == "tuned", "samples": len(state.samples)}
    row |= {"unoptimized_secs": state.started.baseline_secs, "best_secs": best.secs}
    if config.kernels != "flop":
        row |= {"role": kernel.role, "packed": list(task.constants), "cold_secs": best.cold_secs}
    return row


def shown(config: Config, summary: Mapping[str, Any]) -> str:
    """A model's result for the terminal."""
    who = " (LLMs: stand-ins)" if EMBEDDED in summary["llm_backend"] else ""
    line = (
        f"{summary['model']}, model_set={summary['model_set']}{who}: {summary['samples']} samples, unoptimized "
        f"{_shown_secs(summary['unoptimized_secs'])} ({summary['unoptimized_how']}), tuned "
        f"{_shown_secs(summary['tuned_secs'])} ({summary['tuned_how']}; sum of its kernels "
        f"{_shown_secs(summary['tuned_sum_secs'])}), {summary['speedup']:.1f}x"
    )
    if "reference" not in summary:
        return line
    rows = [("kernel", "calls", "samples", "before ms", "after ms", "cold ms", "share after", "")]
    total = summary["tuned_sum_secs"]
    for task in sorted(summary["tasks"], key=lambda t: -t["weight"] * t["best_secs"]):
        cold = "-" if task["cold_secs"] is None else f"{1e3 * task['cold_secs']:.3f}"
        cells = (
            short(task["task"]),
            str(task["weight"]),
            str(task["samples"]),
            f"{1e3 * task['unoptimized_secs']:.3f}",
        )
        after = f"{1e3 * task['best_secs']:.3f}"
        part = f"{100 * task['weight'] * task['best_secs'] / total:.1f} %"
        rows.append((*cells, after, cold, part, "weights packed ahead" if task["packed"] else ""))
    path = run_directory(config.results, config.experiment, config.run)
    checked = (
        f"outputs checked against {summary['reference']}: relative error {summary['max_relative_error']:.2g}; kernels "
        "are timed warm, and with cold caches where weights are packed ahead"
    )
    export = f"export it with: python -m colt_pipeline.export {_relative(path)} --out DIR"
    return "\n".join([*aligned(rows), line, checked, export])


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _shown_secs(secs: float) -> str:
    return f"{secs:.1f} s" if secs >= 100 else f"{secs:.3f} s" if secs >= 1 else f"{1e3 * secs:.3f} ms"
