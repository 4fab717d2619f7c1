"""The GPU, its driver and the software that a result depends on."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from colt_pipeline.errors import ConfigError
from colt_pipeline.measurement.backend import BACKENDS
from colt_pipeline.runs.layout import recordings_in, recordings_of
from colt_pipeline.stack import usable_cores
from stages.benchmarks.gpu.plan import Plan

_QUERY = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,power.limit,persistence_mode"
_PACKAGES = ("apache-tvm", "apache-tvm-ffi", "xgboost-cpu", "numpy", "torch", "cuda-bindings")


def facts(plan: Plan) -> dict[str, Any]:
    """Device, target, driver, compilers, packages and cores; it also checks that the check can run.

    Raises:
        ConfigError: there are no runs, or they are recorded from another device.
        DeviceError: the GPU, the CUDA compiler or the memory that the check needs is missing.
    """
    if not plan.configs:
        raise ConfigError("there is nothing to search: name at least one workload and one experiment")
    # Workloads differ in the memory that they need.
    (backend, *_) = [BACKENDS[plan.device](c) for c in {c.workload.name: c for c in plan.configs}.values()]
    _check_recordings(plan, backend.device.slug)
    return {
        "device": backend.device.facts,
        "latencies": plan.latencies,
        "target": backend.target,
        "nvidia-smi": _said(["nvidia-smi", f"--query-gpu={_QUERY}", "--format=csv,noheader"]),
        "nvcc": _release(_said(["nvcc", "--version"])),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "cores": usable_cores(),
    }


def _check_recordings(plan: Plan, slug: str) -> None:
    """Check that the runs will be recorded from this device only, because a replay takes no choice.

    Raises:
        ConfigError: there is a recording of another device.
    """
    recordings = recordings_in(plan.results)
    for config in plan.configs:
        for path in recordings_of(plan.results, config.experiment, config.run):
            found = path.relative_to(recordings).parts[0]
            if found != slug:
                raise ConfigError(
                    f"{recordings} holds {config.experiment} as recorded on {found}, and this is {slug}; choose "
                    "another directory for the recordings of this check with --results=DIR"
                )


def _said(command: list[str]) -> str:
    """What a command prints; "" if it is not installed or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode else done.stdout.strip()


def _release(text: str) -> str:
    found = re.search(r"release ([\d.]+)", text)
    return found.group(1) if found else ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
