"""Runs that a benchmark makes itself, in a directory of its own; each command resumes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from colt_pipeline.compare import compare
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError, UnfinishedError
from colt_pipeline.from_python import configuration, kernel_file
from colt_pipeline.workloads.workload import Workload

_KERNELS = "kernels"


def own(results: Path, name: str, workload: Workload, given: dict[str, Any]) -> Config:
    """A run that tunes a kernel as a user's own, with files below `results`; `given` are further keys."""
    directory = results / _KERNELS
    directory.mkdir(parents=True, exist_ok=True)
    source = kernel_file(directory, name, workload.module)
    return configuration({"workload": "own", "workload.source": source, "results": results, **given})


def keys(overrides: Sequence[str]) -> dict[str, str]:
    """Overrides on a command line as keys of the configuration.

    Raises:
        ConfigError: one has no value.
    """
    if wrong := [override for override in overrides if "=" not in override]:
        raise ConfigError(f"{wrong[0]} is not an override; give KEY=VALUE, such as seed=1")
    return dict(override.split("=", 1) for override in overrides)


def finish(configs: Sequence[Config]) -> None:
    """Finish the runs; those of one kernel advance together, batch by batch.

    Raises:
        UnfinishedError: some failed, for reasons already printed.
    """
    if failed := compare(configs):
        raise UnfinishedError(f"{len(failed)} of {len(configs)} runs failed; the same command retries only these")
