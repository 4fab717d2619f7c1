"""A kernel's process: its time limit counts from when it has its device."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import tvm

from colt_pipeline.measurement.fork import Ended, Phase, in_fork
from colt_pipeline.measurement.worker import Worker
from colt_pipeline.records import Measurement
from colt_pipeline.workloads.catalogue import build, recipe
from stages.benchmarks.kernels import SHAPE, workload

pytestmark = pytest.mark.tvm

LIMIT_SECS = 0.5
WAITING = Phase(30.0, {"fatal": "the device was not free"})
RUNNING = Phase(LIMIT_SECS, {"error": "timeout"})


def test_waiting_for_the_device_is_not_running() -> None:
    def late(ended: Ended) -> Measurement:
        time.sleep(2 * LIMIT_SECS)
        ended()
        return Measurement((1.0,), max_relative_error=0.0)

    assert in_fork(late, [WAITING, RUNNING])["run_secs"] == [1.0]


def test_a_kernel_that_has_its_device_is_held_to_its_limit() -> None:
    def endless(ended: Ended) -> Measurement:
        ended()
        time.sleep(60)
        return Measurement()

    assert in_fork(endless, [WAITING, RUNNING]) == {"error": "timeout"}


def test_a_kernel_that_never_stops_talking_is_held_to_its_limit() -> None:
    def talks(ended: Ended) -> Measurement:
        while True:
            ended()

    assert in_fork(talks, [RUNNING]) == {"error": "timeout"}


def test_a_compiler_ends_with_the_build_that_called_it(tmp_path: Path) -> None:
    called = tmp_path / "pid"

    def builds(ended: Ended) -> Measurement:
        compiler = subprocess.Popen(["sleep", "60"])
        called.write_text(str(compiler.pid))
        compiler.wait()
        return Measurement()

    assert in_fork(builds, [replace(RUNNING, limit_secs=3.0)]) == {"error": "timeout"}
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(called.read_text())).wait(timeout=10)
    assert not psutil.pid_exists(int(called.read_text()))


def test_a_device_that_is_never_free_is_no_fault_of_the_kernel() -> None:
    def waits(ended: Ended) -> Measurement:
        time.sleep(60)
        return Measurement()

    never = replace(WAITING, limit_secs=LIMIT_SECS)
    assert in_fork(waits, [never, RUNNING]) == {"fatal": "the device was not free"}


def test_an_answer_before_its_last_phase_counts() -> None:
    found = in_fork(lambda ended: Measurement(error="build_error"), [WAITING, WAITING, RUNNING])
    assert found["error"] == "build_error"


def test_a_death_in_any_phase_is_a_crash() -> None:
    def dies(ended: Ended) -> Measurement:
        ended()
        os.kill(os.getpid(), signal.SIGSEGV)
        return Measurement()

    assert "SIGSEGV" in in_fork(dies, [WAITING, RUNNING])["detail"]


def test_a_long_answer_arrives_whole() -> None:
    def long(ended: Ended) -> Measurement:
        ended()
        return Measurement(error="run_error", detail="x" * (1 << 20))

    assert len(in_fork(long, [WAITING, RUNNING])["detail"]) == 1 << 20


def test_pytorch_is_not_imported_with_tvm(tmp_path: Path) -> None:
    """A stand-in for PyTorch that says when it is imported."""
    (tmp_path / "torch.py").write_text("print('PyTorch was imported')")
    code = "import colt_pipeline.measurement.worker as w, torch; print('then', w.tvm.__name__)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["PyTorch was imported", "then tvm"]
    code = "import colt_pipeline.measurement.worker"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_a_module_that_comes_again_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def counting(module: tvm.IRModule, **given: Any) -> Any:
        compiled.append(tvm.ir.save_json(module))
        return compile_(module, **given)

    compile_ = tvm.compile
    monkeypatch.setattr(tvm, "compile", counting)
    worker, first, other = Worker(), workload().module, build("deepseek_r1_moe", {**SHAPE, "outer": 32}).module
    worker.load(recipe(workload()), {"kind": "llvm"}, None)
    for name, module in enumerate((first, other, first, first)):
        assert worker.build(str(name), tvm.ir.save_json(module), 4096, False) == {"ok": True}
    assert compiled == [tvm.ir.save_json(module) for module in (first, other)]
