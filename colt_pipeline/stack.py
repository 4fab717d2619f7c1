"""What this machine offers: compatible packages (checked before TVM is imported) and usable cores.

With apache-tvm 0.27.0, tvm-ffi 0.1.15 or later imports fine but then crashes the process in MetaSchedule's TuneContext;
an unpinned install of apache-tvm pulls it in.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from colt_pipeline.errors import StackError

_FFI = "apache-tvm-ffi"
_FFI_BELOW = Version("0.1.15")
_WAY_OUT = "Install with the pins: pip install -c constraints.txt -e ."


def check() -> None:
    """Check that the installed packages are compatible.

    Raises:
        StackError: apache-tvm, a compatible apache-tvm-ffi or xgboost is missing; the message says what to install.
    """
    found = _versions("apache-tvm", _FFI)
    if Version(found[_FFI]) >= _FFI_BELOW:
        raise StackError(
            f"{_FFI} {found[_FFI]} crashes apache-tvm {found['apache-tvm']}; it needs {_FFI}<{_FFI_BELOW}. {_WAY_OUT}"
        )
    _versions("xgboost-cpu")


def require() -> None:
    """Like `check`, but exit with the message; for the top of modules that import TVM."""
    try:
        check()
    except StackError as error:
        raise SystemExit(f"error: {error}") from None
    _import_tvm_without_torch()


def _import_tvm_without_torch() -> None:
    """Import TVM without PyTorch, which it would import wherever that is installed.

    That takes seconds, and asking PyTorch whether there is a GPU initializes CUDA; what is forked from such a process,
    as every measured kernel is, cannot use the GPU.
    """
    imported = sys.modules.get("torch")
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("tvm")
    finally:
        del sys.modules["torch"]
        if imported is not None:
            sys.modules["torch"] = imported


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError as error:
            raise StackError(f"the package {package} is not installed. {_WAY_OUT}") from error
    return found
