"""This machine's CUDA GPU, and what measuring on it needs: driver, CUDA runtime, memory.

Nothing here initializes the driver in this process: see gpu_probe.py.
"""

from __future__ import annotations

import ctypes
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm.support.nvcc import find_cuda_path

from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.measurement.devices import Device
from colt_pipeline.measurement.gpu_probe import DRIVER, Facts
from colt_pipeline.stack import usable_cores

RUNTIME = "libcudart.so.13"
"""What this TVM's part for CUDA GPUs links besides the driver."""
_TVM_PART = "libtvm_runtime_cuda.so"
_PROBE_SECS = 60.0
_CONTEXT_BYTES = 512 << 20
"""What a process with a CUDA context takes on the GPU besides its data."""


def host_gpu(arch: str) -> Device:
    """This machine's first CUDA GPU, usable from TVM; `arch` "" = detected.

    Raises:
        DeviceError: there is none, or driver or runtime are missing or do not fit together.
        ConfigError: code for `arch` does not run on it.
    """
    gpu = driver_facts()
    load_runtime()
    _check_versions(gpu.cuda)
    if arch and not _runs(arch, gpu.arch):
        raise ConfigError(
            f"code for target.arch={arch} does not run on this machine's {gpu.name} ({gpu.arch}); leave it empty"
        )
    return Device(
        {
            "kind": "gpu",
            "gpu": gpu.name,
            "arch": arch or gpu.arch,
            "multiprocessors": gpu.multiprocessors,
            "clock_khz": gpu.clock_khz,
            "tvm": version("apache-tvm"),
        }
    )


@lru_cache(maxsize=1)
def driver_facts() -> Facts:
    """What the driver says, asked once.

    Raises:
        DeviceError: no driver is installed, or it fails to start, does not answer or finds no GPU.
    """
    command = [sys.executable, "-m", "colt_pipeline.measurement.gpu_probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_PROBE_SECS)
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"this machine's CUDA driver gave no answer in {_PROBE_SECS:g} s; see nvidia-smi, or restart the machine"
        ) from error
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise DeviceError(f"asking this machine's CUDA driver for its GPU failed: {said[0]}; see nvidia-smi")
    answer: dict[str, Any] = json.loads(done.stdout)
    if "fatal" in answer:
        raise DeviceError(answer["fatal"])
    return Facts(**answer)


def load_runtime() -> None:
    """Load TVM's part for CUDA GPUs if ``import tvm`` could not, which says nothing when a library is missing.

    The dynamic linker does not look for the CUDA runtime in Python packages and in CUDA's own folder; this does.

    Raises:
        DeviceError: a library is missing.
    """
    if tvm_ffi.get_global_func("device_api.cuda", allow_missing=True) is not None:
        return
    if not _loads(DRIVER):
        raise DeviceError(f"this machine's CUDA driver cannot be loaded ({DRIVER} was not found)")
    if not _loads(RUNTIME) and not any(_loads(str(path)) for path in _runtimes()):
        raise DeviceError(
            f"a CUDA driver is installed, but TVM finds no CUDA runtime ({RUNTIME}); pip install nvidia-cuda-runtime, "
            "or put the folder that holds it on LD_LIBRARY_PATH"
        )
    part = Path(tvm.__file__).parent / "lib" / _TVM_PART
    try:
        ctypes.CDLL(str(part))
    except OSError as error:
        raise DeviceError(
            f"the installed apache-tvm cannot use CUDA GPUs: {Path(str(error)).name}; install it from the index with "
            "pip install -c constraints.txt apache-tvm"
        ) from error


def builders_that_fit(data_bytes: int, builders: int) -> int:
    """How many builders may hold a kernel's data on the GPU at once; 0 = one per core, which fit.

    Args:
        data_bytes: what one kernel needs there.
        builders: the number asked for, as in ``measure.builders``.

    Raises:
        DeviceError: not even one fits.
        ConfigError: fewer fit than asked for.
    """
    fit = kernels_that_fit(data_bytes)
    if builders > fit:
        raise ConfigError(
            f"measure.builders={builders} do not fit: {_sizes(data_bytes)}; use measure.builders={fit}, or 0"
        )
    return builders or (fit if fit < usable_cores() else 0)


def kernels_that_fit(data_bytes: int) -> int:
    """How many kernels, each in a process of its own, may hold their data on the GPU at once; at least 1.

    Raises:
        DeviceError: not even one fits.
    """
    fit = driver_facts().free_bytes // (_CONTEXT_BYTES + data_bytes)
    if not fit:
        raise DeviceError(
            f"no kernel of this workload fits: {_sizes(data_bytes)}; stop what uses the GPU, or choose smaller shapes"
        )
    return fit


def _sizes(data_bytes: int) -> str:
    gpu = driver_facts()
    return (
        f"each needs {_mib(_CONTEXT_BYTES + data_bytes)} MiB of GPU memory, and {_mib(gpu.free_bytes)} of "
        f"{_mib(gpu.total_bytes)} MiB are free on this machine's {gpu.name}"
    )


def _mib(size: int) -> int:
    return size >> 20


def _check_versions(driver_cuda: int) -> None:
    """Check that the driver is not older than the CUDA runtime.

    Within one major version any driver runs the machine code that compilers of another minor version produce.

    Raises:
        DeviceError: it is.
    """
    number = ctypes.c_int()
    ctypes.CDLL(RUNTIME).cudaRuntimeGetVersion(ctypes.byref(number))
    if driver_cuda // 1000 < number.value // 1000:
        raise DeviceError(
            f"this machine's CUDA driver supports CUDA {_dotted(driver_cuda)}, but TVM's CUDA runtime is "
            f"{_dotted(number.value)}; update NVIDIA's driver"
        )


def _dotted(cuda: int) -> str:
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def _runs(arch: str, gpu: str) -> bool:
    """Whether a GPU executes machine code for `arch`: the same major version, and a minor version up to its own."""
    wanted, own = re.fullmatch(r"sm_(\d+)(\d)([af]?)", arch), re.fullmatch(r"sm_(\d+)(\d)", gpu)
    if wanted is None or own is None:
        return True  # cuda_target reports a malformed architecture
    if wanted[3] == "a":
        return wanted.groups()[:2] == own.groups()
    return wanted[1] == own[1] and wanted[2] <= own[2]


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _runtimes() -> Iterator[Path]:
    """CUDA runtimes in NVIDIA's Python packages, then the one of the CUDA toolkit."""
    packages = find_spec("nvidia")
    for folder in [] if packages is None else packages.submodule_search_locations or []:
        yield from sorted(Path(folder).glob(f"*/lib/{RUNTIME}"))
    with suppress(RuntimeError):  # there is no CUDA toolkit
        yield Path(find_cuda_path()) / "lib64" / RUNTIME
