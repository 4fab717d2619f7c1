"""Workloads read from their configuration, and written as files that can be used without this project's code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tvm
import yaml

from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.workload import Workload


def read_workloads(conf: Path) -> Iterator[Workload]:
    """The workload that each YAML file in `conf` describes by name and shape; a user's own kernel is none of them.

    Raises:
        ConfigError: a name or shape is invalid.
    """
    for path in sorted(conf.glob("*.yaml")):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "source" not in config:
            yield build(config["name"], config["shape"])


def facts(workload: Workload) -> dict[str, Any]:
    """What is known about a workload before tuning."""
    return {
        "name": workload.name,
        "shape": workload.shape,
        "hash": workload.hash,
        "flop": workload.flop,
        "rtol": workload.rtol,
        "parameters": [asdict(parameter) for parameter in workload.parameters],
        "outputs": [workload.parameters[i].name for i in workload.outputs],
    }


def write_workload(workload: Workload, directory: Path) -> None:
    """Write NAME.json (module), NAME.txt (TVMScript) and NAME.facts.json, creating the directory if needed."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{workload.name}.json").write_text(tvm.ir.save_json(workload.module) + "\n")
    (directory / f"{workload.name}.txt").write_text(workload.text + "\n")
    (directory / f"{workload.name}.facts.json").write_text(json.dumps(facts(workload), indent=1) + "\n")
