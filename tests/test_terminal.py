"""Foreign text, such as names, server errors and file contents, does not steer the terminal: it is escaped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from rich.console import Console

from colt_pipeline.app import aligned, attempt, escaping, printable, with_message
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ProviderError
from colt_pipeline.progress.watch import above_table
from colt_pipeline.show import main as show
from colt_pipeline.tools.forecast import main as forecast
from colt_pipeline.tools.recordings import main as recordings
from colt_pipeline.tools.serve import main as serve
from tests.support import ROOT
from tests.toy_run import events_by_hand, write_run

Printed = pytest.CaptureFixture[str]

ODD = {
    "title": "\x1b]0;owned\x07",
    "clear": "\x1b[2J",
    "color": "\x1b[31m",
    "return": "good\rbad",
    "backspace": "\b\b\b",
    "null": "\0",
    "delete": "\x7f",
    "C1": "\x9b2J",
    "right to left": "\u202egnp.exe",
    "isolate": "\u2066a\u2069",
    "line separator": "\u2028",
    "lone surrogate": "\udc9b",
}
odd = pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
in_paths = pytest.mark.parametrize("odd", [text for text in ODD.values() if text != "\0"])


def harmless(printed: str) -> bool:
    """Whether nothing but line breaks and tabs controls the terminal."""
    return all(unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in printed if c not in "\n\t")


def assert_escaped(printed: str, odd: str) -> None:
    assert harmless(printed) and printable(odd) in printed


@given(st.text())
def test_whatever_is_printed_is_harmless_and_visible_text_stays(text: str) -> None:
    assert harmless(printable(text))
    assert printable(printable(text)) == printable(text)
    assert (printable(text) == text) == text.isprintable()


@odd
def test_a_message_of_a_server_is_escaped(odd: str, capsys: Printed) -> None:
    @with_message
    def command() -> int:
        print(f"note: {odd}\nanother line", file=sys.stderr)
        print(odd, "\u00fc → \U0001f600")
        raise ProviderError(f"the server said {odd}")

    assert command() == 1
    captured = capsys.readouterr()
    assert captured.out == f"{printable(odd)} \u00fc → \U0001f600\n"
    assert captured.err == f"note: {printable(odd)}\nanother line\nerror: the server said {printable(odd)}\n"


@odd
def test_a_job_of_hydra_escapes_its_message(odd: str, capsys: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(config: Config) -> None:
        raise ProviderError(f"model {odd}: no such model")

    hydra = SimpleNamespace(mode=RunMode.MULTIRUN, runtime=SimpleNamespace(cwd=str(ROOT)))
    monkeypatch.setattr("colt_pipeline.app.HydraConfig.get", lambda: hydra)
    monkeypatch.setattr("colt_pipeline.app.load", lambda raw, called_from, moves: raw)
    with pytest.raises(CompactHydraException, match="no such model"):
        attempt(work, OmegaConf.create())
    assert_escaped(capsys.readouterr().err, odd)


@odd
def test_cells_of_a_table_are_escaped_before_their_width_is_known(odd: str) -> None:
    first, second = aligned([(odd, "|"), ("x", f"a\nb{odd}")])
    assert harmless(first + second) and "\n" not in first + second
    assert first.index("|") == second.index("a\\nb")


@in_paths
def test_paths_and_flags_are_escaped(odd: str, tmp_path: Path, capsys: Printed) -> None:
    commands: dict[Callable[[list[str]], int], list[str]] = {
        show: [str(tmp_path / odd)],
        recordings: ["check", str(tmp_path / odd)],
        serve: [f"{odd}.gguf"],
        forecast: [f"run={odd}", f"workload={odd}"],
    }
    for command, arguments in commands.items():
        assert command(arguments) == 1
        assert_escaped(capsys.readouterr().err, odd)
    with pytest.raises(SystemExit):
        show(["run", f"--{odd}"])
    assert_escaped(capsys.readouterr().err, odd)


@odd
@pytest.mark.parametrize("reset", ["", "\x1bc", "\x1b#8", "\x0e"])
def test_what_other_processes_write_keeps_its_color_above_a_table_and_no_more(odd: str, reset: str) -> None:
    console = Console(file=StringIO(), force_terminal=True, width=80, color_system="truecolor", legacy_windows=False)
    with console.capture() as captured:
        console.print(above_table(f"a{odd}b{reset}"), soft_wrap=True)
    assert harmless(re.sub(r"\x1b\[[\d;]*m", "", captured.get()))
    with console.capture() as captured:
        console.print(above_table("\x1b[31mred\x1b[0m [blue]"), soft_wrap=True)
    assert captured.get() == "\x1b[31mred\x1b[0m [blue]\n"


@odd
def test_names_in_a_run_are_escaped(odd: str, tmp_path: Path, capsys: Printed) -> None:
    path = write_run(tmp_path / "run", events_by_hand())
    for name in ("events.jsonl", "config.yaml"):
        file = path / name
        file.write_text(file.read_text().replace("large", "l@rge").replace('"toy"', '"t@y"'))
    quoted = json.dumps(odd)[1:-1]
    for name in ("events.jsonl", "config.yaml"):
        file = path / name
        text = file.read_text()
        if name == "config.yaml":  # YAML knows the same escapes in double quotes
            text = text.replace("l@rge", f'"l{quoted}rge"').replace("t@y", f"t{quoted}y")
        file.write_text(text.replace("l@rge", f"l{quoted}rge").replace("t@y", f"t{quoted}y"))
    assert show([str(path)]) == 0
    captured = capsys.readouterr()
    assert_escaped(captured.out + captured.err, odd)


@odd
def test_findings_in_a_recording_are_escaped(odd: str, tmp_path: Path, capsys: Printed) -> None:
    path = tmp_path / "llm.jsonl"
    entry = {"key": "0" * 20, "model": f"m{odd}", "text": 'token="0123456789abcdef"', "prompt_tokens": 1}
    path.write_text(json.dumps(entry) + "\n" + json.dumps({**entry, "key": odd, "model": odd}) + "\n")
    recordings(["check", str(path)])
    captured = capsys.readouterr()
    assert captured.out and harmless(captured.out + captured.err)
    recordings(["stats", str(path)])
    captured = capsys.readouterr()
    assert harmless(captured.out + captured.err)


def test_an_override_is_escaped_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "colt_pipeline.tune", "run=a\x1b[2Jb", "no_such\x1b]0;key=1", "workload=\x9b2J"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode and ended.stderr and harmless(ended.stdout + ended.stderr)


def test_an_unknown_command_is_escaped() -> None:
    command = [sys.executable, "-m", "colt_pipeline", "tu\x1b[2Jne"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert_escaped(ended.stderr, "tu\x1b[2Jne")


def test_a_stream_that_escapes_is_otherwise_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with escaping(), escaping():
        assert sys.stdout.fileno() == before.fileno() and not sys.stdout.isatty()
        print("a\x1b", end="", flush=True)
    assert sys.stdout is before
    assert capfd.readouterr().out == "a\\x1b"


def shown(run: Path, output: str) -> subprocess.CompletedProcess[str]:
    """``colt show`` in a shell, with its output to `output`; prints its exit status."""
    line = f"{sys.executable} -m colt_pipeline.show {run} {output}; echo status ${{PIPESTATUS[0]}}"
    return subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("output", "status", "message"),
    [
        ("> /dev/full", 1, "error: cannot print: No space left on device; files that the command wrote are intact\n"),
        ("| true", 1, ""),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
    ],
)
def test_output_that_cannot_be_written_is_at_most_one_message(
    tmp_path: Path, output: str, status: int, message: str
) -> None:
    done = shown(write_run(tmp_path / "run", events_by_hand()), output)
    assert done.stdout == f"status {status}\n"
    assert done.stderr == message


def test_a_character_that_the_terminal_lacks_is_escaped(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", events_by_hand())
    command = [sys.executable, "-m", "colt_pipeline.show", str(run)]
    latin = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=latin)
    assert r"Path to the best program: 0 \u2192 1 \u2192 3" in done.stdout


def test_a_path_that_the_system_refuses_is_one_message(capsys: Printed) -> None:
    assert show(["a" * 300]) == 1
    assert "File name too long; choose another path" in capsys.readouterr().err

    def fails(*why: object) -> int:
        raise OSError(*why)

    assert with_message(fails)(17, "File exists", "out\x1b") == 1
    assert capsys.readouterr().err == "error: cannot use out\\x1b: File exists; choose another path\n"
    with pytest.raises(OSError, match="a fault of the program"):
        with_message(fails)("a fault of the program")
