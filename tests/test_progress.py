"""Progress of running runs: numbers from their files, remaining times computed by hand, a table for any terminal."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from colt_pipeline.progress.board import Board, Pace
from colt_pipeline.progress.standing import FollowedModel, FollowedSearch, Standing, followed_search
from colt_pipeline.progress.table import RunTable, answered_by, duration, dvc_stage, end_lines, shortened
from colt_pipeline.progress.watch import watched
from colt_pipeline.runs.events import Chosen, Deferred, Event, Finished, Measured, Sample, Stepped
from colt_pipeline.serialization import canonical_json
from tests.support import ROOT, Compose
from tests.toy_run import STARTED, call, child, events_by_hand, write_run


class Told:
    """A run with scripted standings, one per look; the last one is repeated."""

    def __init__(self, *standings: Standing) -> None:
        self._standings = list(standings)

    def read(self) -> list[Standing]:
        return [self._standings.pop(0) if len(self._standings) > 1 else self._standings[0]]


class Hand:
    """A manually set clock."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def at(samples: int, name: str = "run", budget: int = 40, finished: bool = False) -> Standing:
    return Standing(name, samples, budget, begun=samples > 0, finished=finished)


def append(directory: Path, *events: Event) -> None:
    with (directory / "events.jsonl").open("a") as file:
        file.writelines(canonical_json(event.to_json()) + "\n" for event in events)


def end(directory: Path) -> None:
    """Write the final outputs of a run, from `events_by_hand`."""
    (directory / "calls.csv").write_text("model,regular_calls,course_alterations\nsmall,3,0\nlarge,0,1\n")
    (directory / "summary.json").write_text('{"samples": 4, "speedup": 4.0, "measurement": "measured"}')


def test_a_run_is_followed_while_its_journal_grows(tmp_path: Path) -> None:
    run = FollowedSearch(tmp_path / "run", "toy/run", 4)
    assert run.read() == [Standing("toy/run", budget=4)]
    events = events_by_hand("Unroll")
    directory = write_run(tmp_path / "run", events[:3])
    (standing,) = run.read()
    assert (standing.samples, standing.speedup, standing.left, standing.begun) == (2, 2.0, 2, True)
    append(directory, *events[3:6])
    journal = directory / "events.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"kind": "measured", "sam')  # partially written
    (standing,) = run.read()
    assert (standing.samples, standing.speedup, standing.measurement) == (4, 4.0, "measured")
    assert (standing.calls, standing.alterations) == (Counter(small=2), Counter(large=1))
    journal.write_bytes(whole)
    append(directory, *events[6:])
    assert run.read()[0].calls == Counter(small=3) and not run.read()[0].finished
    (standing,) = run.read()
    end(directory)
    assert run.read() == [replace(standing, finished=True)]
    assert run.read() == FollowedSearch(directory, "toy/run", 4).read()
    (directory / "summary.json").unlink()
    assert run.read() == [standing], "a limit had ended it"
    end(directory)
    (directory / "calls.csv").unlink()
    assert FollowedSearch(directory, "toy/run", 4).read() == [standing], "the run writes it again"


def test_a_deferred_call_is_counted_once_and_at_once(tmp_path: Path) -> None:
    small, large = call("small"), call("large", role="course_alteration")
    pruned, kept = (child(key, "small", (2, 8), 0.3, 0.5) for key in ("cc", "dd"))
    directory = write_run(tmp_path / "run", [*events_by_hand()[:2], Chosen(1, (0.5,)), Deferred(small, pruned)])
    run = FollowedSearch(directory, "toy/run", 4)
    (standing,) = run.read()
    assert (standing.calls, standing.alterations, standing.awaited) == (Counter(small=1), Counter(), 1)
    append(directory, Stepped(0, 1, (small, large), kept, "large", pruned, None))
    (standing,) = run.read()
    assert (standing.calls, standing.alterations, standing.awaited) == (Counter(small=1), Counter(large=1), 0)


