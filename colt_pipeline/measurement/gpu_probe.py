"""What the CUDA driver says of this machine's first GPU: ``python -m colt_pipeline.measurement.gpu_probe``.

It prints one JSON line: the fields of `Facts`, or {"fatal": message}. This is a process of its own because forks of a
process that has initialized the driver cannot use it. It creates no context, so it does not disturb kernels.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from colt_pipeline.errors import DeviceError

DRIVER = "libcuda.so.1"
_NVML = "libnvidia-ml.so.1"
_NO_DEVICE = 100
_CLOCK_RATE, _MULTIPROCESSORS, _MAJOR, _MINOR = 13, 16, 75, 76  # CUdevice_attribute
_TEXT_BYTES = 256


@dataclass(frozen=True)
class Facts:
    """The first visible GPU and its driver."""

    name: str
    arch: str
    """As in sm_90."""
    multiprocessors: int
    clock_khz: int
    total_bytes: int
    free_bytes: int
    """`total_bytes` where the driver's management library is missing."""
    cuda: int
    """The newest CUDA that the driver supports, as in 13000 for 13.0."""


class _MemoryInfo(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def facts() -> Facts:
    """Ask the driver.

    Raises:
        DeviceError: no driver is installed, or it fails to start or finds no GPU.
    """
    try:
        driver = ctypes.CDLL(DRIVER)
    except OSError as error:
        raise DeviceError(f"this machine has no CUDA GPU: its driver, {DRIVER}, is not installed") from error
    status = driver.cuInit(0)
    if status == _NO_DEVICE or (status == 0 and _number(driver.cuDeviceGetCount) == 0):
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = "" if visible is None else f"; CUDA_VISIBLE_DEVICES={visible} may hide it"
        raise DeviceError(f"this machine's CUDA driver finds no GPU; see nvidia-smi{hidden}")
    if status:
        raise DeviceError(
            f"this machine's CUDA driver does not start: cuInit gave error {status} ({_error_name(driver, status)}); "
            "see nvidia-smi"
        )
    device = _number(driver.cuDeviceGet, 0)

    def attribute(key: int) -> int:
        return _number(driver.cuDeviceGetAttribute, key, device)

    total = ctypes.c_size_t()
    driver.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    return Facts(
        name=_text(lambda buffer, size: driver.cuDeviceGetName(buffer, size, device)),
        arch=f"sm_{attribute(_MAJOR)}{attribute(_MINOR)}",
        multiprocessors=attribute(_MULTIPROCESSORS),
        clock_khz=attribute(_CLOCK_RATE),
        total_bytes=total.value,
        free_bytes=_free(_text(lambda buffer, size: driver.cuDeviceGetPCIBusId(buffer, size, device)), total.value),
        cuda=_number(driver.cuDriverGetVersion),
    )


def _free(bus: str, total: int) -> int:
    """Free memory, from the management library, because the driver itself answers only within a context."""
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return total
    handle, memory = ctypes.c_void_p(), _MemoryInfo()
    if (
        nvml.nvmlInit_v2()
        or nvml.nvmlDeviceGetHandleByPciBusId_v2(bus.encode(), ctypes.byref(handle))
        or nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    ):
        return total
    return min(int(memory.free), total)  # of a slice (MIG), NVML knows only the whole


def _number(ask: Callable[..., int], *arguments: int) -> int:
    number = ctypes.c_int()
    ask(ctypes.byref(number), *arguments)
    return number.value


def _text(ask: Callable[[Any, int], int]) -> str:
    buffer = ctypes.create_string_buffer(_TEXT_BYTES)
    ask(buffer, _TEXT_BYTES)
    return buffer.value.decode()


def _error_name(driver: Any, status: int) -> str:
    name = ctypes.c_char_p()
    driver.cuGetErrorName(status, ctypes.byref(name))
    return (name.value or b"unknown").decode()


def main() -> None:
    try:
        print(json.dumps(asdict(facts())))
    except DeviceError as error:
        print(json.dumps({"fatal": str(error)}))


if __name__ == "__main__":
    main()
