"""What this machine offers: packages that fit together (checked before TVM is imported), and cores.

With apache-tvm 0.27.0 a tvm-ffi of 0.1.15 or later imports well and then crashes the process in MetaSchedule's
TuneContext; a bare install of apache-tvm takes it.
"""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version

from packaging.version import Version

from colt_pipeline.errors import StackError

_FFI = "apache-tvm-ffi"
_FFI_BELOW = Version("0.1.15")
_WAY_OUT = "Install with the pins: pip install -c constraints.txt -e ."


def check() -> None:
    """Check the pairing of packages.

    Raises:
        StackError: apache-tvm, a fitting apache-tvm-ffi or xgboost is missing; the message says what to install.
    """
    found = _versions("apache-tvm", _FFI)
    if Version(found[_FFI]) >= _FFI_BELOW:
        raise StackError(
            f"{_FFI} {found[_FFI]} crashes apache-tvm {found['apache-tvm']}; it needs {_FFI}<{_FFI_BELOW}. {_WAY_OUT}"
        )
    _versions("xgboost-cpu")


def require() -> None:
    """Like `check`, but end the program with the message: for the top of modules that import TVM."""
    try:
        check()
    except StackError as error:
        raise SystemExit(f"error: {error}") from None


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError as error:
            raise StackError(f"the package {package} is not installed. {_WAY_OUT}") from error
    return found
