"""A replay trusts nobody: journals are compared with the recording, names are looked up, broken files are named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from colt_pipeline.app import summary_table
from colt_pipeline.errors import ColtError, JournalError, RecordingError, RunDirError
from colt_pipeline.job import Job, batches_and_outputs
from colt_pipeline.runs.jsonl import read_lines
from tests.small_runs import TINY, play
from tests.support import Compose, Recorded

pytestmark = pytest.mark.tvm

Lines = list[str]


def copied(job: Job, results: Path) -> Path:
    """A copy of a run and its recording; the run's directory."""
    shutil.copytree(Path(job.config.results), results)
    return results / job.rundir.path.relative_to(job.config.results)


def write(path: Path, records: Iterable[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


def replay(composed: Compose, *overrides: str) -> None:
    from colt_pipeline.assemble import assemble

    with assemble(composed(*TINY, *overrides)) as job:
        for _ in batches_and_outputs(job):
            pass


def edited(change: Callable[[dict[str, object]], object], kind: str) -> Callable[[Lines], tuple[Lines, int]]:
    """Change the first event of a kind; also the number of the line that the error must name."""

    def edit(lines: Lines) -> tuple[Lines, int]:
        number = next(n for n, line in enumerate(lines) if json.loads(line)["kind"] == kind)
        event = json.loads(lines[number])
        change(event)
        return [*lines[:number], json.dumps(event), *lines[number + 1 :]], number + 1

    return edit


def fast(event: dict[str, object]) -> None:
    samples = event["samples"]
    assert isinstance(samples, list)
    for sample in samples:
        sample["latency_secs"] = 1e-12


EDITS: dict[str, Callable[[Lines], tuple[Lines, int]]] = {
    "latency": edited(fast, "measured"),
    "baseline": edited(lambda event: event.update(baseline_secs=1e6), "started"),
    "score": edited(lambda event: event["child"].update(score=9.0), "stepped"),  # type: ignore[attr-defined]
    "unknown field": edited(lambda event: event.update(colour="red"), "stepped"),
    "unknown model": edited(lambda event: event["calls"][0].update(model="nobody"), "stepped"),  # type: ignore[index]
    "device": edited(lambda event: event.update(workload="another"), "started"),
    "removed": lambda lines: ([*lines[:3], *lines[4:]], 6),  # the batch in which its program was measured
    "doubled": lambda lines: ([*lines[:4], *lines[3:]], 5),
    "reordered": lambda lines: ([*lines[:3], lines[4], lines[3], *lines[5:]], 4),
    "after the end": lambda lines: ([*lines, lines[3]], len(lines) + 1),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_replay_refuses_an_edited_journal_and_overwrites_nothing(
    composed: Compose, recorded: Recorded, tmp_path: Path, name: str
) -> None:
    directory = copied(recorded(*TINY), tmp_path / "results")
    journal = directory / "events.jsonl"
    lines, number = EDITS[name](journal.read_text().splitlines())
    journal.write_text("".join(line + "\n" for line in lines))
    before = files(directory)
    with pytest.raises(ColtError, match=rf"events\.jsonl, line {number}: ") as refused:
        replay(composed, "record=replay")
    assert isinstance(refused.value, JournalError) and files(directory) == before


@pytest.mark.parametrize("name", ["latency", "baseline"])
def test_a_resumed_run_refuses_latencies_that_nobody_measured(
    composed: Compose, recorded: Recorded, tmp_path: Path, name: str
) -> None:
    directory = copied(recorded(*TINY), tmp_path / "results")
    journal = directory / "events.jsonl"
    lines, number = EDITS[name](journal.read_text().splitlines())
    journal.write_text("".join(line + "\n" for line in lines))
    with pytest.raises(
        JournalError, match=rf"events\.jsonl, line {number}: program .* but .*measurements\.jsonl holds"
    ):
        play(composed(*TINY))


def test_a_ledger_that_was_edited_after_the_run_is_noticed(
    composed: Compose, recorded: Recorded, tmp_path: Path
) -> None:
    directory = copied(recorded(*TINY), tmp_path / "results")
    (ledger,) = (tmp_path / "results" / "recordings").rglob("tiny/measurements.jsonl")
    header, *lines = read_lines(ledger)
    lines[3] |= {"run_secs": [1e-12]}
    write(ledger, (header, *lines))
    before = files(directory)
    with pytest.raises(JournalError, match=r"events\.jsonl, line \d+: "):
        replay(composed, "record=replay")
    assert files(directory) == before


def test_a_limit_that_was_put_into_a_recording_is_noticed(
    composed: Compose, recorded: Recorded, tmp_path: Path
) -> None:
    directory = copied(recorded(*TINY), tmp_path / "results")
    (answers,) = (tmp_path / "results" / "recordings").rglob("tiny/llm.jsonl")
    *lines, last = read_lines(answers)
    refused = {name: last[name] for name in ("key", "model")} | {"limit": "budget.run.calls=5 is reached"}
    write(answers, (*lines, refused))
    before = files(directory)
    with pytest.raises(JournalError, match=r"events\.jsonl, line \d+: the journal goes on where a limit"):
        replay(composed, "record=replay")
    assert files(directory) == before


def test_a_replay_of_a_finished_run_gives_its_bytes_again(
    composed: Compose, recorded: Recorded, tmp_path: Path
) -> None:
    directory = copied(recorded(*TINY), tmp_path / "results")
    before = files(directory)
    for name in ("summary.json", "curve.csv", "best.txt"):
        (directory / name).unlink()
    replay(composed, "record=replay")
    assert files(directory) == before


def test_a_replay_goes_on_where_a_journal_ends(composed: Compose, recorded: Recorded, tmp_path: Path) -> None:
    directory = copied(recorded(*TINY), tmp_path / "results")
    journal = directory / "events.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(b"".join(whole.splitlines(keepends=True)[:5]))
    replay(composed, "record=replay")
    assert journal.read_bytes() == whole


@pytest.mark.parametrize(("asked", "there"), [("b[2]", "b[2]"), ("*", "a1"), ("a*", "a1"), ("[a]1", "a1")])
def test_names_are_looked_up_not_matched(
    composed: Compose, recorded: Recorded, tmp_path: Path, asked: str, there: str
) -> None:
    job = recorded(*TINY)
    recording = job.cassette.path.parent
    results = tmp_path / "results"
    shutil.copytree(recording, results / recording.relative_to(job.config.results).with_name(there))
    overrides = (f"run='{asked}'", "record=replay")
    if asked == there:
        replay(composed, *overrides)
        assert (results / "runs" / "adhoc" / asked / "summary.json").exists()
    else:
        with pytest.raises(RecordingError, match="found: none"):
            replay(composed, *overrides)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"run: [\n", r"is broken .*expected"),
        (b"!!python/object/apply:os.system ['true']\n", r"is broken .*could not determine a constructor"),
        (b"\x00\x01\xff\xfe", r"is broken .*can't decode"),
        (b"- 1\n- 2\n", r"holds a value of type list"),
        (b"a: &a [1]\nb: *a\n", r"is broken .*alias"),
        (b"[" * 100_000, r"is broken"),
        (b"", r"holds a value of type NoneType"),
    ],
)
def test_a_broken_config_is_one_message(
    composed: Compose, recorded: Recorded, tmp_path: Path, text: bytes, problem: str
) -> None:
    directory = copied(recorded(*TINY), tmp_path / "results")
    (directory / "config.yaml").write_bytes(text)
    before = files(directory)
    with pytest.raises(RunDirError, match=rf"config\.yaml {problem}.*restore it"):
        replay(composed, "record=replay")
    assert files(directory) == before


