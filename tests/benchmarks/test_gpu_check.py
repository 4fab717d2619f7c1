"""The GPU check without a GPU: its parts on computed latencies, what it leaves behind, and what it refuses."""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from colt_pipeline.config.compose import composed
from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement import backend
from stages.benchmarks.gpu import __main__ as check
from stages.benchmarks.gpu import agreement, faults, latencies, searches, with_torch
from stages.benchmarks.gpu.__main__ import PARTS, main
from stages.benchmarks.gpu.plan import Plan

pytestmark = [pytest.mark.tvm, pytest.mark.slow]

SMALL = ["--workloads", "deepseek_r1_moe", "--experiments", "gpu_measured", "--samples", "3", "--dry-run"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def dry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a dry run of the parts with searches and their tables."""
    out = tmp_path_factory.mktemp("check")
    assert main(["--out", str(out), "--parts", "faults,torch,searches,latencies,agreement", *SMALL]) == 0
    return out


def test_every_search_ends_and_nothing_looks_measured(dry: Path) -> None:
    rows = table(dry / "searches.csv")
    assert len(rows) == 5 and {row["ended"] for row in rows} == {"budget"}
    assert {row["samples"] for row in rows} == {"3"} and {row["latencies"] for row in rows} == {"estimated"}
    facts = json.loads((dry / "device.json").read_text())
    assert facts["latencies"] == "estimated" and facts["device"]["kind"] == "estimate"
    assert not (dry / "torch.csv").exists() and not (dry / "faults.csv").exists()


def test_programs_found_again_in_recordings_agree_with_themselves(dry: Path) -> None:
    (row,) = table(dry / "agreement.csv")
    assert int(row["programs"]) >= 3 and float(row["kendall_tau"]) == 1.0
    assert float(row["median_measured/estimate"]) == 1.0 and row["latencies"] == "estimated"


def test_tables_are_made_again_without_a_device(dry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise AssertionError("a device was asked for")

    for name in backend.BACKENDS:
        monkeypatch.setitem(backend.BACKENDS, name, none)
    before = (dry / "agreement.csv").read_text()
    (dry / "agreement.csv").unlink()
    monkeypatch.setattr(check, "PARTS", {**PARTS, "agreement": serial})
    assert main(["--out", str(dry), "--parts", "agreement", *SMALL]) == 0
    assert (dry / "agreement.csv").read_text() == before
    assert {row["part"] for row in table(dry / "times.csv")} >= {"searches", "agreement"}


def serial(plan: Plan) -> object:
    """The agreement in this process, where the device is out of reach."""
    found: agreement.Pairs = {}
    for config in plan.recorded:
        found |= agreement.compared(config)
    return [agreement._row(plan.workloads[0], found, plan.latencies)]


def test_the_same_command_measures_nothing_twice(dry: Path) -> None:
    assert main(["--out", str(dry), "--parts", "searches", *SMALL]) == 0
    assert {row["measured_here"] for row in table(dry / "searches.csv")} == {"0"}


def test_after_the_time_limit_no_batch_begins(tmp_path: Path) -> None:
    plan = Plan(tmp_path, tmp_path, True, time.monotonic(), ("deepseek_r1_moe",), ("gpu_measured",), samples=3)
    row = searches._run(plan, plan.configs[0])
    assert row["ended"] == "time limit" and row["samples"] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("fit", "expected"), [(100, (4, 2)), (5, (2, 2)), (2, (1, 2)), (1, (1, 1))])
def test_searches_side_by_side_fit_into_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fit: int, expected: tuple[int, int]
) -> None:
    plan = Plan(tmp_path, tmp_path, False, math.inf, ("deepseek_r1_moe",), ("gpu_measured",))
    monkeypatch.setattr(Plan, "processes", 4)
    monkeypatch.setattr(searches, "kernels_that_fit", lambda data: fit)
    assert searches.side_by_side(plan) == expected


def test_a_search_whose_last_batch_ends_late_has_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(tmp_path, tmp_path, True, math.inf, ("deepseek_r1_moe",), ("gpu_measured",), samples=3)
    config = plan.configs[0]
    late = iter([False, True])  # before the search, and after its only batch
    monkeypatch.setattr(Plan, "late", property(lambda plan: next(late)))
    assert searches._run(plan, config)["ended"] == "budget"


def test_estimates_do_not_replace_measurements(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "device.json").write_text('{"latencies": "measured"}')
    assert main(["--out", str(tmp_path), "--parts", "latencies", *SMALL]) == 1
    assert "holds measured latencies, not estimated ones; choose another directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["device.json"]


def test_recordings_of_another_device_are_not_added_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A replay, which the tables are made from, would not know which of the two to take."""
    config = Plan(tmp_path, tmp_path, True, math.inf, ("deepseek_r1_moe",), ("gpu_measured",), samples=3).configs[0]
    there = tmp_path / "recordings" / "nvidia-h200-sm-90" / config.experiment / config.run / "measurements.jsonl"
    there.parent.mkdir(parents=True)
    there.touch()
    assert main(["--out", str(tmp_path), *SMALL]) == 1
    said = capsys.readouterr().err
    assert "holds gpu_measured as recorded on nvidia-h200-sm-90, and this is estimate-" in said and "--results=" in said


def test_tables_without_runs_say_what_they_lack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--parts", "latencies", *SMALL]) == 0
    assert "latencies: nothing to write; no run of gpu_searches has ended" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["times.csv"]


def test_an_output_that_is_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["--out", str(tmp_path / "file"), *SMALL]) == 1
    assert "/file cannot be created: File exists; choose another directory" in capsys.readouterr().err


