"""What becomes of each kernel of a whole model, and how a search of all says it beforehand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from colt_pipeline.app import aligned
from colt_pipeline.config.schema import Config, WorkloadConfig
from colt_pipeline.errors import ConfigError, SpaceError
from colt_pipeline.records import packed_name
from colt_pipeline.space import Space
from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.checks import check
from colt_pipeline.workloads.extracted import ExtractedModel, Task, share

Role = Literal["tuned", "drawn", "measured", "left"]
"""What becomes of a kernel: it is searched; it gets one program of TVM's rules; only its unscheduled program is
measured; or not even that."""

_WORTH_TUNING = {"flop": 1e-4, "roofline": 5e-3}
"""``kernels`` -> share of the model's work above which a kernel is searched."""
_SECS_PER_SAMPLE = (0.6, 2.5)
"""From the live runs of results/benchmark/pace.csv, kernels of 1 to 50 ms; announced before a search."""
_PLANNED_FOR = {"kind": "llvm", "num-cores": 2}
"""The target for which it is asked whether a kernel has a choice: the answer must be the same in a replay elsewhere."""


@dataclass(frozen=True)
class Kernel:
    """A task, and what becomes of it."""

    task: Task
    role: Role
    share: float
    """Part of the model's work, by the rule that chose it."""
    why: str = ""
    """Why it is left as it is."""

    @property
    def name(self) -> str:
        return self.task.name


def planned(config: Config, whole: ExtractedModel) -> list[Kernel]:
    """What becomes of each kernel of a model."""
    tasks = whole.tasks
    if config.kernels == "flop":
        total = sum(task.weight * task.flop for task in tasks)
        shares = {task.name: task.weight * task.flop / total if total else 0.0 for task in tasks}
    else:
        shares = {task.name: share(task, tasks) for task in tasks}
    kernels = [_planned(config, whole, task, shares[task.name]) for task in tasks]
    if config.kernels == "flop":
        return kernels
    # A search begins with a batch of each; with fewer samples, the smaller ones do without.
    first = sorted((k for k in kernels if k.role == "tuned"), key=lambda k: -k.share)
    without = {kernel.name for kernel in first[config.samples // config.search.batch_size :]}
    return [replace(kernel, role="drawn") if kernel.name in without else kernel for kernel in kernels]


def _planned(config: Config, whole: ExtractedModel, task: Task, part: float) -> Kernel:
    is_worth = part >= _WORTH_TUNING[config.kernels]
    if config.kernels == "flop":
        return Kernel(task, "tuned" if is_worth else "measured", part)
    if task.is_view:
        return Kernel(task, "left", part, "it only gives a tensor another shape")
    if task.has_infinity:
        return Kernel(task, "left", part, "its outputs may be infinite, so that no schedule can be checked")
    workload = build(**vars(task_config(config, task).workload))
    try:
        check(workload.main, task.name)
        space = Space(workload.module, _PLANNED_FOR, config.space.additions)
    except (ConfigError, SpaceError) as error:
        return Kernel(task, "left", part, str(error))
    return Kernel(task, "tuned" if is_worth and space.tunable else "drawn", part)


def announcement(config: Config, kernels: Sequence[Kernel], untuned: Mapping[str, float]) -> list[str]:
    """What will be tuned, and for how long.

    Args:
        config: the run.
        kernels: what becomes of each.
        untuned: kernel -> seconds of a call, unscheduled, where that is measured.
    """
    tuned = [kernel for kernel in kernels if kernel.role == "tuned"]
    calls = sum(kernel.task.weight for kernel in kernels)
    lines = [f"{config.run}  {len(kernels)} kernels, {calls} calls; {len(tuned)} are worth tuning:"]
    rule = "FLOP" if config.kernels == "flop" else "estimated time at the machine's limits"
    total = sum(kernel.task.weight * untuned.get(kernel.name, 0.0) for kernel in kernels)
    rows: list[Sequence[str]] = [("kernel", "calls", f"share of {rule}", "untuned", "share", "", "shapes")]
    for kernel in sorted(kernels, key=lambda k: -k.share):
        what = {"tuned": "tuned", "drawn": "scheduled by rule", "measured": "left as it is", "left": "left as it is"}
        packed = ", weights packed ahead" if kernel.task.constants else ""
        why = f" ({kernel.why.partition(';')[0][:100]})" if kernel.why else ""
        cells = [short(kernel.name), str(kernel.task.weight), f"{100 * kernel.share:.1f} %", "-", "-"]
        if (secs := untuned.get(kernel.name)) is not None:
            cells[3:] = [f"{1e3 * secs:.4g} ms", f"{100 * kernel.task.weight * secs / total:.1f} %"]
        rows.append((*cells, what[kernel.role] + packed + why, kernel.task.shape))
    lines += [f"  {line}" for line in aligned(rows)]
    if config.minutes is not None:
        lines.append(f"{config.run}  this takes {config.minutes:g} minutes, and then the best are confirmed")
    elif config.kernels != "flop":
        low, high = (max(1, math.ceil(config.samples * secs / 60)) for secs in _SECS_PER_SAMPLE)
        lines.append(f"{config.run}  {config.samples} samples take about {low} to {high} minutes")
    return lines


def short(name: str) -> str:
    """A kernel's name in a table: TVM's list all that is fused."""
    return name if len(name) <= 60 else f"{name[:57]}..."


def task_config(config: Config, task: Task) -> Config:
    """The run of one kernel of a model."""
    given = config.workload
    workload = WorkloadConfig(
        packed_name(f"{given.name}.{task.name}", task.constants),
        given.shape,
        source=given.source,
        function=given.function,
        bind=given.bind,
        constant=list(task.constants),
        model=given.model,
        weights=given.weights,
    )
    return replace(config, run=f"{config.run}/{task.name}", workload=workload, minutes=None)
