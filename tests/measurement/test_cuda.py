"""CUDA targets, and compilers that are missing or lack something, with fakes of nvcc and NVRTC."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.measurement.cuda import compilable_cuda_target, compiler, cuda_target

pytestmark = pytest.mark.tvm

FakeNvcc = Callable[..., Path]


@pytest.fixture
def fake_nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeNvcc:
    """A PATH with only an nvcc that does this, and the programs named."""

    def make(script: str, *others: str) -> Path:
        for name in ("nvcc", *others):
            program = tmp_path / name
            program.write_text(f"#!/bin/sh\n{script if name == 'nvcc' else ''}\n")
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("NVCC_CCBIN", raising=False)
        return tmp_path

    return make


@pytest.fixture
def fake_nvrtc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Callable[[], Any] | None], Path]:
    """No nvcc, but cuda-bindings (None: not installed), and an empty CUDA toolkit."""

    def make(architectures: Callable[[], Any] | None) -> Path:
        bindings, nvrtc = ModuleType("cuda.bindings"), ModuleType("cuda.bindings.nvrtc")
        if architectures is not None:
            nvrtc.nvrtcGetSupportedArchs = architectures  # type: ignore[attr-defined]
            bindings.nvrtc = nvrtc  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
        monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
        monkeypatch.setenv("PATH", "")
        monkeypatch.setenv("CUDA_PATH", str(tmp_path))
        return tmp_path

    return make


def headers(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_target_has_the_limits_of_every_architecture() -> None:
    target = cuda_target("sm_75")
    assert (target["arch"], target["max_threads_per_block"], target["host"]) == ("sm_75", 1024, {"kind": "llvm"})
    with pytest.raises(ConfigError, match="target.arch=turing is not a CUDA architecture; write it like sm_90"):
        cuda_target("turing")


def test_an_architecture_that_nvcc_lacks_is_named(fake_nvcc: FakeNvcc) -> None:
    fake_nvcc('[ "$1" = --list-gpu-code ] && echo "sm_100\nsm_90"', "gcc")
    with pytest.raises(ConfigError, match="sm_75 is unknown to the installed nvcc, which compiles for sm_90, sm_100$"):
        compilable_cuda_target("sm_75")
    assert compilable_cuda_target("sm_90a")["arch"] == "sm_90a"
    assert compiler() == "nvcc"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "echo 'libfoo.so is missing' >&2; exit 127",
            "nvcc --list-gpu-code fails: libfoo.so is missing; repair the CU",
        ),
        (
            "exit 0",
            "nvcc --list-gpu-code fails: it printed nothing; repair the CUDA toolkit, or take nvcc off the PATH",
        ),
        ("echo sm_90", "nvcc needs a C\\+\\+ compiler, but gcc is not on the PATH; install g\\+\\+, or set NVCC_CCBIN"),
    ],
)
def test_an_nvcc_that_is_of_no_use_is_described(fake_nvcc: FakeNvcc, script: str, message: str) -> None:
    fake_nvcc(script)
    with pytest.raises(DeviceError, match=message):
        compilable_cuda_target("sm_90")


def test_a_host_compiler_may_be_set(fake_nvcc: FakeNvcc, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvcc("echo sm_90")
    monkeypatch.setenv("NVCC_CCBIN", "clang++")
    assert compilable_cuda_target("sm_90")["arch"] == "sm_90"


def _no_library() -> Any:
    raise RuntimeError("Failure finding libnvrtc.so")


@pytest.mark.parametrize(
    ("architectures", "message"),
    [
        (None, "no CUDA compiler was found: put nvcc on the PATH, or install cuda-bindings"),
        (_no_library, "cuda-bindings does not find NVRTC's library .libnvrtc.; pip install nvidia-cuda-nvrtc, or"),
        (lambda: (5, []), "NVRTC does not list its architectures: error 5; reinstall nvidia-cuda-nvrtc"),
        (lambda: (0, [90]), "NVRTC needs CUDA's headers, but cuda_runtime.h is not below .*; set CUDA_PATH to a CUDA"),
    ],
)
def test_an_nvrtc_that_is_of_no_use_is_described(
    fake_nvrtc: Callable[[Any], Path], architectures: Any, message: str
) -> None:
    fake_nvrtc(architectures)
    assert compiler() == "NVRTC"
    with pytest.raises(DeviceError, match=message):
        compilable_cuda_target("sm_90")


def test_nvrtc_needs_both_parts_of_the_headers(fake_nvrtc: Callable[[Any], Path]) -> None:
    toolkit = fake_nvrtc(lambda: (0, [75, 90]))
    headers(toolkit / "include", "cuda_runtime.h")
    with pytest.raises(DeviceError, match="cuda/std/cstdint is not below"):
        compilable_cuda_target("sm_90")
    headers(toolkit / "include", "cuda/std/cstdint")
    assert compilable_cuda_target("sm_75")["arch"] == "sm_75"
    with pytest.raises(ConfigError, match="target.arch=sm_86 is unknown to the installed NVRTC, which .* sm_75, sm_90"):
        compilable_cuda_target("sm_86")


def test_no_toolkit_for_nvrtc_is_named(fake_nvrtc: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise RuntimeError("Cannot find CUDA path")

    fake_nvrtc(lambda: (0, [90]))
    monkeypatch.setattr("colt_pipeline.measurement.cuda.find_cuda_path", none)
    with pytest.raises(DeviceError, match="NVRTC needs CUDA's headers, but no CUDA toolkit was found; set CUDA_PATH"):
        compilable_cuda_target("sm_90")