@pytest.mark.parametrize("line", ["[1]", "{", '{"kind": "unheard of"}', '{"kind": "measured", "shots": 3}'])
def test_a_broken_journal_ends_no_progress(tmp_path: Path, line: str) -> None:
    directory = write_run(tmp_path / "run", events_by_hand()[:3])
    run = FollowedSearch(directory, "run", 4)
    before = run.read()
    with (directory / "events.jsonl").open("a") as file:
        file.write(line + "\n")
    assert run.read() == run.read() == before


def test_results_that_cannot_be_read_end_no_progress(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "events.jsonl").mkdir()
    for place in (tmp_path, tmp_path / "file", tmp_path / "file" / "run"):
        assert FollowedSearch(place, "run", 4).read() == FollowedModel(place, "run", 4).read()[:1]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null"])
def test_broken_outputs_end_no_progress(tmp_path: Path, text: str) -> None:
    directory = write_run(tmp_path / "run", events_by_hand())
    end(directory)
    (directory / "summary.json").write_text(text)
    (tmp_path / "model.json").write_text(text)
    [run] = FollowedSearch(directory, "run", 4).read()
    assert run.samples and not run.finished
    assert not FollowedModel(tmp_path, "llama", 8).read()[0].finished


def test_a_fault_of_the_display_never_stops_those_who_print(tmp_path: Path) -> None:
    *_, said = played(tmp_path, "fault", TERM="xterm")
    assert "line 99999\r\n" in said, "who prints is not blocked"
    assert "ZeroDivisionError" in said and said.endswith("status 1")


def test_a_whole_model_is_the_sum_of_its_kernels(tmp_path: Path) -> None:
    model = FollowedModel(tmp_path, "llama", 8)
    assert model.read() == [Standing("llama", budget=8)]
    write_run(tmp_path / "matmul", events_by_hand())
    assert [standing.name for standing in model.read()] == ["llama", "matmul"]
    step = Stepped(0, 1, (call("small"),), child("x", "small", (8, 2), 0.5, 0.5), "small", None, None)
    write_run(tmp_path / "matmul1", [STARTED, step, Measured((Sample("x", 0.5, None),))])
    write_run(tmp_path / "copy", [STARTED, Finished("untuned")])
    whole, *kernels = model.read()
    assert [(kernel.name, kernel.samples, kernel.budget) for kernel in kernels] == [
        ("matmul", 4, None),
        ("matmul1", 1, None),
    ]
    assert (whole.samples, whole.left, whole.speedup, whole.begun, whole.finished) == (5, 3, None, True, False)
    assert (whole.calls, whole.alterations) == (Counter(small=4), Counter(large=1))
    (tmp_path / "model.json").write_text(json.dumps({"speedup": 31.5, "measurement": "measured"}))
    (whole,) = model.read()
    assert (whole.speedup, whole.left, whole.finished) == (31.5, 0, True)


def test_seconds_left_follow_the_pace_of_the_later_half() -> None:
    pace = Pace(100.0, 5)
    assert pace.secs_until(10, 100.0) is None, "what was there before tells nothing"
    pace.see(104.0, 9)
    assert pace.secs_until(10, 104.0) == 10.0
    assert pace.secs_until(10, 107.0) == 7.0, "it counts down between batches"
    assert pace.secs_until(10, 200.0) == 0.0
    pace.see(108.0, 109)  # replayed
    pace.see(116.0, 111)
    pace.see(124.0, 113)  # measured
    assert pace.secs_until(10, 124.0) == pytest.approx(16 / 4 * 10), "since 108.0, before the middle at 112.0"
    assert pace.secs_until(0, 124.0) == 0.0


