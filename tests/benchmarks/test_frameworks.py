"""The kernels in other frameworks compute the same as ours; tables and charts of a comparison."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colt_pipeline.config.compose import composed
from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement.backend import local
from colt_pipeline.measurement.bench import relative_error
from colt_pipeline.workloads.catalogue import WORKLOADS, build
from colt_pipeline.workloads.reference import computed
from colt_pipeline.workloads.workload import Workload
from stages.benchmarks import Row, limits, programs, torch
from stages.benchmarks.frameworks import chart, sitting
from stages.benchmarks.frameworks.onnx_models import MODELS, session
from stages.benchmarks.frameworks.pytorch import VERSIONS, compiled
from stages.benchmarks.frameworks.sitting import SIDES, Timed
from stages.benchmarks.limits import Limits
from tests.support import SMALL

pytestmark = pytest.mark.tvm

SMALL_OWN: dict[str, dict[str, int]] = {
    "bert_large_attention": {"heads": 2, "tokens": 12, "dim": 8},
    "rmsnorm_gated_mlp": {"tokens": 3, "hidden": 16, "inner": 24},
    "pointwise_conv_relu": {"channels": 8, "filters": 16, "size": 6},
    "strided_conv_relu": {"channels": 8, "filters": 16, "size": 7},
    "layernorm_matmul_gelu": {"rows": 3, "hidden": 16, "columns": 24},
}
MACHINE = Limits(flop_per_sec=100e9, memory_bytes_per_sec=10e9, cache_bytes_per_sec=40e9, cache_bytes=1 << 20)


def small(kernel: str) -> Workload:
    if kernel in programs.OWN:
        make: Callable[..., programs.Kernel] = programs.OWN[kernel]
        return make(**SMALL_OWN[kernel]).workload(kernel)
    return build(kernel, SMALL[kernel])


@pytest.mark.parametrize(
    "kernel",
    [
        *(partial(programs.OWN[name], **sizes) for name, sizes in SMALL_OWN.items()),
        partial(programs.softmax, 3, 8),
        partial(programs.depthwise_5x5, 3, 6),
    ],
    ids=[*SMALL_OWN, "softmax", "depthwise_5x5"],
)
def test_a_program_computes_its_reference(kernel: Callable[[], programs.Kernel]) -> None:
    workload = kernel().workload("small")
    inputs = workload.inputs()
    (found,), (expected,) = computed(workload.main, inputs), workload.expected(inputs)
    assert found.shape == expected.shape and relative_error(found, expected) < 1e-6


def test_every_kernel_is_in_every_framework() -> None:
    assert VERSIONS.keys() == MODELS.keys() == {*WORKLOADS, *programs.OWN} == {*torch.KERNELS}


@pytest.mark.parametrize("kernel", torch.KERNELS)
def test_pytorch_computes_the_kernel_in_every_layout(kernel: str) -> None:
    pytest.importorskip("torch", exc_type=ImportError)
    module = importlib.import_module("torch")
    workload = small(kernel)
    inputs = workload.inputs()
    (expected,) = workload.expected(inputs)
    versions = VERSIONS[kernel](module, *map(module.from_numpy, inputs))
    assert len({version.label for version in versions}) == len(versions) > 0
    for version in versions:
        found = version.arranged(version.run(*version.activations, *version.weights)).numpy()
        assert found.shape == expected.shape and relative_error(found, expected) < 1e-5, version.label


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # within PyTorch
def test_compiled_pytorch_computes_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", exc_type=ImportError)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    module = importlib.import_module("torch")
    workload = small("layernorm_matmul_gelu")
    inputs = workload.inputs()
    version = VERSIONS[workload.name](module, *map(module.from_numpy, inputs))[0]
    with module.inference_mode():
        found = compiled(module, version)()
    assert relative_error(found.numpy(), workload.expected(inputs)[0]) < 1e-5


@pytest.mark.parametrize("kernel", torch.KERNELS)
def test_onnx_runtime_computes_the_kernel_with_all_operators(kernel: str) -> None:
    pytest.importorskip("onnx", exc_type=ImportError)
    pytest.importorskip("onnxruntime", exc_type=ImportError)
    workload = small(kernel)
    inputs = workload.inputs()
    (expected,) = workload.expected(inputs)
    models = MODELS[kernel](importlib.import_module("onnx"), *inputs)
    assert len({model.label for model in models}) == len(models) > 0
    for model in models:
        run, output = session(importlib.import_module("onnxruntime"), model, 1)
        run()
        assert output().shape == expected.shape and relative_error(output(), expected) < 1e-5, model.label


def test_weights_are_constants_of_the_models_and_activations_are_inputs() -> None:
    onnx = pytest.importorskip("onnx", exc_type=ImportError)
    (model,) = MODELS["rmsnorm_gated_mlp"](onnx, *small("rmsnorm_gated_mlp").inputs())
    graph = onnx.load_from_string(model.serialized).graph
    assert [value.name for value in graph.input] == ["x"] and len(graph.initializer) == 4


@pytest.mark.parametrize("package", torch._PACKAGES)
def test_a_missing_package_is_a_message(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "find_spec", lambda name: None if name == package else object())
    assert torch.main(["--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"error: {package} not installed" in error and "pip install -c constraints.txt -e '.[torch]'" in error


def test_what_cannot_be_compared_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "find_spec", lambda _: object())
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/g++")
    given = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--kernels"]
    assert torch.main([*given, "flux_convolution"]) == 1
    assert "--kernels=flux_convolution is unknown" in capsys.readouterr().err
    assert torch.main([*given, "depthwise_conv"]) == 1
    assert "holds no finished run of depthwise_conv" in capsys.readouterr().err
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert torch.main([*given, "depthwise_conv"]) == 1
    assert "torch.compile needs g++" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_wrong_result_is_an_error() -> None:
    workload = small("batched_matmul_nt")
    (expected,) = workload.expected(workload.inputs())
    right = sitting._Subject("eager", "bmm", lambda: None, lambda: expected)
    assert sitting._checked(workload, right, expected) == 0
    wrong = sitting._Subject("eager", "bmm", lambda: None, lambda: np.asarray(1.01 * expected))
    with pytest.raises(DeviceError, match=r"batched_matmul_nt, eager \(bmm\): relative error 0.01, allowed 0.0001"):
        sitting._checked(workload, wrong, expected)


def comparison(ours: float, eager: float, compiled: float, onnxruntime: float) -> sitting.Comparison:
    secs = zip(SIDES, (ours, eager, compiled, onnxruntime), strict=True)
    return {side: [Timed("one", each, 1e-7), Timed("another", 2 * each, 2e-7)] for side, each in secs}


FACTS: Row = {
    "search": "colt",
    "space": "extended",
    "llm": "stand-in LLMs",
    "samples": 64,
    "threads": 2,
    "device": "Some CPU",
}


def compared_rows() -> list[Row]:
    workloads = {name: sitting.workload_of(name) for name in ("flux_conv", "batched_matmul_nt")}
    found = {
        "flux_conv": comparison(0.002, 0.003, 0.004, 0.005),
        "batched_matmul_nt": comparison(0.002, 0.004, 0.006, 0.001),
    }
    return torch.table(workloads, found, MACHINE, [FACTS, FACTS])


def test_the_fastest_of_the_others_is_compared_with_ours() -> None:
    conv, product, mean, papers = compared_rows()
    assert (conv["best"], conv["best/ours"], conv["eager_layout"]) == ("eager", 1.5, "one")
    assert conv["eager_all_ms"] == "one 3, another 6"
    assert (product["best"], product["best/ours"], product["weights"]) == ("onnxruntime", 0.5, "none")
    assert conv["weights"] == "constants in compiled and onnxruntime"
    assert mean["best/ours"] == round((1.5 * 0.5) ** 0.5, 3)
    assert papers["best/ours"] == 1.5 and papers["roofline_share"] == pytest.approx(conv["roofline_share"], abs=1e-3)
    assert all({*row} <= {*conv} for row in (product, mean, papers))


def test_the_chart_shows_every_side_of_every_kernel_and_their_means(tmp_path: Path) -> None:
    rows = compared_rows()
    data = chart.chart_data(rows, SIDES[1:])
    ratios = {(row["kernel"], row["side"]): row["ratio"] for row in data.to_dict("records")}
    assert ratios["flux_conv", "eager"] == 1.5 and ratios["batched_matmul_nt", "onnxruntime"] == 0.5
    assert ratios["geometric mean", "compiled"] == pytest.approx((2 * 3) ** 0.5)
    assert len(data) == 3 * 3
    drawn = []
    for name in ("first", "second"):
        chart.draw(rows, SIDES[1:], tmp_path / name)
        drawn.append((tmp_path / f"{name}.svg").read_bytes())
    assert drawn[0] == drawn[1] and b"Some CPU, 2 threads" in drawn[0] and b"space=extended" in drawn[0]
    assert sorted(path.name for path in tmp_path.glob("first*")) == ["first.png", "first.svg"]


def test_a_sitting_tunes_what_is_new_and_writes_each_row_when_it_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "_check", lambda _: None)
    monkeypatch.setattr(torch, "workload_of", small)
    tuned: list[Any] = []
    monkeypatch.setattr(torch, "finish", tuned.extend)
    monkeypatch.setattr(torch, "best_run", lambda runs, *_: runs)
    monkeypatch.setattr(torch, "_facts", lambda *_: FACTS)
    monkeypatch.setattr(limits, "measured", _machine)
    written: list[int] = []

    def compared(kernel: str, *_: object) -> sitting.Comparison:
        path = tmp_path / "out" / "torch.csv"
        written.append(path.read_text().count("Some CPU") if path.exists() else 0)
        return comparison(0.001, 0.002, 0.002, 0.002)

    monkeypatch.setattr(torch, "_compared", compared)
    kernels = ["depthwise_conv", "pointwise_conv_relu"]
    arguments = ["--tune", "--samples", "4", "--kernels", ",".join(kernels), "seed=3"]
    assert torch.main([*arguments, "--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert written == [0, 1]
    assert [config.workload.name.partition("-")[0] for config in tuned] == kernels
    assert {(c.samples, c.seed, c.search.name, c.space.name) for c in tuned} == {(4, 3, "colt", "extended")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"torch.csv", "torch.svg", "torch.png"}


def _machine(*_: object) -> Limits:
    """For another process, too."""
    return MACHINE


def test_a_crash_names_the_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "_of_kernel", _crash)
    backend = local(composed([]))
    with pytest.raises(DeviceError, match="the process that compares depthwise_conv crashed"):
        torch._compared("depthwise_conv", tmp_path, tmp_path, backend, 1)


def _crash(*_: object) -> None:
    import os

    os.abort()
