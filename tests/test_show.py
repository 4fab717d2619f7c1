"""The command: what it prints, what it writes, how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from colt_pipeline.config.schema import AS_MANY_AS_FIT
from colt_pipeline.show import main
from tests.toy_run import STARTED, events_by_hand, write_run


def test_it_prints_summary_best_path_and_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_run(tmp_path / "run", events_by_hand("TileSize(matmul.j=[8,2])", "Unroll"))
    assert main([str(directory)]) == 0
    printed = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for line in (
        "LLMs stand-in LLMs",
        "latencies measured",
        "samples 4 of 4",
        "state finished (budget)",
        "errors timeout 1",
        "baseline 1000.000 ms",
        "best 250.000 ms (sample 4, node 4)",
        "speedup 4.00x",
        "Path to the best program: 0 → 1 → 3 → 4",
        "decides matmul, loop 1 of 1: tiles [4,4]",
        "predicted 0.5000 (noise: the cost model had not learned yet)",
        "measured 1000.000 ms → 500.000 ms, 2.00x",
        "changed matmul, loop 1 of 1: tiles [4,4] → [8,2]",
        "made by large (stand-in), course alteration in place of node -1",
        "proposed TileSize(matmul.j=[8,2]), Unroll",
        "predicted 0.2500 → 0.7500",
        "measured 800.000 ms → 250.000 ms, 3.20x",
        "large (stand-in) 0 0 1 - 100+10 1 2.00x",
        "small (stand-in) 3 0 0 not_json:1 300+30 0 -",
    ):
        assert line in lines
    assert sorted(path.name for path in directory.iterdir()) == ["config.yaml", "events.jsonl"]


def test_an_unfinished_run_is_shown_as_far_as_it_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_run(tmp_path / "run", events_by_hand()[:4]))]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "samples 2 of 4, 1 wait" in printed and "state unfinished" in printed
    assert "2 of 4 samples (unfinished)" in printed
    assert main([str(write_run(tmp_path / "begun", [STARTED]))]) == 0
    assert "no valid sample yet" in capsys.readouterr().out


def test_a_confirmed_winner_and_a_limit_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_run(tmp_path / "run", events_by_hand()[:4])
    summary = {"stopped": "limit", "confirmed_secs": 0.5, "confirmed_program": "another"}
    (directory / "summary.json").write_text(json.dumps(summary))
    assert main([str(directory)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "state stopped at a limit; a higher one continues it" in printed
    assert "confirmed 500.000 ms (another program, measured again in rounds)" in printed
    assert "2 of 4 samples (stopped at a limit)" in printed


def test_without_a_number_of_samples_only_those_made_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write_run(tmp_path / "run", events_by_hand()[:4])
    config = directory / "config.yaml"
    config.write_text(config.read_text().replace("samples: 4", f"samples: {AS_MANY_AS_FIT}"))
    assert main([str(directory)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "samples 2, 1 wait" in printed and "2 samples (unfinished)" in printed


def test_what_a_model_wrote_does_not_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_run(tmp_path / "run", events_by_hand("\x1b[2J", "one\nspeedup 9x\r")))]) == 0
    printed = capsys.readouterr().out
    assert "\\x1b[2J, one\\nspeedup 9x\\r" in printed
    assert "\x1b" not in printed and "\r" not in printed


def test_the_tree_goes_into_the_run_or_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = write_run(tmp_path / "run", events_by_hand())
    assert main([str(directory), "--out", str(tmp_path / "out")]) == 0
    assert not (directory / "tree.html").exists()
    assert main([str(directory), "--tree"]) == 0
    for name in ("tree.json", "tree.html"):
        assert (directory / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert f"wrote {directory / 'tree.html'}" in capsys.readouterr().err


def test_a_wrong_path_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert "Name one such as results/runs/" in captured.err


def test_it_works_without_tvm(tmp_path: Path) -> None:
    directory = write_run(tmp_path / "run", events_by_hand())
    code = (
        "import sys; sys.modules['tvm'] = None\n"
        "from colt_pipeline.show import main\n"
        f"sys.exit(main([{str(directory)!r}, '--tree']))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0