def test_a_board_says_who_ended_and_when_all_will_have(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Hand()
    early, slow = Told(at(40, "early", finished=True)), Told(at(0, "slow"), at(0, "slow"), at(10, "slow"))
    quick = Told(at(8, "quick"), at(20, "quick"), at(30, "quick", finished=True))
    board = Board([early, slow, quick], clock=clock)
    assert (board.finished, board.secs_left()) == (1, None)
    clock.now = 3.0
    assert board.update() == []
    assert board.secs_left() == 3.0 / 12 * (40 + 20)
    clock.now = 10.0
    (ended,) = board.update()
    assert ended.name == "quick" and board.finished == 2
    assert board.secs_left() == pytest.approx(7.0 / 20 * 30), "a run that ended early leaves nothing"
    assert end_lines(board, [ended]) == ["run 2/3  quick  ETA 10 s"]
    assert [line.split()[1] for line in end_lines(board, [ended, ended])] == ["1/3", "2/3"]
    clock.now = 20.0
    assert board.update() == [], "it is said once"


def test_a_run_has_the_pace_that_it_has_since_it_began() -> None:
    clock = Hand()
    late = Told(at(0), at(0), Standing("run", 0, 40, begun=True), at(10))
    board = Board([late], clock=clock)
    for clock.now in (50.0, 100.0, 105.0):
        board.update()
    assert board.secs_left_of(0) == 15.0
    assert board.secs_left() == pytest.approx(105.0 / 10 * 30)


def seconds_pass(clock: Hand, board: Board) -> None:
    clock.now += 10.0
    board.update()


def shown(board: Board, width: int = 100, height: int = 30, answers: str = "", stage: str = "") -> list[str]:
    """The lines of the table on a terminal."""
    console = Console(file=StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    with console.capture() as captured:
        console.print(RunTable(board, answers, stage))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.fixture
def board() -> Board:
    """Three runs: measured and finished, estimated and running, not begun."""
    clock = Hand()
    common: dict[str, Any] = {
        "budget": 40,
        "calls": Counter({"gpt-5-mini": 12, "gpt-5.2": 9}),
        "alterations": Counter({"gpt-5.2": 4}),
    }
    begun = Standing("flux_conv/gpu-colt-8-n40-s0", 0, 40, begun=True)
    done = Standing("flux_conv/gpu-colt-2-n40-s0", 40, speedup=12.345, begun=True, finished=True, **common)
    work = Standing("flux_conv/gpu-colt-8-n40-s0", 10, speedup=3.2, measurement="estimated", begun=True, **common)
    board = Board([Told(done), Told(begun, work), Told(at(0, "flux_conv/gpu-colt-large-n40-s0"))], clock)
    seconds_pass(clock, board)
    return board


def test_a_row_has_samples_best_calls_and_time_left(board: Board) -> None:
    head, columns, done, work, waiting, summary, legend = shown(board, answers="by nobody", stage="runs@gpu")
    assert head == "flux_conv/gpu-colt-*-n40-s0"
    assert columns.split() == ["run", "samples", "best", "calls", "by", "model", "ETA"]
    assert done.split() == ["2", "━" * 10, "40/40", "12.35x", "21+4", "gpt-5.2:9+4", "gpt-5-mini:12", "done"]
    assert work.split() == ["8", *"━━╸ 10/40 3.20x (estimated) 21+4 gpt-5.2:9+4 gpt-5-mini:12 0:30".split()]
    assert [word for word in waiting.split() if "━" not in word] == ["large", "0/40", "-", "-"]
    assert summary == "1 of 3 runs done  elapsed 0:10  ETA 1:10  stage runs@gpu"
    assert legend == "calls: regular + course alterations, by nobody"


def test_who_answers_for_the_named_models_is_said() -> None:
    assert answered_by(["openai", "local"]) == answered_by(["none"]) == ""
    assert answered_by(["embedded", "none"]) == "answered by stand-ins in place of the named models"
    assert answered_by(["random", "embedded"]).startswith("answered by stand-ins or random draws")
    assert answered_by(["local", "embedded"]).startswith("partly answered by stand-ins in place")


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_none_is_folded(board: Board, width: int) -> None:
    lines = shown(board, width)
    assert len(lines) == 7 and max(map(len, lines)) <= width
    if width >= 60:
        assert "12.35x" in lines[2] and "(estimated)" in lines[3] and "21+4" in lines[3] and "0:30" in lines[3]


def test_names_neither_style_nor_steer_the_terminal() -> None:
    odd = Standing("[bold]a\x1b[2Jb\rc\n[/nothing]", 3, 4, calls=Counter({"[red]m\x07": 2}), begun=True)
    row = shown(Board([Told(odd)]), width=120)[1]
    assert row.startswith(r"[bold]a\x1b[2Jb\rc\n[/nothing]") and r"[red]m\x07:2" in row


def test_without_colors_there_are_none(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=StringIO(), force_terminal=True, width=80, color_system="truecolor")
    with console.capture() as captured:
        console.print(RunTable(board))
    assert not re.search(r"\x1b\[[\d;]*[34][0-8]", captured.get())


def test_rows_that_do_not_fit_are_counted_and_those_at_work_are_seen() -> None:
    told = [Told(at(40 if n < 20 else 0, f"w{n}", finished=n < 20)) for n in range(30)]
    lines = shown(Board(told), height=17)
    names = [line.split()[0] for line in lines if line.startswith("w")]
    assert names == [f"w{n}" for n in range(17, 29)]
    assert len(lines) < 17 and lines[-1].endswith("18 rows not shown")


def test_names_are_shown_by_what_tells_them_apart() -> None:
    names = [f"{w}/cpu-paper-{m}-gpt-5.2-n48-s0" for w in ("a_b", "c") for m in (2, "large")]
    assert shortened(names) == (
        ["*-gpt-5.2-n48-s0"],
        ["a_b/cpu-paper-2", "a_b/cpu-paper-large", "c/cpu-paper-2", "c/cpu-paper-large"],
    )
    assert shortened(["a/x-1-s0", "a/x-1-s1"]) == (["a/x-1-*"], ["s0", "s1"])
    assert shortened(["one-two"]) == ([], ["one-two"])
    assert shortened(["one", "two"]) == ([], ["one", "two"])
    assert shortened(["same", "same"]) == ([], ["same", "same"])
    assert shortened(["a-b", "a-b-b"]) == (["a-*"], ["b", "b-b"])


def test_durations_are_read_as_clocks() -> None:
    assert [duration(secs) for secs in (None, 0, 59.6, 61, 3599.9)] == ["?", "0:00", "1:00", "1:01", "1:00:00"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (None, ""),
        ("runs@b", "runs@b (3 of 5 in dvc.yaml)"),
        ("report", "report (5 of 5 in dvc.yaml)"),
        ("stages/studies/dvc.yaml:runs@search", "runs@search (1 of 1 in stages/studies/dvc.yaml)"),
        ("elsewhere/dvc.yaml:runs@a", "runs@a"),
        ("runs@unknown", "runs@unknown"),
    ],
)
def test_a_stage_of_dvc_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None, words: str
) -> None:
    (tmp_path / "stages" / "studies").mkdir(parents=True)
    runs = "runs:\n    foreach: {a: {app: tune}, b: {app: tune}}\n    do: {cmd: x}"
    more = "tables:\n    foreach: [a]\n    do: {cmd: x}"
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  extract: {{cmd: x}}\n  {runs}\n  {more}\n  report: {{cmd: x}}\n")
    (tmp_path / "stages" / "studies" / "dvc.yaml").write_text(
        "stages:\n  runs:\n    foreach: {search: x}\n    do: {cmd: x}\n"
    )
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    if address is not None:
        monkeypatch.setenv("DVC_STAGE", address)
    assert dvc_stage() == words


