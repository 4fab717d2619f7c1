"""``colt``: every command runs its module, and nothing is imported before it is needed."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from colt_pipeline.__main__ import COMMANDS, main
from colt_pipeline.show import main as show
from tests.support import ROOT
from tests.toy_run import events_by_hand, write_run


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """The exit status of ``colt ARGUMENTS``."""
    monkeypatch.setattr(sys, "argv", ["colt", *arguments])
    try:
        main()
    except SystemExit as ended:
        return ended.code
    return 0


@pytest.mark.tvm
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_a_module_with_a_main(command: str) -> None:
    module, _ = COMMANDS[command]
    assert callable(import_module(f"colt_pipeline.{module}").main)


def test_help_lists_all_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch) == call(monkeypatch, "--help") == 0
    said = capsys.readouterr().out
    assert all(f"\n  {command} " in said for command in COMMANDS)


def test_an_unknown_command_is_named_with_those_that_there_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "tine") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: tine is not a command") and all(command in said for command in COMMANDS)


def test_a_command_is_that_of_its_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", events_by_hand("Unroll"))
    assert show([str(run)]) == 0
    alone = capsys.readouterr().out
    assert call(monkeypatch, "show", str(run)) == 0
    assert capsys.readouterr().out == alone
    assert call(monkeypatch, "show", str(tmp_path)) == 1
    assert capsys.readouterr().err.startswith("error: ")


SLOW_IMPORTS = {"tvm", "xgboost", "openai", "pandas", "matplotlib"}


def slow_imports(*arguments: str) -> set[str]:
    """Which of SLOW_IMPORTS ``colt ARGUMENTS`` imports."""
    command = [sys.executable, "-X", "importtime", "-m", "colt_pipeline", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    imported = (line.rpartition("|")[2].strip() for line in done.stderr.splitlines())
    # By their parts: a package that importlib imports is not listed itself.
    return SLOW_IMPORTS & {name.partition(".")[0] for name in imported}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_waits_for_no_slow_import(command: str) -> None:
    assert slow_imports(command, "--help") == set()


@pytest.mark.parametrize("command", ["tune", "compare", "tune-model", "forecast"])
def test_a_wrong_configuration_is_refused_before_a_slow_import(command: str) -> None:
    assert slow_imports(command, "model_set=3") == set()


def test_the_imports_that_a_run_needs_are_seen(tmp_path: Path) -> None:
    assert "tvm" in slow_imports("tune", "record=replay", f"results={tmp_path}", f"hydra.run.dir={tmp_path}")


@pytest.mark.tvm
def test_hydra_finds_the_configuration_from_everywhere(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "colt_pipeline", "tune", "--cfg", "job", "samples=7"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "\nsamples: 7\n" in done.stdout


def test_an_interrupt_while_a_command_is_imported_has_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("colt_pipeline.__main__.import_module", interrupted)
    monkeypatch.setattr(sys, "argv", ["colt", "tune"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
