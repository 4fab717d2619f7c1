"""The machine that measures: its target and its fingerprint. Neither holds a host name or a path."""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tvm

from colt_pipeline.errors import ConfigError


@dataclass(frozen=True)
class Device:
    """A device that runs kernels, by what influences latency."""

    facts: dict[str, Any]
    """CPU model, usable cores, LLVM CPU name, TVM version."""

    @property
    def slug(self) -> str:
        """A short name for directories and captions: processor, LLVM CPU, cores."""
        words = f"{self.facts['cpu']} {self.facts['mcpu']} {self.facts['cores']}c"
        return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def host_cpu() -> Device:
    """This machine's CPU."""
    return Device(
        {
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "mcpu": str(tvm.target.codegen.llvm_get_system_cpu()),
            "tvm": version("apache-tvm"),
        }
    )


def cpu_target(device: Device, cores: int, mcpu: str) -> dict[str, Any]:
    """TVM's target for `device`; `cores` 0 and `mcpu` "" mean as detected.

    Raises:
        ConfigError: more cores than the device has.
    """
    if cores > device.facts["cores"]:
        raise ConfigError(f"target.cores={cores}, but this machine offers {device.facts['cores']}; use 0 for all")
    return {"kind": "llvm", "num-cores": cores or device.facts["cores"], "mcpu": mcpu or device.facts["mcpu"]}


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()
