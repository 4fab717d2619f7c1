"""Devices, described by what influences latency, and CPU targets. Neither contains host names or paths."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tvm

from colt_pipeline.config.schema import GpuConfig, RpcConfig, TargetConfig
from colt_pipeline.errors import ConfigError, RecordingError
from colt_pipeline.stack import usable_cores

_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
CUDA_LOCK = "cuda-0"
"""Name of the lock of this machine's first CUDA GPU."""


@dataclass(frozen=True)
class Device:
    """A source of latencies, described by what influences them."""

    facts: dict[str, Any]
    """``kind`` (cpu, gpu, rpc or estimate), names, cores, threads, frequency governor, TVM version."""

    @classmethod
    def recorded(cls, facts: dict[str, Any], path: Path) -> Device:
        """The device that the header of the ledger `path` describes.

        Raises:
            RecordingError: facts are missing.
        """
        device = cls(facts)
        try:
            _ = device.slug
        except KeyError as error:
            raise RecordingError(f"{path}, line 1: device lacks {error}, or is of unknown kind; restore it") from error
        return device

    @property
    def slug(self) -> str:
        """A short name for directories and captions."""
        f = self.facts
        words = {
            "cpu": lambda: f"{f['cpu']} {f['mcpu']} {f['cores']}c",
            "gpu": lambda: f"{f['gpu']} {f['arch']}",
            "rpc": lambda: f"rpc {f['key']} {f['arch']}",
            "estimate": lambda: f"estimate {f['gpu']} {f['arch']}",
        }[self._kind]()
        return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")

    @property
    def lock(self) -> str:
        """Name of the lock shared by all processes that use this device, however they describe it."""
        return {"cpu": "cpu", "gpu": CUDA_LOCK}.get(self._kind) or self.slug

    @property
    def shared_by_kernel(self) -> bool:
        """Whether processes take turns at each kernel rather than at each batch: a GPU is not disturbed by builds."""
        return self._kind == "gpu"

    @property
    def _kind(self) -> str:
        return str(self.facts.get("kind", "cpu"))


def host_cpu(cores: int = 0) -> Device:
    """This machine's CPU with `cores` threads; 0 = all usable cores.

    Raises:
        ConfigError: more cores than the device has.
    """
    usable = usable_cores()
    if cores > usable:
        raise ConfigError(f"target.cores={cores}, but only {usable} cores are usable here; use 0 for all")
    return Device(
        {
            "kind": "cpu",
            "cpu": _cpu_model(),
            "cores": usable,
            "threads": cores or usable,
            "mcpu": str(tvm.target.codegen.llvm_get_system_cpu()),
            "governor": _GOVERNOR.read_text().strip() if _GOVERNOR.exists() else "unreadable",
            "tvm": version("apache-tvm"),
        }
    )


def rpc_device(settings: RpcConfig, target: TargetConfig, server: Mapping[str, Any]) -> Device:
    """The servers of a tracker, described by one of them, see `server_facts`; those with one key are equal."""
    facts = {"kind": "rpc", "key": settings.key, "tvm": version("apache-tvm")}
    if target.kind == "cuda":
        return Device({**facts, **server, "arch": target.arch or server["arch"]})
    return Device({**facts, "arch": target.mcpu or server["arch"], "threads": target.cores or server["threads"]})


def estimated_gpu(gpu: GpuConfig, arch: str, model: int) -> Device:
    """Not a physical device: version `model` of a formula applied to a GPU's data sheet."""
    sheet = {**vars(gpu), "arch": arch or gpu.arch}
    return Device(
        {"kind": "estimate", "gpu": gpu.name, "arch": sheet["arch"], "model": model, "sheet": sheet}
        | {"tvm": version("apache-tvm")}
    )


def cpu_target(threads: int, mcpu: str) -> dict[str, Any]:
    """TVM's target for a CPU.

    Raises:
        ConfigError: LLVM does not know `mcpu`.
    """
    target = {"kind": "llvm", "num-cores": threads, "mcpu": mcpu}
    with tvm.target.Target({"kind": "llvm"}):
        known = {str(name) for name in tvm.target.codegen.llvm_get_cpu_archlist()}
    if mcpu not in known:
        raise ConfigError(f"target.mcpu={mcpu} is unknown to LLVM; leave it empty to use this machine's")
    return target


def describe(target: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """A target in words, for prompts."""
    if target["kind"] == "llvm":
        return f"CPU through LLVM, mcpu {target['mcpu']}, {target['num-cores']} cores"
    return (
        f"GPU through CUDA, {facts.get('gpu', 'NVIDIA')}, {target['arch']}, at most "
        f"{target['max_threads_per_block']} threads and {target['max_shared_memory_per_block'] >> 10} KiB of shared "
        "memory per block"
    )


def hardware(target: Mapping[str, Any], l2_kib: int) -> str:
    """What else a model that makes decisions is told about the target; "" for a GPU, whose limits `describe` states."""
    if target["kind"] != "llvm":
        return ""
    has = partial(tvm.target.codegen.target_has_features, target=tvm.target.Target(dict(target)))
    lanes, registers = (16, 32) if has("avx512f") else (8, 16) if has("avx") else (4, 16)
    return f"vectors of {lanes} float32, {registers} vector registers, {l2_kib} KiB of L2 cache per core"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if found:
            return found.group(1).strip()
    return platform.processor() or platform.machine()
