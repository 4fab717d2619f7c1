"""Several processes, few file descriptors, a read-only place: nothing is spent twice, lost, or a traceback."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from colt_pipeline.errors import ColtError, JournalError
from colt_pipeline.runs.budget import spent
from colt_pipeline.runs.jsonl import JsonLines, read_lines
from colt_pipeline.runs.rundir import RunDir
from tests.support import ROOT

SPENDER = """
import sys
from pathlib import Path
from colt_pipeline.config.schema import BudgetConfig, LimitsConfig
from colt_pipeline.errors import BudgetError
from colt_pipeline.runs.budget import Budget
from colt_pipeline.runs.costs import Tokens

none, sweep = LimitsConfig(None, None, None, None), LimitsConfig(40, None, None, None)
root = Path(sys.argv[1])
budget = Budget(root / sys.argv[2] / "spend.jsonl", BudgetConfig(none, sweep, 16), {"small": None}, root)
calls = 0
try:
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        with budget.attempt("small", Tokens(10, 10)):
            calls += 1
except BudgetError:
    print(calls)
"""

FEW = """
import resource, sys
from pathlib import Path
from colt_pipeline.errors import ColtError
from colt_pipeline.runs.jsonl import JsonLines

path = Path(sys.argv[1])
with JsonLines(path / "before.jsonl") as file:
    file.append({"a": 1})
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    held = []
    try:
        while True:
            held.append(open("/dev/null"))
    except OSError:
        pass
    try:
        JsonLines(path / "after.jsonl")
    except ColtError as error:
        print(error)
    file.append({"b": 2})
"""


def test_four_processes_together_keep_the_limit_of_a_sweep(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SPENDER, str(tmp_path), name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abcd"
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    printed = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        printed.append(int(process.communicate()[0]))
        assert process.returncode == 0
    assert sum(printed) == 40
    accounts = [spent(read_lines(path)).calls for path in sorted(tmp_path.glob("*/spend.jsonl"))]
    assert accounts == printed


def test_without_file_descriptors_there_is_a_message_and_open_files_go_on(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", FEW, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "Too many open files" in ended.stdout
    assert read_lines(tmp_path / "before.jsonl") == [{"a": 1}, {"b": 2}]


def test_a_read_only_disk_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        with pytest.raises(JournalError, match="Read-only file system"):
            JsonLines(tmp_path / "run" / "events.jsonl")
        with pytest.raises(ColtError, match="Read-only file system"):
            RunDir(tmp_path / "run", {"seed": 0})
    assert not list(tmp_path.iterdir())
