"""The compile table: every program goes to the compiler, and a failure is a row, not an end."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tvm

from colt_pipeline.errors import ConfigError, DeviceError, SpaceError
from colt_pipeline.measurement.cuda import cuda_target
from colt_pipeline.space import Space
from stages.benchmarks.gpu import compiled
from stages.benchmarks.gpu.plan import Plan

pytestmark = pytest.mark.tvm

WORKLOAD = "deepseek_r1_moe"
"""Its space is the fastest to sample."""


@pytest.fixture
def compilers(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A compiler that only notes what it is given, with the architecture that TVM would ask it for."""
    given: list[dict[str, Any]] = []

    def compile_cuda(source: str, **options: Any) -> bytearray:
        given.append({"source": source, "arch": str(tvm.target.Target.current().attrs["arch"]), **options})
        return bytearray(b"code")

    monkeypatch.setattr(compiled, "compile_cuda", compile_cuda)
    monkeypatch.setattr(compiled, "compilable_cuda_target", cuda_target)
    monkeypatch.setattr(compiled, "compiler", lambda: "NVRTC")
    return given


def test_the_unoptimized_program_and_samples_are_compiled(compilers: list[dict[str, Any]]) -> None:
    row = compiled.compile_row(WORKLOAD, "sm_86", samples=2)
    assert (row["workload"], row["arch"], row["programs"], row["compiled"]) == (WORKLOAD, "sm_86", 3, 3)
    assert (row["compiler"], row["failure"]) == ("NVRTC", "")
    assert len({each["source"] for each in compilers}) == 3
    assert all('extern "C" __global__' in each["source"] for each in compilers)
    assert {(each["arch"], each["target_format"], each["compiler"]) for each in compilers} == {
        ("sm_86", "cubin", "nvrtc")
    }


def test_samples_are_drawn_until_there_are_enough(
    compilers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw, asked = Space.initial, list[int]()

    def one_at_a_time(space: Space, count: int, rng: Any) -> Any:
        asked.append(count)
        if len(asked) == 2:
            raise SpaceError("no valid initial program")
        return draw(space, 1, rng)

    monkeypatch.setattr(Space, "initial", one_at_a_time)
    assert compiled.compile_row(WORKLOAD, "sm_75", samples=2)["programs"] == 3
    assert asked == [2, 2, 2]


def test_a_program_that_does_not_compile_is_counted(
    compilers: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: str, **options: Any) -> bytearray:
        raise RuntimeError(source + "\nCompilation error:\nptxas error: too much shared data")

    monkeypatch.setattr(compiled, "compile_cuda", fail)
    row = compiled.compile_row(WORKLOAD, "sm_75", samples=1)
    assert (row["programs"], row["compiled"], row["failure"]) == (2, 0, "ptxas error: too much shared data")


def test_an_architecture_that_the_compiler_lacks_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(arch: str) -> Any:
        raise ConfigError(f"target.arch={arch} is unknown to the installed nvcc")

    monkeypatch.setattr(compiled, "compilable_cuda_target", unknown)
    row = compiled.compile_row(WORKLOAD, "sm_75")
    assert (row["programs"], row["failure"]) == (0, "target.arch=sm_75 is unknown to the installed nvcc")
    assert set(row) == {"workload", "arch", "programs", "compiled", "compiler", "secs_per_program", "failure"}


def test_only_a_dry_run_does_without_a_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(workloads: Any, space: str) -> Any:
        raise DeviceError("no CUDA compiler was found")

    monkeypatch.setattr(compiled, "compile_table", missing)
    plan = Plan(out=tmp_path, results=tmp_path, dry=True, deadline=0.0)
    assert compiled.rows(plan) == []
    assert "nothing was compiled: no CUDA compiler was found" in capsys.readouterr().err
    with pytest.raises(DeviceError, match="no CUDA compiler"):
        compiled.rows(replace(plan, dry=False))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
def test_the_installed_compiler_makes_machine_code() -> None:
    row = compiled.compile_row(WORKLOAD, "sm_75", samples=1)
    assert (row["programs"], row["compiled"], row["compiler"], row["failure"]) == (2, 2, "nvcc", "")
