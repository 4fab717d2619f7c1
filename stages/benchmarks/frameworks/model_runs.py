"""Runs of whole models that a benchmark makes: whether one is finished, and the kernels that it found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tvm

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.exports.winner import read_winner
from colt_pipeline.measurement.backend import Backend
from colt_pipeline.runs.layout import WHOLE_MODEL, run_directory
from colt_pipeline.runs.rundir import read_json
from colt_pipeline.whole_model.job import tune


def directory(config: Config) -> Path:
    """Where a run's files are."""
    return run_directory(config.results, config.experiment, config.run)


def summaries(configs: Sequence[Config], tuning: bool, backend: Backend) -> list[dict[str, Any]]:
    """What came of each run, in numbers.

    Args:
        configs: the runs.
        tuning: whether to make or resume those that are not finished.
        backend: the device that latencies must come from.

    Raises:
        ConfigError: one is not finished, or was made on another device.
        ColtError: one cannot be made.
    """
    found = []
    for config in configs:
        path = directory(config) / WHOLE_MODEL
        summary = read_json(path) if path.exists() else tune(config).summary if tuning else None
        if summary is None or summary["device"] != backend.device.slug:
            raise ConfigError(
                f"{directory(config)} is no finished run on {backend.device.slug}; add --tune, or name another "
                "directory with --runs"
            )
        found.append(summary)
    return found


def best_modules(run: Path) -> dict[str, tvm.IRModule]:
    """Kernel -> its fastest program, for a finished run of a model; those that no schedule made faster are left out.

    Raises:
        ColtError: the runs of the kernels do not fit together.
    """
    tasks = read_json(run / WHOLE_MODEL)["tasks"]
    faster = [task["task"] for task in tasks if task["best_secs"] < task["unoptimized_secs"]]
    return {name: read_winner(run / name).program.schedule.mod for name in faster}