def test_a_log_has_a_line_for_each_run_that_ends(composed: Compose, capsys: pytest.CaptureFixture[str]) -> None:
    configs = [composed(f"run=r{n}") for n in range(3)]

    def run(n: int) -> None:
        end(write_run(Path(configs[n].results) / "runs" / "adhoc" / f"r{n}", events_by_hand()))

    run(0)
    with watched(configs, followed_search):
        run(2)
    assert re.fullmatch(r"run 2/3  r2  ETA \d+ s\n", capsys.readouterr().err)
    with watched(configs[:1], followed_search), watched([], followed_search):
        pass
    assert capsys.readouterr() == ("", "")


SCRIPT = """
import subprocess, sys, time
from pathlib import Path
from typing import Any
from colt_pipeline.app import command
from colt_pipeline.config.compose import composed
from colt_pipeline.progress.standing import followed_search
from colt_pipeline.progress.board import Board
from colt_pipeline.progress.terminal import table_is_shown
from colt_pipeline.progress.watch import watched

configs = [composed([f"run=r{n}", "results=" + sys.argv[1]]) for n in range(2)]

def jobs():
    print("a note of this process", file=sys.stderr)
    subprocess.run(["sh", "-c", "echo a note of a child; test -t 2 && echo its stderr is a terminal >&2"])
    print("a table is shown:", table_is_shown(), flush=True)
    if sys.argv[2] == "end":
        time.sleep(2)  # what is printed just before the end comes after the table
    if sys.argv[2] == "fault":
        print(*(f"line {n}" for n in range(100_000)), sep="\\n")
    if sys.argv[2] == "wait":
        print("waits", flush=True)
        while True:
            Path(sys.argv[1]).exists()

if sys.argv[2] == "fault":
    Board.update = lambda self: 1 // 0
with watched(configs, followed_search):
    command(jobs)
print("the table at the end")
"""


