"""CUDA targets, and the compiler that TVM calls for them: nvcc, or NVRTC through cuda-bindings where there is none."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

from tvm.support.nvcc import find_cuda_path

from colt_pipeline.errors import ConfigError, DeviceError

Compiler = Literal["nvcc", "NVRTC"]

_ARCH = re.compile(r"sm_\d{2,3}[af]?")

# What one block may use on every CUDA architecture since sm_50, static shared memory included (CUDA C++ Programming
# Guide, compute capabilities). TVM's space and verification read these names.
_CUDA_LIMITS = {
    "max_num_threads": 1024,
    "max_shared_memory_per_block": 48 << 10,
    "max_threads_per_block": 1024,
    "registers_per_block": 64 << 10,
    "thread_warp_size": 32,
}

_HEADERS = ("cuda_runtime.h", "cuda/std/cstdint")
"""Included by what TVM gives NVRTC."""


def cuda_target(arch: str) -> dict[str, Any]:
    """TVM's target for a CUDA GPU.

    Raises:
        ConfigError: `arch` is not a CUDA architecture.
    """
    if not _ARCH.fullmatch(arch):
        raise ConfigError(f"target.arch={arch} is not a CUDA architecture; write it like sm_90")
    return {"kind": "cuda", "arch": arch, **_CUDA_LIMITS, "host": {"kind": "llvm"}}


def compilable_cuda_target(arch: str) -> dict[str, Any]:
    """Like `cuda_target`, for kernels that are compiled on this machine.

    Raises:
        ConfigError: `arch` is not a CUDA architecture, or the installed compiler does not know it.
        DeviceError: there is no CUDA compiler, or it lacks something.
    """
    target, name = cuda_target(arch), compiler()
    known = _nvcc_architectures() if name == "nvcc" else _nvrtc_architectures()
    if arch.rstrip("af") not in known:
        others = ", ".join(sorted(known, key=lambda sm: int(sm.removeprefix("sm_"))))
        raise ConfigError(f"target.arch={arch} is unknown to the installed {name}, which compiles for {others}")
    return target


def compiler() -> Compiler:
    """The compiler that TVM calls (measurer.py chooses it likewise)."""
    return "nvcc" if shutil.which("nvcc") else "NVRTC"


def _nvcc_architectures() -> set[str]:
    """The architectures that nvcc compiles for.

    Raises:
        DeviceError: nvcc does not run, or has no host compiler.
    """
    nvcc = shutil.which("nvcc")
    assert nvcc is not None
    done = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.split():
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it printed nothing"]
        raise DeviceError(
            f"{nvcc} --list-gpu-code fails: {said[0]}; repair the CUDA toolkit, or take nvcc off the PATH"
        )
    if shutil.which("gcc") is None and "NVCC_CCBIN" not in os.environ:
        raise DeviceError("nvcc needs a C++ compiler, but gcc is not on the PATH; install g++, or set NVCC_CCBIN")
    return set(done.stdout.split())


def _nvrtc_architectures() -> set[str]:
    """The architectures that NVRTC compiles for.

    Raises:
        DeviceError: cuda-bindings, NVRTC's library or CUDA's headers are missing.
    """
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise DeviceError("no CUDA compiler was found: put nvcc on the PATH, or install cuda-bindings") from error
    try:
        status, archs = nvrtc.nvrtcGetSupportedArchs()
    except RuntimeError as error:
        raise DeviceError(
            "nvcc is not on the PATH, and cuda-bindings does not find NVRTC's library (libnvrtc); pip install "
            "nvidia-cuda-nvrtc, or put the folder that holds it on LD_LIBRARY_PATH"
        ) from error
    if int(status):
        raise DeviceError(f"NVRTC does not list its architectures: error {int(status)}; reinstall nvidia-cuda-nvrtc")
    _check_headers()
    return {f"sm_{arch}" for arch in archs}


def _check_headers() -> None:
    """Check for the headers where TVM lets NVRTC look.

    Raises:
        DeviceError: there are none.
    """
    way_out = "set CUDA_PATH to a CUDA toolkit, whose include folder holds them"
    try:
        root = Path(find_cuda_path())
    except RuntimeError as error:
        raise DeviceError(f"NVRTC needs CUDA's headers, but no CUDA toolkit was found; {way_out}") from error
    own = root / "targets" / f"{platform.machine()}-{platform.system().lower()}" / "include"
    for header in _HEADERS:
        if not any((folder / header).is_file() for folder in (root / "include", own, own / "cccl")):
            raise DeviceError(f"NVRTC needs CUDA's headers, but {header} is not below {root}; {way_out}")
