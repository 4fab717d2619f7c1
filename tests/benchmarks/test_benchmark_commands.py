"""What the benchmark commands share: flags, exit statuses, and the table they write and print."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads import PAPER
from stages.benchmarks import (
    Row,
    additions,
    answers,
    concurrency,
    cost,
    experience,
    faults,
    growth,
    limits,
    llama,
    measurement,
    models,
    overhead,
    pace,
    queue,
    redaction,
    steps,
    strategy,
    torch,
    write_rows,
)

pytestmark = pytest.mark.tvm

RESULTS, RUNS, ATTENTION = Path("results"), Path("results/runs"), "llama3_8b_attention"
DEFAULTS: dict[ModuleType, dict[str, object]] = {
    overhead: {"results": RESULTS, "experiment": "cpu", "workloads": PAPER, "model_set": "8"},
    steps: {"workloads": PAPER, "spaces": ("tvm", "extended"), "samples": 48, "overrides": []},
    measurement: {"runs": RUNS, "experiment": "cpu", "workloads": (ATTENTION,), "candidates": 64, "passes": 3},
    faults: {"samples": 24},
    queue: {"workload": ATTENTION, "model_set": "8", "samples": 24},
    pace: {"runs": RUNS / "anytime"},
    concurrency: {
        **{"workloads": (ATTENTION, "deepseek_r1_moe", "flux_conv"), "model_set": "8", "samples": 40, "seeds": 3},
        **{"concurrency": ("1", "8"), "secs": 5.0, "overrides": []},
    },
    growth: {"workloads": (ATTENTION,), "model_set": "8", "samples": 1000, "overrides": []},
    limits: {"runs": RUNS, "workloads": (), "rounds": 7},
    torch: {
        **{"runs": Path("build/torch"), "kernels": torch.KERNELS, "rounds": 15, "tune": False, "samples": 64},
        "overrides": [],
    },
    models: {
        **{"runs": Path("build/models"), "models": models.MODELS, "rounds": 15, "tune": False, "samples": (128, 512)},
        "overrides": [],
    },
    llama: {"runs": Path("build/llama"), "samples": 256, "untuned": False, "overrides": []},
    additions: {
        **{"runs": Path("build/additions"), "switches": tuple(additions.KERNELS), "searches": additions.SEARCHES},
        **{"samples": 64, "seeds": 1, "overrides": []},
    },
    strategy: {"kernels": tuple(strategy.KERNELS), "trials": 32, "rounds": 11, "seed": 1},
    redaction: {"kib": 128, "rounds": 7},
    answers: {"results": RESULTS, "experiment": "local", "workload": ATTENTION, "prompts": 12, "overrides": []},
    experience: {"directories": experience.DIRECTORIES, "orders": 5},
    cost: {"results": RESULTS, "experiment": "cpu", "workloads": PAPER, "samples": 1000, "overrides": []},
}
"""What each benchmark measures by default."""


def name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]


@pytest.mark.parametrize("module", DEFAULTS, ids=name)
def test_a_command_takes_what_its_rows_are_made_from(module: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        module.main(["--help"])
    assert ended.value.code == 0
    usage, _, rest = capsys.readouterr().out.partition("\n\n")
    flags = {flag.replace("-", "_") for flag in re.findall(r"--([a-z-]+)", usage)}
    positional = {"overrides"} if "[overrides ...]" in usage else set()
    assert flags | positional == {"out", *inspect.signature(module.rows).parameters}
    assert rest.startswith(str(module.__doc__).splitlines()[0])


@pytest.mark.parametrize("module", DEFAULTS, ids=name)
def test_a_command_makes_its_rows_and_writes_a_file_of_its_name(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    signature = inspect.signature(module.rows)

    def rows(*values: object) -> Sequence[Row]:
        calls.append(signature.bind(*values).arguments)
        return [{"column": "value"}]

    monkeypatch.setattr(module, "rows", rows)
    assert module.main(["--out", str(tmp_path)]) == 0
    written = {"out": tmp_path} if "out" in signature.parameters else {}  # by those that write row by row
    assert calls == [DEFAULTS[module] | written]
    assert [path.name for path in tmp_path.iterdir()] == [f"{name(module)}.csv"]


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "many"])
def test_a_number_below_one_is_not_accepted(number: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        faults.main([f"--samples={number}", "--out", str(tmp_path)])
    assert ended.value.code == 2
    assert f"argument --samples: {number} is not a positive integer" in capsys.readouterr().err


def test_rows_are_written_and_shown_and_may_lack_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "some.csv"
    rows: list[Row] = [{"name": "first", "secs": 0.25}, {"name": "the second", "secs": None}, {"name": "mean"}]
    assert write_rows(lambda: rows, path) == 0
    assert path.read_text() == "name,secs\nfirst,0.25\nthe second,\nmean,\n"
    assert capsys.readouterr().out == "name        secs\nfirst       0.25\nthe second  -\nmean        -\n"


def test_an_error_is_a_message_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def failing() -> Sequence[Row]:
        raise ConfigError("this does not fit that")

    assert write_rows(failing, tmp_path / "out" / "some.csv") == 1
    assert capsys.readouterr().err == "error: this does not fit that\n"
    assert not list(tmp_path.iterdir())


def test_an_interrupt_is_a_message_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> Sequence[Row]:
        raise KeyboardInterrupt

    assert write_rows(interrupted, tmp_path / "out" / "some.csv") == 130
    assert capsys.readouterr().err == "interrupted; no table was written\n"
    assert not list(tmp_path.iterdir())


def test_missing_recordings_are_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recordings").mkdir()
    assert overhead.main(["--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "needs its recording" in capsys.readouterr().err


def test_too_few_measured_programs_are_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measurement.main(["--runs", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    expected = f"{tmp_path / 'cpu' / 'llama3_8b_attention'} holds only 0 of 64 measured programs; run `dvc repro` first"
    assert expected in capsys.readouterr().err


def test_a_search_that_ends_before_the_last_fault_is_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert faults.main(["--samples", "19", "--out", str(tmp_path / "out")]) == 1
    assert "the last fault occurs at sample 20" in capsys.readouterr().err


def test_a_search_too_short_to_have_parts_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert growth.main(["--samples", "99", "--out", str(tmp_path / "out")]) == 1
    assert "it needs --samples of at least 100" in capsys.readouterr().err


def test_a_failed_search_is_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = [sys.executable, "-c", "import sys; sys.exit('error: no such workload')"]
    monkeypatch.setattr(queue, "_start", lambda *_: subprocess.Popen(failing, stderr=subprocess.PIPE, text=True))
    assert queue.main(["--workload", "nowhere", "--out", str(tmp_path / "out")]) == 1
    assert "a search failed: ['error: no such workload']" in capsys.readouterr().err


def test_stand_ins_are_not_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answers.main(["--experiment", "cpu", "--out", str(tmp_path / "out")]) == 1
    assert "is answered by embedded; this needs a live model" in capsys.readouterr().err
