"""A call of TVM's as this project's configuration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tvm

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.from_python import configuration, kernel_file, target_keys
from colt_pipeline.measurement.devices import host_cpu
from colt_pipeline.measurement.ledger import RUNNER, read_header
from colt_pipeline.runs.layout import JOURNAL, recordings_of, run_directory

_FROM_TVM = {
    "samples": "max_trials_global",
    "minutes": "max_trials_global",
    "workload": "the module",
    "target": "target",
    "search.sample": "TVM, whose trials are measured programs,",
}
"""Keys that the call of TVM determines, and by what."""


def configured(
    name: str,
    module: tvm.IRModule,
    target: tvm.target.Target,
    trials: int,
    batch: int,
    overrides: dict[str, Any],
    scratch: Path,
) -> Config:
    """The task as a run of a kernel of one's own, whose file is written into `scratch`."""
    for key in overrides:
        if by := _FROM_TVM.get(key, _FROM_TVM.get(key.partition(".")[0])):
            raise ConfigError(f"Colt({key}=...): in TVM's own tuning, {by} determines it")
    if trials < 2:
        raise ConfigError(f"{trials} trials leave none for the search, because the first is the unoptimized program")
    source = kernel_file(scratch, name, module["main"])
    _check_cpu(target)
    given = {"workload": "own", "workload.source": source, "samples": trials - 1, **target_keys(target)}
    given["search.sample"] = "program"
    config = configuration({**given, **overrides})
    if config.device not in ("auto", "local"):
        raise ConfigError(f"Colt(device={config.device!r}): in TVM's own tuning, the runner determines the device")
    return replace(config, search=replace(config.search, batch_size=min(config.search.batch_size, batch)))


def recorded_runner(config: Config) -> str | None:
    """Who measured what is recorded of this run; None if nothing is, and this run would be the first."""
    journal = run_directory(config.results, config.experiment, config.run) / JOURNAL
    if config.record.mode == "all" and not journal.exists():
        return None
    for path in recordings_of(config.results, config.experiment, config.run):
        if header := read_header(path):
            return str(header["evaluator"].get(RUNNER, ""))
    return "" if config.record.mode == "replay" else None


def _check_cpu(target: tvm.target.Target) -> None:
    """Check that `target` is a CPU whose threads and instructions are known.

    Raises:
        ConfigError: it is not.
    """
    if target.kind.name != "llvm" or not {"mcpu", "num-cores"} <= {str(name) for name in target.attrs}:
        here = host_cpu().facts
        raise ConfigError(
            f"strategy=Colt tunes for CPUs, whose target has mcpu and num-cores; it is {target}. For this machine give "
            f'target={{"kind": "llvm", "mcpu": "{here["mcpu"]}", "num-cores": {here["threads"]}}}'
        )