def played(results: Path, how: str, **environment: str) -> Iterator[str]:
    """Run SCRIPT in a terminal of 80 x 24; yields what was sent to the terminal so far, and finally all of it."""
    master, slave = os.openpty()
    write_run(results / "runs" / "adhoc" / "r0", events_by_hand())
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "80", "LINES": "24", **environment}
    command = [sys.executable, "-c", SCRIPT, str(results), how]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=variables, cwd=ROOT) as process:
        os.close(slave)
        said = b""
        while True:
            try:
                data = os.read(master, 1 << 16)
            except OSError:  # how Linux signals that the last writer is gone
                break
            said += data
            if b"waits" in said and process.poll() is None:
                time.sleep(1.5)  # the table is redrawn every second
                process.send_signal(signal.SIGINT)
            yield said.decode()
    os.close(master)
    yield f"{said.decode()}status {process.returncode}"


def test_on_a_terminal_the_table_stays_below_what_anybody_prints(tmp_path: Path) -> None:
    *_, said = played(tmp_path, "end", TERM="xterm")
    for words in ("a note of this process", "a note of a child", "its stderr is a terminal", "a table is shown: True"):
        assert f"{words}\r\n" in said
    table = said.rindex("0 of 2 runs done")
    assert said.index("a note of a child") < table < said.index("the table at the end")
    assert said.rindex("\x1b[?25l") < said.rindex("\x1b[?25h"), "the cursor is seen again"
    assert said[table:].count("\x1b[2K") >= 5, "the table is wiped: another one follows"
    assert said.endswith("status 0")


def test_ctrl_c_leaves_the_terminal_as_it_was_and_the_table_as_it_stood(tmp_path: Path) -> None:
    *_, said = played(tmp_path, "wait", TERM="xterm")
    assert "interrupted; the same command resumes where it stopped" in said
    table = said.rindex("0 of 2 runs done")
    assert said.rindex("\x1b[?25l") < said.rindex("\x1b[?25h") and "\x1b[2K" not in said[table:]
    assert said.endswith("status 130")


def test_a_terminal_that_cannot_draw_gets_lines(tmp_path: Path) -> None:
    *_, said = played(tmp_path, "end", TERM="dumb")
    assert "\x1b" not in said and "a table is shown: False" in said and "the table at the end" in said
