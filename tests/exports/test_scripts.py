"""The exported scripts: Python imports them, and they give the identical program."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:  # it imports TVM
    from colt_pipeline.job import Job

pytestmark = pytest.mark.tvm


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file as a module; TVM's parser looks for it among those that are imported."""
    spec = importlib.util.spec_from_file_location(f"exported_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec.loader.exec_module(module)
    return module


def winner(job: Job) -> tuple[Any, Any]:
    """The base module and the best scheduled module of a run."""
    best = job.state.best
    assert best is not None
    candidate = job.state.programs[best.program]
    program = job.world.space.load(candidate.program, candidate.trace)
    return job.workload.module, program.schedule.mod


def test_both_scripts_give_the_identical_program(job: Job, export: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tvm_ffi

    base, scheduled = winner(job)
    steps = imported(export / "schedule.py", monkeypatch)
    assert tvm_ffi.structural_equal(imported(export / "scheduled.py", monkeypatch).Module, scheduled)
    assert tvm_ffi.structural_equal(steps.Module, base)
    assert tvm_ffi.structural_equal(steps.scheduled(), scheduled)
    assert not tvm_ffi.structural_equal(steps.scheduled(), base)


def test_a_program_with_metadata_survives(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tvm
    import tvm_ffi

    from colt_pipeline.exports.rendering import render
    from colt_pipeline.exports.scripts import script

    _, scheduled = winner(job)
    constant = tvm.runtime.tensor(np.arange(3, dtype="float32"))
    module = tvm.IRModule({"main": scheduled["main"].with_attr("constant", constant)})
    imports, program = script(module)
    assert "metadata" in program
    path = tmp_path / "scheduled.py"
    of_kernel = {"function": "f", "target": "llvm", "vector_math": False}
    path.write_text(render("scheduled.py.j2", **of_kernel, imports=imports, program=program))
    found = imported(path, monkeypatch).Module
    assert np.array_equal(found["main"].attrs["constant"].numpy(), constant.numpy())
    assert tvm_ffi.structural_equal(found["main"].body, module["main"].body, map_free_vars=True)
