"""A call of TVM's as this project's configuration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import tvm

from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.measurement.devices import host_cpu
from colt_pipeline.measurement.ledger import RUNNER, read_header
from colt_pipeline.records import canonical_json
from colt_pipeline.runs.layout import JOURNAL, recordings_of, run_directory

_LONGEST_NAME = 80
_FROM_TVM = {
    "samples": "max_trials_global",
    "workload": "the module",
    "target": "target",
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
        if by := _FROM_TVM.get(key.partition(".")[0]):
            raise ConfigError(f"Colt({key}=...): in TVM's own tuning, {by} determines it")
    if trials < 2:
        raise ConfigError(f"{trials} trials leave none for the search, because the first is the unoptimized program")
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:_LONGEST_NAME]
    source = scratch / f"{stem}.json"
    source.write_text(placeless(module["main"]))
    quoted = str(source).replace("\\", "\\\\").replace("'", "\\'")
    given = {"workload": "own", "workload.source": f"'{quoted}'", "samples": trials - 1, **target_keys(target)}
    config = composed([f"{key}={_written(value)}" for key, value in {**given, **overrides}.items()])
    if config.device not in ("auto", "local"):
        raise ConfigError(f"Colt(device={config.device!r}): in TVM's own tuning, the runner determines the device")
    return replace(config, search=replace(config.search, batch_size=min(config.search.batch_size, batch)))


def placeless(program: tvm.tirx.PrimFunc) -> str:
    """JSON of a program without the lines of source code that it comes from, which would be part of the run's name."""
    graph = json.loads(tvm.ir.save_json(program))
    graph["nodes"].append({"type": "None"})
    for node in graph["nodes"]:
        if isinstance(node.get("data"), dict) and "span" in node["data"]:
            node["data"]["span"] = len(graph["nodes"]) - 1
    return str(tvm.ir.save_json(tvm.ir.load_json(json.dumps(graph))))  # without the nodes that are now unused


def _written(value: Any) -> str:
    """A value as the command line has it."""
    return canonical_json(value) if value is None or isinstance(value, bool) else str(value)


def recorded_runner(config: Config) -> str | None:
    """Who measured what is recorded of this run; None if nothing is, and this run would be the first."""
    journal = run_directory(config.results, config.experiment, config.run) / JOURNAL
    if config.record.mode == "all" and not journal.exists():
        return None
    for path in recordings_of(config.results, config.experiment, config.run):
        if header := read_header(path):
            return str(header["evaluator"].get(RUNNER, ""))
    return "" if config.record.mode == "replay" else None


def target_keys(target: tvm.target.Target) -> dict[str, Any]:
    """The keys of conf/target that describe `target`.

    Raises:
        ConfigError: it is not a CPU, or has attributes that the search does not know.
    """
    attributes = {str(name): value for name, value in target.attrs.items()}
    if attributes.get("mtriple") == tvm.target.Target("llvm").attrs.get("mtriple"):
        attributes.pop("mtriple", None)  # TVM adds this machine's
    here = host_cpu().facts
    example = f'{{"kind": "llvm", "mcpu": "{here["mcpu"]}", "num-cores": {here["threads"]}}}'
    if target.kind.name != "llvm" or attributes.keys() != {"mcpu", "num-cores"}:
        given = ", ".join([str(target.kind.name), *(f"{name}={value}" for name, value in sorted(attributes.items()))])
        raise ConfigError(
            f"strategy=Colt tunes for CPUs, whose target has mcpu and num-cores and no other attribute; it is {given}. "
            f"For this machine give target={example}"
        )
    return {"target": "cpu", "target.cores": int(attributes["num-cores"]), "target.mcpu": str(attributes["mcpu"])}
