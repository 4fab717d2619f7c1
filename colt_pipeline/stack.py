"""What this machine offers: compatible packages (checked before TVM is imported) and usable cores.

With apache-tvm 0.27.0, tvm-ffi 0.1.15 or later imports fine but then crashes the process in MetaSchedule's TuneContext;
an unpinned install of apache-tvm pulls it in.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path, PurePath

from packaging.version import Version

from colt_pipeline.errors import StackError

_FFI = "apache-tvm-ffi"
_FFI_BELOW = Version("0.1.15")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
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
    """Number of cores that this process may use: by its affinity mask, and by the CPU quota of its container."""
    allowed = len(os.sched_getaffinity(0))
    return min(allowed, max(1, math.floor(min(_quotas(), default=allowed))))  # more threads than that are throttled


def _quotas() -> Iterator[float]:
    """The CPU quotas of this process's control groups and of all groups above them, in cores."""
    try:
        groups = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return  # not Linux, or no /proc
    for _, controllers, own in (line.split(":", 2) for line in groups):
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has a single hierarchy, which lists no controllers.
        mounts = ("cpu", controllers) if controllers else ("", "unified")
        for mount, level in product(mounts, (PurePath(own), *PurePath(own).parents)):
            # In a container the path may be the host's, of which only the root is mounted.
            quota = _quota(_GROUPS / mount / str(level).lstrip("/"))
            if quota is not None:
                yield quota


def _quota(group: Path) -> float | None:
    """Quota / period of a control group of version 2 or 1; None if it has no limit."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = (int(part) for name in names for part in (group / name).read_text().split())
        except (OSError, ValueError):
            continue  # no such file, or "max"
        return quota / period if quota > 0 and period > 0 else None
    return None


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError as error:
            raise StackError(f"the package {package} is not installed. {_WAY_OUT}") from error
    return found