@pytest.mark.parametrize(
    ("file", "line", "text", "problem"),
    [
        ("llm.jsonl", 1, "[" * 100_000, "nested too deeply"),
        ("llm.jsonl", 2, '{"text":null}', "line 2: "),
        ("measurements.jsonl", 1, '{"schema":1}', "line 1: .*missing required field"),
        ("measurements.jsonl", 2, '{"program":7,"run_secs":[1]}', "line 2: program: expected `str`, got `int`"),
    ],
)
def test_a_broken_recording_is_one_message(
    composed: Compose, recorded: Recorded, tmp_path: Path, file: str, line: int, text: str, problem: str
) -> None:
    copied(recorded(*TINY), tmp_path / "results")
    (path,) = (tmp_path / "results" / "recordings").rglob(f"tiny/{file}")
    lines = path.read_text().splitlines()
    lines[line - 1] = text
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ColtError, match=problem):
        replay(composed, "record=replay")


def test_a_recording_says_of_which_device_it_is(composed: Compose, recorded: Recorded, tmp_path: Path) -> None:
    copied(recorded(*TINY), tmp_path / "results")
    (device,) = (tmp_path / "results" / "recordings").iterdir()
    device.rename(device.with_name("a-faster-one"))
    with pytest.raises(
        RecordingError, match=f"is a recording of {device.name}, but lies in the directory of another device"
    ):
        replay(composed, "record=replay")
    (ledger,) = (tmp_path / "results" / "recordings").rglob("tiny/measurements.jsonl")
    header, *lines = read_lines(ledger)
    header["device"] = {"kind": "abacus"}
    write(ledger, (header, *lines))
    with pytest.raises(RecordingError, match="line 1: device lacks 'abacus', or is of unknown kind"):
        replay(composed, "record=replay")


def test_a_table_claims_no_check_that_a_replay_does_not_make(recorded: Recorded) -> None:
    summary = json.loads((recorded(*TINY).rundir.path / "summary.json").read_text())
    shown = summary_table([summary | {"measurement": "measured"}])
    assert "when measured, each program was checked" in shown and "what is replayed is not checked again" in shown
    assert "checked" not in summary_table([summary | {"measurement": "estimated"}])
