"""What a run of a whole model found: read from its directory and the runs below it, and rebuilt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import tvm

from colt_pipeline.analysis.tree.run import Run
from colt_pipeline.errors import ConfigError, RunDirError
from colt_pipeline.exports.model_source import ModelFiles, model_files
from colt_pipeline.exports.winner import Winner, read_kernel
from colt_pipeline.runs.layout import CONFIG, JOURNAL, WHOLE_MODEL
from colt_pipeline.runs.rundir import read_config, read_json
from colt_pipeline.serialization import Count, Seconds, typed
from colt_pipeline.workloads.catalogue import extracted, model
from colt_pipeline.workloads.extracted import ExtractedModel


class Row(TypedDict):
    """A kernel in `WHOLE_MODEL`; seconds are those of one call."""

    task: str
    shape: str
    weight: Count
    best_secs: Seconds
    unoptimized_secs: Seconds
    cold_secs: NotRequired[Seconds | None]
    packed: NotRequired[list[Count]]


class Summary(TypedDict):
    """A model in `WHOLE_MODEL`."""

    model: str
    device: str
    tuned_secs: Seconds
    tuned_how: str
    unoptimized_secs: Seconds
    unoptimized_how: str
    tasks: list[Row]


class _Workload(TypedDict):
    name: str
    shape: dict[str, Count]
    function: NotRequired[str | None]
    bind: NotRequired[dict[str, Count]]


class _Config(TypedDict):
    workload: _Workload
    prepack: NotRequired[bool]


@dataclass(frozen=True)
class TunedKernel:
    """A kernel of a model that was measured."""

    row: Row
    run: Run
    winner: Winner | None
    """Its best program; None if no schedule made it faster, so that it stays unscheduled."""


@dataclass(frozen=True)
class TunedModel:
    """A model with the best programs of its kernels."""

    path: Path
    config: Mapping[str, Any]
    summary: Summary
    kernels: tuple[TunedKernel, ...]
    whole: ExtractedModel

    @property
    def name(self) -> str:
        return self.summary["model"]

    @property
    def target(self) -> dict[str, Any]:
        """TVM's target dict that it was tuned for."""
        return self.kernels[0].run.started.target

    @property
    def vector_math(self) -> bool:
        """Whether it was compiled with vector math when it was measured."""
        return self.config["measure"].get("vector_math") is True

    @property
    def winners(self) -> list[Winner]:
        """Of the kernels that are scheduled."""
        return [kernel.winner for kernel in self.kernels if kernel.winner is not None]

    @property
    def modules(self) -> dict[str, tvm.IRModule]:
        """Task -> scheduled module, as `ExtractedModel.ready` takes them."""
        found = {kernel.row["task"]: kernel.winner for kernel in self.kernels}
        return {task: winner.program.schedule.mod for task, winner in found.items() if winner is not None}

    @property
    def left(self) -> list[str]:
        """Kernels that were not measured, which stay as they are."""
        measured = {kernel.row["task"] for kernel in self.kernels}
        return [task.name for task in self.whole.tasks if task.name not in measured]


def is_model(path: Path) -> bool:
    """Whether the directory is that of a whole model's run.

    Raises:
        RunDirError: that run has not ended yet.
    """
    if (path / WHOLE_MODEL).exists():
        return True
    if (path / JOURNAL).exists() or not any(path.glob(f"*/{JOURNAL}")) or not (path / CONFIG).exists():
        return False
    raise RunDirError(
        f"{path} has no {WHOLE_MODEL} yet: the whole model was not measured; give the command that tunes it again, or "
        "export one of its kernels"
    )


def read_model_run(path: Path, given: ModelFiles) -> TunedModel:
    """The model that a run tuned, rebuilt from its file.

    Args:
        path: the run's directory.
        given: see `model_files`.

    Raises:
        ColtError: what the run holds does not fit together, or its model is not there or is another one.
    """
    try:
        summary = typed(Summary, read_json(path / WHOLE_MODEL))
        config = read_config(path / CONFIG)
        known = typed(_Config, config)
    except ValueError as error:
        raise RunDirError(f"{path} is not the run of a model ({error}); restore it") from error
    workload = known["workload"]
    kernels = tuple(_kernel(path, row) for row in summary["tasks"])
    if not kernels:
        raise RunDirError(f"{path / WHOLE_MODEL} lists no kernel; restore it")
    files = model_files(path, config["workload"], given)
    found = model(
        *(workload["name"], workload["shape"], files.source, workload.get("function"), workload.get("bind")),
        weights=files.weights,
    )
    whole = extracted(found, known.get("prepack", False))
    _check(whole, kernels, files, path)
    return TunedModel(path, config, summary, kernels, whole)


def _kernel(path: Path, row: Row) -> TunedKernel:
    run, winner = read_kernel(path / row["task"])
    secs = run.started.baseline_secs if winner is None else winner.timing.latency_secs
    if secs != row["best_secs"]:
        raise RunDirError(
            f"{path / row['task']}: the best program has {secs} s, but {WHOLE_MODEL} says {row['best_secs']} s: the "
            "search went on since, or the recording is not beside the run; give the command that tunes the model "
            "again, or restore the recording"
        )
    return TunedKernel(row, run, winner)


def _check(whole: ExtractedModel, kernels: tuple[TunedKernel, ...], files: ModelFiles, path: Path) -> None:
    """The kernels that were tuned are those of the model.

    Raises:
        ConfigError: they are not.
    """
    tasks = {task.name for task in whole.tasks}
    for kernel in kernels:
        name = kernel.row["task"]
        if name not in tasks or whole.workload(name, name, {}).hash != kernel.run.started.workload_hash:
            raise ConfigError(
                f"workload.source={files.source} is not the model that {path} tuned: its kernel {name} is another one; "
                "name the file of that model, with the version of the program that tuned it"
            )
