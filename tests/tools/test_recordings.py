"""The command that manages recordings: what it finds, what it writes, how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.errors import ReplayMissError
from colt_pipeline.llm.audit import read_intact
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.llm.client import Question
from colt_pipeline.records import Message, ModelSpec
from colt_pipeline.runs.events import Call, Event, Finished, Stepped
from colt_pipeline.runs.jsonl import JsonLines, read_lines
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.serialization import canonical_json
from colt_pipeline.tools.recordings import main
from tests.support import ROOT
from tests.toy import LARGE, SMALL, ToyClient, settings
from tests.toy_run import STARTED, write_run

Printed = pytest.CaptureFixture[str]
CREDENTIAL = "sk-0123456789abcdefghij"


def messages(*lines: str) -> list[Message]:
    return [{"role": "user", "content": "\n".join(lines)}]


ASKED = [(SMALL, "a", 0), (SMALL, "a", 1), (LARGE, "b", 0), (SMALL, "c", 0)]
"""The questions that the toy recording answers."""


def question(model: ModelSpec, word: str) -> Question:
    return Question(model, messages("fixed", word, "end"), {})


def record(path: Path, asked: list[tuple[ModelSpec, str, int]] = ASKED) -> Path:
    cassette = Cassette(path, lambda provider: ToyClient(), Stopwatch())
    for model, word, occurrence in asked:
        cassette.answer(question(model, word), occurrence)
    cassette.close()
    return path


def calls(asked: list[tuple[ModelSpec, str, int]]) -> tuple[Call, ...]:
    return tuple(
        Call(m.name, "regular", question(m, word).key, n, "accepted", "", (), None, None, 1, 1, hit=False)
        for m, word, n in asked
    )


def run_of(directory: Path, used: int, finished: bool = True, **changes: Any) -> Path:
    """A run that used this many of the answers, one per step."""
    steps = [Stepped(n, 0, (c,), None, None, None, None) for n, c in enumerate(calls(ASKED)[:used])]
    events: list[Event] = [STARTED, *steps, *([Finished("budget")] if finished else [])]
    return write_run(directory / "runs" / "exp" / "toy" / "run", events, experiment="exp", **changes)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """The recording of a run on the device ``toy``."""
    return record(tmp_path / "recordings" / "toy" / "exp" / "toy" / "run" / "llm.jsonl")


def replay(path: Path) -> list[str]:
    cassette = Cassette(path, None, Stopwatch())
    return [cassette.answer(question(model, word), occurrence).text for model, word, occurrence in ASKED]


def change(path: Path, line: int, **fields: Any) -> None:
    """Change fields of one entry."""
    entries = read_lines(path)
    entries[line - 1] |= fields
    path.write_text("".join(canonical_json(entry) + "\n" for entry in entries))


def fields(path: Path) -> list[dict[str, Any]]:
    """The entries with defaults filled in."""
    return [entry.fields for entry in read_intact(path).entries]


def test_nothing_is_wrong_with_what_was_recorded(toy: Path, tmp_path: Path, capsys: Printed) -> None:
    run_of(tmp_path, used=4)
    for path in (toy, toy.parent, tmp_path):
        assert main(["check", str(path), "--runs", str(tmp_path / "runs")]) == 0
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err == "1 recordings, 1 with runs, 4 answers: nothing wrong\n"
    assert main(["check", str(toy), str(toy.parent)]) == 0
    assert capsys.readouterr().err == "1 recordings, 4 answers: nothing wrong\n"


@pytest.mark.parametrize(
    ("line", "fields", "finding"),
    [
        (1, {"key": "k"}, "key: expected `str` matching regex"),
        (2, {"lines": "abc"}, "lines: expected `str` matching regex"),
        (2, {"occurrence": -1}, "occurrence: expected `int` >= 0"),
        (2, {"occurrence": True}, "occurrence: expected `int`, got `bool`"),
        (3, {"prompt_tokens": "many"}, "prompt_tokens: expected `int`, got `str`"),
        (3, {"latency_secs": None}, "latency_secs: expected `float`, got `null`"),
        (2, {"occurrence": 0}, "is already answered in line 1"),
        (2, {"occurrence": 2}, "occurrence 1 is missing"),
        (3, {"text": f"use {CREDENTIAL}"}, "text contains what looks like a credential"),
        (4, {"backend": "openai"}, "'openai' answers for 'small', but 'embedded' does in line 1"),
    ],
)
def test_a_finding_names_file_and_line(
    toy: Path, capsys: Printed, line: int, fields: dict[str, Any], finding: str
) -> None:
    change(toy, line, **fields)
    assert main(["check", str(toy)]) == 1
    captured = capsys.readouterr()
    found = [printed for printed in captured.out.splitlines() if printed.startswith(f"{toy}, line {line}: ")]
    assert len(found) == 1 and finding in found[0]
    assert CREDENTIAL not in captured.out


@pytest.mark.parametrize("field", ["key", "model", "text", "prompt_tokens", "completion_tokens"])
def test_what_is_broken_is_found_and_the_rest_is_still_read(toy: Path, capsys: Printed, field: str) -> None:
    lines = toy.read_text().splitlines()
    live = json.loads(lines[2]) | {"backend": "openai"}  # a stand-in's tokens are known from its text
    lacking = {name: value for name, value in live.items() if name != field}
    toy.write_text("\n".join([lines[0], "nonsense", canonical_json(lacking), "[1]", lines[1], lines[3]]))
    assert main(["check", str(toy)]) == 1
    captured = capsys.readouterr()
    assert [line.removeprefix(f"{toy}, line ").split(" (")[0] for line in captured.out.splitlines()] == [
        "2: is not valid JSON",
        f"3: object missing required field `{field}`",
        "4: is a JSON list, not an object",
        "6: is truncated",
    ]
    assert captured.err == "1 recordings, 2 answers: 4 findings\n"
    for command in (["stats", str(toy)], ["diff", str(toy), str(toy)], ["prune", "--gzip", "--in-place", str(toy)]):
        before = toy.read_bytes()
        assert main(command) == 1
        captured = capsys.readouterr()
        assert captured.out == "" and f"error: {toy}, line 2: is not valid JSON" in captured.err
        assert toy.read_bytes() == before and [p.name for p in toy.parent.iterdir()] == ["llm.jsonl"]


def test_a_question_that_a_limit_kept_from_being_asked_is_no_answer(toy: Path, capsys: Printed) -> None:
    entries = read_lines(toy)
    asked = {name: entries[3][name] for name in ("key", "occurrence", "model", "lines")}
    for later in ([], [entries[3]]):
        kept = [*entries[:3], asked | {"limit": "calls"}, *later]
        toy.write_text("".join(canonical_json(entry) + "\n" for entry in kept))
        assert main(["check", str(toy)]) == 0
        assert f"{3 + len(later)} answers: nothing wrong" in capsys.readouterr().err
        assert main(["stats", str(toy)]) == 0
        assert f"total {3 + len(later)} 0 " in " ".join(capsys.readouterr().out.split())


def test_a_run_and_its_recording_are_compared(toy: Path, tmp_path: Path, capsys: Printed) -> None:
    journal = run_of(tmp_path, used=3) / "events.jsonl"
    toy.write_text("".join(toy.read_text().splitlines(keepends=True)[1:]))  # the first answer is lost
    change(toy, 1, occurrence=0)
    assert main(["check", str(tmp_path / "recordings"), "--runs", str(tmp_path / "runs")]) == 1
    small = question(SMALL, "a").key[:12]
    assert capsys.readouterr().out.splitlines() == [
        f"{toy}, line 3: 'small', question {question(SMALL, 'c').key[:12]}, occurrence 0 is not used by {journal}",
        f"{journal}, line 3: question {small}, occurrence 1 is not in {toy}",
    ]


def test_an_unfinished_run_may_still_use_its_answers(toy: Path, tmp_path: Path, capsys: Printed) -> None:
    run_of(tmp_path, used=2, finished=False)
    runs = str(tmp_path / "runs")
    assert main(["check", str(toy), "--runs", runs]) == 0
    before = fields(toy)
    assert main(["prune", str(toy), "--runs", runs, "--in-place"]) == 0
    assert "is unfinished; all answers are kept" in capsys.readouterr().err
    assert fields(toy) == before


def test_random_answers_are_in_no_recording(toy: Path, tmp_path: Path, capsys: Printed) -> None:
    run_of(tmp_path, used=4, search=vars(settings(proposer="uniform")))
    toy.write_text("")
    assert main(["check", str(toy), "--runs", str(tmp_path / "runs")]) == 0
    assert "1 with runs, 0 answers: nothing wrong" in capsys.readouterr().err


def test_damaged_runs_are_findings(toy: Path, tmp_path: Path, capsys: Printed) -> None:
    directory = run_of(tmp_path, used=4)
    for damage, finding in (
        (lambda: (directory / "config.yaml").write_text("run: [\n"), f"{directory / 'config.yaml'} is broken"),
        (lambda: (directory / "config.yaml").unlink(), f"cannot read {directory / 'config.yaml'}"),
        (lambda: (directory / "events.jsonl").write_text("x\n"), f"{directory / 'events.jsonl'}, line 1: not valid"),
    ):
        damage()
        assert main(["check", str(toy), "--runs", str(tmp_path / "runs")]) == 1
        (line,) = capsys.readouterr().out.splitlines()
        assert line.startswith(finding)
        assert main(["prune", str(toy), "--runs", str(tmp_path / "runs"), "--in-place"]) == 1
        assert capsys.readouterr().err.startswith(f"error: {finding}")


def test_stats_mark_stand_ins_and_their_estimates(toy: Path, tmp_path: Path, capsys: Printed) -> None:
    assert main(["stats", str(tmp_path)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    sizes = [len(line) for line in toy.read_bytes().splitlines(keepends=True)]
    assert lines == [
        "model backend calls failed tokens in tokens out mean latency bytes",
        f"large (stand-in) embedded 1 0 ~300 ~3 - {sizes[2]}",
        f"small (stand-in) embedded 3 0 ~700 ~7 - {sum(sizes) - sizes[2]}",
        f"total 4 0 ~1000 ~10 - {sum(sizes)}",
        f"recordings: 1, {sum(sizes)} bytes on disk",
        "stand-ins answer for the models they name; ~: includes their tokens, which are estimates",
    ]


def test_stats_of_live_models_are_exact_and_leave_failed_calls_out_of_the_mean(toy: Path, capsys: Printed) -> None:
    for line, secs in enumerate((1.0, 2.0, 4.0, 30.0), start=1):
        change(toy, line, backend="openai", latency_secs=secs)
    change(toy, 4, finish_reason="transport")
    assert main(["stats", str(toy)]) == 0
    lines = [" ".join(line.split()[:-1]) for line in capsys.readouterr().out.splitlines()]
    assert lines[1:4] == ["large openai 1 0 300 3 4.00 s", "small openai 3 1 700 7 1.50 s", "total 4 1 1000 10 2.33 s"]
    assert len(lines) == 5


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_pruned_recording_replays_the_same(
    toy: Path, tmp_path: Path, capsys: Printed, packed: bool, in_place: bool
) -> None:
    texts, before = replay(toy), toy.read_bytes()
    where = ["--in-place"] if in_place else ["--out", str(tmp_path / "out")]
    command = ["prune", str(tmp_path / "recordings"), "--questions", *where, *(["--gzip"] if packed else [])]
    assert main(command) == 0
    written = (toy.parent if in_place else tmp_path / "out" / "toy" / "exp" / "toy" / "run") / "llm.jsonl"
    assert replay(written) == texts
    assert [path.name for path in written.parent.iterdir()] == ["llm.jsonl.gz" if packed else "llm.jsonl"]
    (file,) = written.parent.iterdir()
    assert capsys.readouterr().out == f"{file}: 4 of 4 entries, {len(before)} -> {file.stat().st_size} bytes\n"
    assert file.stat().st_size < len(before)
    with pytest.raises(ReplayMissError, match="The questions were pruned"):
        Cassette(written, None, Stopwatch()).answer(question(SMALL, "new"), 0)
    assert main(["check", str(file)]) == 0
    if not in_place:
        assert toy.read_bytes() == before


def test_packing_gives_the_same_bytes_every_time_and_unpacks_to_the_recording(toy: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        assert main(["prune", str(toy), "--gzip", "--out", str(tmp_path / name)]) == 0
    one, two = (tmp_path / name / "llm.jsonl.gz" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert fields(one) == fields(toy)
    assert main(["prune", str(one), "--questions", "--in-place"]) == 0
    assert one.stat().st_size < two.stat().st_size and replay(tmp_path / "one" / "llm.jsonl") == replay(toy)


def test_answers_that_the_run_did_not_use_go(toy: Path, tmp_path: Path) -> None:
    run_of(tmp_path, used=3)
    before = fields(toy)
    assert main(["prune", str(toy), "--runs", str(tmp_path / "runs"), "--in-place"]) == 0
    assert fields(toy) == before[:3]
    assert main(["check", str(toy), "--runs", str(tmp_path / "runs")]) == 0


def test_a_recording_in_use_is_not_rewritten(toy: Path, tmp_path: Path, capsys: Printed) -> None:
    before = toy.read_bytes()
    with JsonLines(toy):
        for where in (["--in-place"], ["--out", str(tmp_path / "out")]):
            assert main(["prune", str(toy), "--questions", *where]) == 1
            assert capsys.readouterr().err == f"error: {toy} is in use by another process; wait for it.\n"
    assert toy.read_bytes() == before and not (tmp_path / "out").exists()


def refused(arrange: Callable[[Path, Path], list[str]], message: str) -> Any:
    return pytest.param(arrange, message, id=message)


def twins(toy: Path, tmp_path: Path) -> list[str]:
    other = record(tmp_path / "other" / "llm.jsonl")
    return ["prune", "--gzip", "--out", str(tmp_path / "out"), str(toy), str(other)]


def in_the_way(toy: Path, tmp_path: Path) -> list[str]:
    toy.with_name("llm.jsonl.gz").write_bytes(b"precious")
    return ["prune", "--gzip", "--in-place", str(toy)]


def of_another_run(toy: Path, tmp_path: Path) -> list[str]:
    run_of(tmp_path, 4, run="toy/another")
    return ["prune", "--in-place", str(toy), "--runs", str(tmp_path / "runs")]


def unwritable(toy: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "file").write_text("")
    return ["prune", "--questions", str(toy), "--out", str(tmp_path / "file")]


def two_to_compare(toy: Path, tmp_path: Path) -> list[str]:
    record(toy.parent.with_name("second") / "llm.jsonl")
    return ["diff", str(tmp_path), str(toy)]


@pytest.mark.parametrize(
    ("arrange", "message"),
    [
        refused(lambda toy, tmp: ["check", str(tmp / "nowhere")], "no llm.jsonl below"),
        refused(lambda toy, tmp: ["check", str(toy), "--runs", str(tmp / "no")], "no run below"),
        refused(twins, "would both become"),
        refused(in_the_way, "already exists"),
        refused(of_another_run, "belongs to"),
        refused(unwritable, "cannot write"),
        refused(two_to_compare, "give one, such as"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_changes_nothing(
    toy: Path, tmp_path: Path, capsys: Printed, arrange: Callable[[Path, Path], list[str]], message: str
) -> None:
    command, before = arrange(toy, tmp_path), toy.read_bytes()
    files = sorted(tmp_path.rglob("*"))
    assert main(command) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert toy.read_bytes() == before and sorted(tmp_path.rglob("*")) == files


@pytest.mark.parametrize(
    "arguments", [[], ["prune", "x", "--gzip"], ["prune", "x", "--in-place"], ["diff", "x"], ["check"], ["mend", "x"]]
)
def test_a_wrong_command_line_has_status_2(arguments: list[str], capsys: Printed) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2 and "usage:" in capsys.readouterr().err


def test_diff_of_equal_recordings_is_empty(toy: Path, tmp_path: Path, capsys: Printed) -> None:
    assert main(["prune", str(toy), "--gzip", "--out", str(tmp_path / "b")]) == 0
    capsys.readouterr()
    assert main(["diff", str(toy.parent), str(tmp_path / "b")]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "all 4 answers are equal\n"


def test_diff_names_answers_and_the_line_where_questions_part(toy: Path, tmp_path: Path, capsys: Printed) -> None:
    other = record(tmp_path / "other" / "llm.jsonl", [*ASKED[:2], (LARGE, "B", 0), (SMALL, "d", 0)])
    change(other, 2, text="another")
    assert main(["diff", str(toy), str(other)]) == 1
    ids = {word: question(model, word).key[:12] for model, word in ((SMALL, "a"), (LARGE, "b"), (LARGE, "B"))}
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        f"different answers in {toy}, line 2, and {other}, line 2: 'small', question {ids['a']}, occurrence 1",
        f"only in {toy}, line 3: 'large', question {ids['b']}, occurrence 0",
    ]
    assert f"only in {other}, line 3: 'large', question {ids['B']}, occurrence 0" in lines
    # Lines of the messages: [user], fixed, b, end
    parting = f"the questions diverge in {toy}, line 3, and {other}, line 3: "
    assert len(lines) == 6 and lines[-1] == parting + "the messages differ from line 3 on"
    change(other, 3, lines="")
    assert main(["diff", str(toy), str(other)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].endswith("pruned, so the differing line of the messages is unknown")
    third = record(tmp_path / "third" / "llm.jsonl", [*ASKED[:2], (SMALL, "b", 0)])
    assert main(["diff", str(toy), str(third)]) == 1
    assert "the messages are equal; occurrence, model or" in capsys.readouterr().out.splitlines()[-1]


def test_it_works_without_tvm(toy: Path) -> None:
    code = (
        "import sys; sys.modules['tvm'] = None\n"
        "from colt_pipeline.tools.recordings import main\n"
        f"sys.exit(main(['stats', {str(toy)!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "small (stand-in)" in done.stdout


def test_the_committed_recordings_are_sound(capsys: Printed) -> None:
    assert main(["check", str(ROOT / "results" / "recordings")]) == 0
    assert capsys.readouterr().out == ""
