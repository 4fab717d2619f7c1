"""Runs what an export holds as its user would: where neither TVM nor this project may be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_ALONE = (
    "import builtins, runpy, sys\n"
    "real = builtins.__import__\n"
    "def guarded(name, *rest):\n"
    "    assert name.split('.')[0] not in ('tvm', 'colt_pipeline'), name\n"
    "    return real(name, *rest)\n"
    "builtins.__import__ = guarded\n"
    "sys.argv = sys.argv[1:]\n"
    "try:\n"
    "    runpy.run_path('run.py', run_name='__main__')\n"
    "finally:\n"
    "    assert 'libtvm_compiler' not in open('/proc/self/maps').read()\n"
)


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python run.py``, without TVM's compiler."""
    command = [sys.executable, "-c", _ALONE, "run.py", *arguments]
    environment = {"PATH": os.environ["PATH"]}
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, env=environment)


def build(directory: Path) -> None:
    """Build the C++ program, as its head says."""
    head = (directory / "main.cc").read_text().split("\n\n")[0]
    lines = [line.removeprefix("//   ") for line in head.splitlines() if line.startswith("//   ")]
    script = "\n".join(line for line in lines if line != "./main")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "TVM_FFI_DISABLE_TORCH_C_DLPACK": "1"}
    subprocess.run(["bash", "-ec", script], cwd=directory, check=True, env=environment, capture_output=True)


def run_built(directory: Path) -> subprocess.CompletedProcess[str]:
    """``./main``."""
    return subprocess.run(["./main"], cwd=directory, capture_output=True, text=True, check=False)
