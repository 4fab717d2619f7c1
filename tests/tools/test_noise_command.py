"""The noise command: real measurements of one schedule, a record that the analysis reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.analysis.noise import read_noise
from colt_pipeline.errors import DeviceError, RecordingError, RunDirError
from colt_pipeline.measurement.measurer import LocalMeasurer
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.tools.noise import main, observe
from tests.small_runs import TINY
from tests.support import Compose, Recorded

pytestmark = pytest.mark.tvm

SMALL = ("workload=deepseek_r1_moe", "workload.shape.inner=128", "workload.shape.outer=64", "measure.builders=1")


def test_one_schedule_is_measured_again_and_again(composed: Compose) -> None:
    config = composed(*SMALL)
    directory = observe([config], minutes=0.05)
    (noise,) = read_noise(directory).to_dict("records")
    assert noise["workload"] == "deepseek_r1_moe" and noise["errors"] == 0
    assert noise["measurements"] >= 3
    assert 0 < noise["median_secs"] < 0.1
    (path,) = directory.glob("*/deepseek_r1_moe.jsonl")
    header, *lines = read_lines(path)
    assert header["measurement"] == "measured" and header["device"]["tvm"]
    assert len({line["program"] for line in lines}) == 1


def test_the_best_recorded_schedule_is_the_one_to_observe(composed: Compose, recorded: Recorded) -> None:
    job, config = recorded(*TINY), composed(*SMALL)
    shutil.copytree(job.config.results, config.results)
    assert job.state.best is not None
    directory = observe([config], minutes=0.01)
    (path,) = directory.glob("*/*.jsonl")
    header, first, *_ = read_lines(path)
    assert first["program"] == job.state.best.program
    assert config.measure.vector_math and "vector_math" not in header["evaluator"], "as the run measured it"


def plant(instruction: list[Any]) -> Callable[[Path], object]:
    def planted(path: Path) -> None:
        best = json.loads(path.read_text())
        best["trace"][0].append(instruction)
        path.write_text(json.dumps(best))

    return planted


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "llvm": ("best.json", plant(["Annotate", ["b0", '"declare\n"'], ["pragma_import_llvm"], []]), "pragma_import_llvm"),
    "absent": ("best.json", lambda path: path.unlink(), "No such file"),
    "deep": ("best.json", lambda path: path.write_text("[" * 100_000), "is broken"),
    "no trace": ("best.json", lambda path: path.write_text('{"workload_hash": "", "target": {}}'), "trace"),
    "number": ("summary.json", lambda path: path.write_text("1"), "holds a value of type int"),
    "binary": ("summary.json", lambda path: path.write_bytes(b"\xff\x00"), "is broken"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_run_is_named_and_nothing_is_built(
    composed: Compose, recorded: Recorded, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name, spoil, message = BROKEN[what]
    config = composed(*SMALL)
    shutil.copytree(recorded(*TINY).config.results, config.results)
    (path,) = Path(config.results).rglob(name)
    spoil(path)
    monkeypatch.setattr(LocalMeasurer, "measure", lambda *_: pytest.fail("something was to be measured"))
    with pytest.raises((RecordingError, RunDirError), match=f"(?s){name}.*{message}"):
        observe([config], minutes=0.01)


def test_estimates_have_no_noise(composed: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeviceError, match="so they have no noise"):
        observe([composed(*SMALL, "target=h100", "device=estimate")], minutes=0.01)
    assert main(["--workload", "flux_conv", "device=estimate", f"results={tmp_path}"]) == 1
    assert "estimates need a GPU's data sheet" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.jsonl"))