def test_unknown_parts_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--out", str(tmp_path), "--parts", "torhc", *SMALL]) == 1
    said = capsys.readouterr().err
    assert "--parts=torhc is unknown" in said and "torch" in said


def test_without_a_gpu_it_says_so_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> None:
        raise DeviceError("this machine has no CUDA GPU")

    monkeypatch.setitem(backend.BACKENDS, "local", absent)
    assert main(["--out", str(tmp_path), *SMALL[:-1]]) == 1
    assert "this machine has no CUDA GPU" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_faulty_kernels_are_bound_to_threads() -> None:
    for _, make in faults.FAULTS.values():
        assert 'thread="threadIdx.x"' in str(faults.bound(make()).script())


def test_a_pytorch_that_fails_costs_its_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # an import fails
    measure = composed([]).measure
    row = with_torch._row("flux_conv", {}, measure)
    assert row["torch_ms"] is None and "torch" in str(row["failure"])
    finds_none = SimpleNamespace(__version__="2.11", cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", finds_none)
    other = with_torch._row("flux_conv", {}, measure)
    assert other["failure"] == "PyTorch finds no CUDA GPU" and list(other) == list(row)


def test_latencies_stand_side_by_side_and_what_is_missing_is_empty() -> None:
    summaries: dict[str, Mapping[str, object]] = {
        "colt": {"baseline_secs": 0.008, "best_secs": 0.002, "budget_samples": 24, "llm_backend": "embedded"},
        "evolutionary": {"baseline_secs": 0.008, "best_secs": None, "budget_samples": 24, "llm_backend": "none"},
    }
    row = latencies.row("w", "measured", summaries, {"torch_ms": "1.0", "torch_tf32_ms": ""})
    assert row["unoptimized/colt"] == 4.0 and row["torch/colt"] == 0.5
    assert row["llm"] == "embedded" and row["evolutionary_ms"] is None and row["torch_tf32/colt"] is None


def test_what_should_not_be_is_said_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = {"workload": "w", "arch": "sm_75", "programs": 5, "compiled": 4}
    monkeypatch.setattr(check, "PARTS", {**PARTS, "compiled": lambda _: [bad, {**bad, "compiled": 5}]})
    assert main(["--out", str(tmp_path), "--parts", "compiled", *SMALL]) == 1
    assert "1 of compiled.csv" in capsys.readouterr().err
    assert len(table(tmp_path / "compiled.csv")) == 2
