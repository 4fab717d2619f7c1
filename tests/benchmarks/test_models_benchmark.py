"""Whole models beside other frameworks: the sitting of a tiny one, and tables from made-up times."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.config.compose import composed
from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.measurement.backend import Backend, local
from colt_pipeline.records import Measurement
from colt_pipeline.runs.layout import WHOLE_MODEL
from stages.benchmarks import llama, models
from stages.benchmarks.frameworks import model_chart, model_runs, model_sitting, whole_models
from stages.benchmarks.frameworks.sitting import Timed

pytestmark = pytest.mark.tvm

TINY = """
def tiny():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16)), (torch.randn(8, 16),)
"""
QUICK = ("search.batch_size=2", "search.initial_programs=2", "measure.confirm=1", "measure.builders=1")
MADE_UP_SECS = {"untuned": 9.0, "tuned_3": 0.3, "tuned_7": 0.2, "eager": 0.4, "compiled": 0.1, "onnxruntime": 0.2}
FACTS = {"space": "extended", "search": "made up", "llm": "stand-in LLMs", "threads": 2, "device": "Some CPU"}


def made_up() -> dict[str, Timed]:
    return {side: Timed("as it is", secs, 1e-7) for side, secs in MADE_UP_SECS.items()}


def made_up_row(name: str = "some_model") -> dict[str, Any]:
    return models.row(name, made_up(), (3, 7), [{"samples": 3}, {"samples": 8}]) | FACTS


def test_a_row_has_every_side_and_ratios_to_the_longest_run() -> None:
    row = made_up_row()
    assert (row["untuned_ms"], row["tuned_3_ms"], row["tuned_7_ms"]) == (9000, 300, 200)
    assert (row["eager/tuned_7"], row["compiled/tuned_7"], row["onnxruntime/tuned_7"]) == (2.0, 0.5, 1.0)
    assert row["samples"] == "3, 8" and row["eager_layout"] == "as it is" and row["eager_error"] == 1e-7


def test_the_chart_shows_every_side_but_the_untuned_one(tmp_path: Path) -> None:
    rows = [made_up_row("first"), made_up_row("second")]
    models._draw(rows, 7, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models.png", "models.svg"]
    assert b"Some CPU, 2 threads" in (tmp_path / "models.svg").read_bytes()
    data = model_chart.chart_data(rows, ["tuned_3", "eager"], "tuned_7")
    assert dict(zip(data["side"], data["ratio"], strict=True)) == {"tuned_3": pytest.approx(1.5), "eager": 2.0}


def test_what_is_slow_is_timed_a_few_times_and_the_rest_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def side(name: str, secs: float) -> model_sitting.Side:
        def run() -> None:
            calls.append(name)
            time.sleep(secs)

        return model_sitting.Side(name, "", run, lambda: pytest.fail("it is only timed"))

    monkeypatch.setattr(model_sitting, "_SLOW_SECS", 0.2)
    slow, quick = model_sitting.timed([side("slow", 0.3), side("quick", 0.001)], 2)
    assert slow > 0.2 > quick and calls.count("slow") == 3 < calls.count("quick")


def test_a_result_unlike_pytorchs_is_an_error() -> None:
    import numpy as np

    expected = np.ones((2, 2), np.float32)
    side = model_sitting.Side("tuned_7", "", lambda: None, lambda: expected * np.float32(1.01))
    with pytest.raises(DeviceError, match="tuned_7 : relative error 0.01 to PyTorch"):
        model_sitting.checked(side, expected)
    assert model_sitting.checked(model_sitting.Side("eager", "", lambda: None, lambda: expected), expected) == 0


def test_a_run_must_be_finished_and_of_this_device(tmp_path: Path) -> None:
    backend = local(composed([]))
    config = llama._run(tmp_path, True, 8, [])
    with pytest.raises(ConfigError, match="is no finished run on"):
        model_runs.summaries([config], False, backend)
    path = model_runs.directory(config) / WHOLE_MODEL
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"device": "another"}))
    with pytest.raises(ConfigError, match="add --tune"):
        model_runs.summaries([config], True, backend)
    path.write_text(json.dumps({"device": backend.device.slug}))
    assert model_runs.summaries([config], True, backend) == [{"device": backend.device.slug}]


@pytest.mark.parametrize("package", models._PACKAGES)
def test_a_missing_package_is_a_message(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "find_spec", lambda name: None if name == package else object())
    assert models.main(["--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"error: {package} not installed" in error and "-e '.[models]'" in error
    assert models.main(["--models", "resnet", "--out", str(tmp_path)]) == 1
    assert "--models=resnet is unknown" in capsys.readouterr().err


def test_every_model_is_a_function_of_the_file() -> None:
    assert all(callable(getattr(whole_models, name)) for name in models.MODELS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # within PyTorch and its export
def test_a_tiny_model_is_tuned_and_compared_and_each_row_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("torch", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, exc_type=ImportError)
    source = tmp_path / "tiny_models.py"
    source.write_text(TINY)
    monkeypatch.setattr(models, "SOURCE", source)
    monkeypatch.setattr(models, "MODELS", ("tiny",))
    monkeypatch.setattr(models, "_PACKAGES", ("torch",))
    monkeypatch.setattr(models, "_SHOWN", ("torch",))
    given = ["--models", "tiny", "--samples", "4,6", "--rounds", "1", "--runs", str(tmp_path / "runs"), *QUICK]
    assert models.main([*given, "--out", str(tmp_path / "out")]) == 1
    assert "is no finished run" in capsys.readouterr().err
    assert models.main([*given, "--tune", "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    (header, row) = (tmp_path / "out" / "models.csv").read_text().splitlines()
    assert header.startswith("model,untuned_ms,tuned_4_ms,tuned_6_ms,eager_ms,compiled_ms,onnxruntime_ms,")
    assert row.startswith("tiny,")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["models.csv", "models.png", "models.svg"]


def task(name: str, cold_secs: float | None) -> dict[str, Any]:
    numbers = {"weight": 2, "samples": 4, "unoptimized_secs": 9.0, "best_secs": 0.1, "cold_secs": cold_secs}
    return {"task": name, "shape": "made up", "role": "tuned", "packed": [1] if cold_secs else [], **numbers}


def summary(*tasks: dict[str, Any]) -> dict[str, Any]:
    secs = {"tuned_secs": 0.5, "tuned_sum_secs": 0.4, "max_relative_error": 1e-6}
    made_up = {"space": ["vector_math"], "search": "made up", "llm_backend": "embedded"}
    return {"samples": 8, "tasks": tasks, **secs, **made_up}


def test_sums_with_cold_caches_take_warm_ones_where_nothing_else_is_known() -> None:
    known = llama.row("packed", summary(task("a", 0.3), task("b", None)))
    assert (known["whole_ms"], known["kernels_warm_ms"], known["kernels_cold_ms"]) == (500, 400, 800)
    assert (known["kernels"], known["kernels_with_cold"]) == (2, 1)
    assert llama.row("as they are", summary(task("a", None), task("b", None)))["kernels_cold_ms"] is None


def test_llama_is_tuned_in_both_settings_and_measured_untuned_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def summaries(configs: list[Any], tuning: bool, backend: Backend) -> list[dict[str, Any]]:
        asked.extend(configs)
        return [summary(task("a", 0.3 if configs[0].prepack else None))]

    def measured(workload: Any, prepack: bool, modules: Any, target: Any, settings: Any) -> list[Measurement]:
        assert not modules and settings.run_timeout_secs > 3600 and settings.min_repeats == 1
        return [Measurement((1234.0,), max_relative_error=1e-6)]

    monkeypatch.setattr(llama, "summaries", summaries)
    monkeypatch.setattr(llama, "measure_model", measured)
    given = ["--out", str(tmp_path / "out"), "--runs", str(tmp_path), "--samples", "32"]
    assert llama.main([*given, "--untuned", "seed=3"]) == 0
    assert [config.prepack for config in asked] == [False, True] and asked[0].run != asked[1].run
    assert {(c.samples, c.seed, c.kernels, c.measure.builders) for c in asked} == {(32, 3, "roofline", 1)}
    lines = (tmp_path / "out" / "llama.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [*llama.SETTINGS, "untuned"]
    assert len((tmp_path / "out" / "llama_kernels.csv").read_text().splitlines()) == 3
