"""The kernel and the design space of a run, rebuilt from its directory, which anybody can edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import tvm

from colt_pipeline.errors import RunDirError
from colt_pipeline.runs.events import Started
from colt_pipeline.runs.layout import CONFIG, INPUTS, JOURNAL, PROGRAM
from colt_pipeline.runs.rundir import read_json
from colt_pipeline.runs.targets import unknown_target_keys
from colt_pipeline.serialization import Count, typed
from colt_pipeline.space import Space
from colt_pipeline.workloads.catalogue import rebuild
from colt_pipeline.workloads.workload import Workload

_TVM_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)
"""What TVM raises for JSON that represents no program or target."""


class _Workload(TypedDict):
    name: str
    shape: dict[str, Count]
    constant: NotRequired[list[Count]]


class _Own(TypedDict):
    name: str
    shape: dict[str, Count]
    program: str
    inputs: Literal["inputs.npz"] | None


_CpuTarget = TypedDict("_CpuTarget", {"mcpu": str, "num-cores": Count})


def run_workload(path: Path, config: Mapping[str, Any], started: Started) -> Workload:
    """The kernel that the run in the directory `path` tunes.

    Args:
        path: the run directory, which holds a user's own kernel.
        config: its configuration, see `read_config`.
        started: the first event of its journal.

    Raises:
        RunDirError: the configuration is not a run's, or what is there is not the kernel that the journal is about.
    """
    workload = _workload(path, config)
    if workload.hash != started.workload_hash:
        raise RunDirError(
            f"{path} tuned another {workload.name} than this version of the program or its {CONFIG} describes; use it "
            "with the version that tuned it"
        )
    return workload


def run_space(path: Path, workload: Workload, started: Started, additions: Sequence[str]) -> Space:
    """The space that the run in the directory `path` searched.

    Raises:
        RunDirError: nothing can be compiled for its target.
    """
    target = started.target
    if unknown := unknown_target_keys(target):
        raise RunDirError(
            f"{path / JOURNAL}, line 1: the target sets {', '.join(unknown)}, which no run does; restore the journal"
        )
    try:
        tvm.target.Target(target)
        if target["kind"] == "llvm":
            typed(_CpuTarget, target)
    except _TVM_ERRORS as error:
        raise RunDirError(
            f"{path / JOURNAL}, line 1: nothing can be compiled for the target {target}; restore the journal"
        ) from error
    return Space(workload.module, target, additions)


def _workload(path: Path, config: Mapping[str, Any]) -> Workload:
    if not (path / PROGRAM).exists():
        try:
            return rebuild(typed(_Workload, config.get("workload")))
        except ValueError as error:
            raise RunDirError(f"{path / CONFIG} is not the configuration of a run ({error}); restore it") from error
    try:
        own = typed(_Own, read_json(path / PROGRAM))
        return rebuild({**own, "inputs": own["inputs"] and str(path / INPUTS)})
    except _TVM_ERRORS as error:
        raise RunDirError(f"{path / PROGRAM} does not hold a kernel ({error}); restore it") from error
