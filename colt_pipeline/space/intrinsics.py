"""Registers the tensor intrinsics that CPU targets need, and no others.

MetaSchedule imports all of them in every TuneContext. Parsing the CUDA ones takes 15 to 30 s of CPU time, those of
other CPU architectures 2 s more. CPU targets never use them, nor do float32 kernels on GPUs. Marking a module as
already imported before the package is imported keeps it from being parsed.
"""

from __future__ import annotations

import importlib
import platform
import sys
import types

_PACKAGE = "tvm.s_tir.tensor_intrin"
_NOT_FOR_CPUS = ("cuda", "metal", "rocm", "hexagon")
_OF_OTHER_CPUS = ("arm_cpu", "riscv_cpu") if platform.machine().lower() in ("x86_64", "amd64") else ()


def register() -> None:
    """Register the intrinsics, once per process."""
    if _PACKAGE not in sys.modules:
        for name in (*_NOT_FOR_CPUS, *_OF_OTHER_CPUS):
            sys.modules[f"{_PACKAGE}.{name}"] = types.ModuleType(name)
    importlib.import_module(_PACKAGE)
