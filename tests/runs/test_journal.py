"""Journals of earlier versions stay readable; events survive the round trip."""

import json
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.errors import JournalError
from colt_pipeline.runs.events import Finished, Measured, Planted, Started, Stepped, event_from_json
from colt_pipeline.runs.journal import Journal, read_events

DATA = Path(__file__).parent.parent / "data"

BEGUN: dict[str, Any] = {"kind": "started", "schema": 1, "workload": "w", "workload_hash": "0", "target": {}}
BEGUN |= {"device": "d", "measurement": "measured", "baseline_secs": 1.0}
BRED: dict[str, Any] = {"kind": "bred", "candidates": [{"program": "aa", "trace": "[]"}]}
CHILD: dict[str, Any] = {"program": "aa", "trace": "[]", "model": "m", "score": 1, "parent_score": 1, "reward": 1}
CALL: dict[str, Any] = {
    "model": "m",
    "role": "regular",
    "key": "k",
    "occurrence": 0,
    "outcome": "accepted",
    "detail": "",
}
CALL |= {"transformations": [], "next_model": None, "flaw": None}
CALL |= {"prompt_tokens": 1, "completion_tokens": 1, "hit": False}
SAMPLE: dict[str, Any] = {"program": "aa", "latency_secs": 0.5, "error": None}


def step(**fields: Any) -> dict[str, Any]:
    nothing = {"child": None, "made_by": None, "pruned": None, "retry_model": None}
    return {"kind": "stepped", "step": 0, "parent": 0, "calls": [], **nothing, **fields}


def test_the_first_journal_format_is_still_read(tmp_path: Path) -> None:
    copy = tmp_path / "events.jsonl"
    copy.write_bytes((DATA / "journal_1.jsonl").read_bytes())
    journal = Journal(copy)
    kinds = {type(e) for e in journal.events}
    assert kinds == {Started, Planted, Stepped, Measured, Finished}
    assert any(isinstance(e, Stepped) and e.pruned is not None for e in journal.events)
    journal.close()
    rewritten = Journal(tmp_path / "again.jsonl")
    for event in journal.events:
        rewritten.append(event)
    rewritten.close()
    assert (tmp_path / "again.jsonl").read_bytes() == copy.read_bytes()


def test_an_unknown_event_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind":"danced"}\n')
    with pytest.raises(JournalError, match="another version"):
        Journal(path)
    assert path.read_text() == '{"kind":"danced"}\n'


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([{"kind": "finished", "reason": "budget"}], "line 1: an event of kind finished at the beginning"),
        ([BEGUN, BEGUN], "line 2: an event of kind started in the middle"),
        ([BEGUN, step(parent=1)], "line 2: parent: there is no node 1 yet"),
        ([BEGUN, step(step=-1)], "line 2: step: expected `int` >= 0"),
        ([BEGUN, step(calls=[{}])], r"line 2: calls\[0\]: object missing required field"),
        ([BEGUN | {"baseline_secs": 0}], "line 1: baseline_secs: expected `float` > 0.0"),
        ([BEGUN | {"measurement": "felt"}], "line 1: measurement: invalid enum value 'felt'"),
        ([BEGUN, {"kind": "measured", "samples": [SAMPLE]}], "line 2: samples: program aa is not waiting"),
        ([BEGUN, BRED, {"kind": "measured", "samples": [SAMPLE, SAMPLE]}], "line 3: samples: program aa is not wait"),
        (
            [BEGUN, BRED, {"kind": "measured", "samples": [{"program": "aa", "latency_secs": 1, "error": "crash"}]}],
            "line 3: samples: program aa needs either a latency or an error",
        ),
        ([BEGUN, {"kind": "chosen", "node": 0, "scores": []}], "line 2: node: there is no node 0 that a model could"),
        (
            [BEGUN, {"kind": "chosen", "node": 1, "scores": [0.5]}],
            "line 2: node: there is no node 1 that a model could",
        ),
        ([BEGUN, {"kind": "deferred", "call": CALL, "child": CHILD}], "line 2: call: no answer is awaited"),
        ([BEGUN, step(pruned=CHILD, calls=[])], "line 2: calls: none, although one made the child"),
        ([BEGUN, {"kind": ["finished"]}], r"line 2: kind \['finished'\] is none of started, "),
    ],
)
def test_a_journal_that_no_run_wrote_is_one_message(tmp_path: Path, lines: list[object], problem: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for reader in (read_events, Journal):
        with pytest.raises(JournalError, match=problem + ".*it is damaged, or was written by another version"):
            reader(path)


def test_a_replay_compares_events_and_writes_only_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    begun = event_from_json(BEGUN)
    first = Journal(path)
    first.append(begun)
    first.close()
    before = path.read_bytes()
    replay = Journal(path, replay=True)
    assert replay.recorded == [begun] and replay.events == []
    with pytest.raises(JournalError, match=r"line 1: .*baseline_secs: 1.0 there, 2.0 now.*Nothing was changed"):
        replay.append(event_from_json(BEGUN | {"baseline_secs": 2.0}))
    assert path.read_bytes() == before and replay.events == []
    replay.append(begun)
    assert path.read_bytes() == before
    replay.append(Finished("budget"))
    replay.close()
    assert read_events(path) == [begun, Finished("budget")]
