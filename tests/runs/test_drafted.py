"""The record of what was picked from many draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colt_pipeline.errors import JournalError, RecordingError, ReplayMissError
from colt_pipeline.runs.drafted import DraftRecord, Pick
from colt_pipeline.runs.events import Candidate, Sample
from tests.toy_run import tiled_trace

MEASURED = [Sample("aa", 0.5, None), Sample("bb", None, "timeout")]
WAITING = [Candidate("cc", tiled_trace((4, 4)))]
PICKS = [Pick("dd", tiled_trace((2, 8)), 1, "mutation"), Pick("ee", tiled_trace((8, 2)), 0, "design")]


def record(path: Path, access: str = "append", **settings: object) -> DraftRecord:
    return DraftRecord(path, {"seed": 0, **settings}, access)  # type: ignore[arg-type]


def test_picks_come_back_as_they_were_and_only_after_the_same_measurements(tmp_path: Path) -> None:
    path = tmp_path / "drafts.jsonl"
    live = record(path)
    assert live.get(MEASURED, WAITING) is None
    live.add(MEASURED, WAITING, PICKS)
    live.close()
    again = record(path)
    assert again.get(MEASURED, WAITING) == PICKS
    assert again.get(MEASURED[:1], WAITING) is None
    assert again.get([Sample("aa", 0.6, None), MEASURED[1]], WAITING) is None
    assert again.get(MEASURED, []) is None
    again.close()
    other = record(path, seed=1)
    assert other.get(MEASURED, WAITING) is None
    other.close()


def test_a_batch_without_picks_is_recorded_too(tmp_path: Path) -> None:
    live = record(tmp_path / "drafts.jsonl")
    live.add([], [], [])
    assert live.get([], []) == []
    live.close()


def test_a_strict_replay_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "drafts.jsonl"
    live = record(path)
    live.add(MEASURED, WAITING, PICKS)
    live.close()
    replay = record(path, "replay")
    assert replay.get(MEASURED, WAITING) == PICKS
    with pytest.raises(ReplayMissError, match=r"drafted after 0 measured programs is not recorded.*record=missing"):
        replay.get([], [])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parents": [1]}, "not equally many"),
        ({"parents": [1, -1]}, "parents"),
        ({"sources": ["mutation", "divination"]}, "sources"),
        ({"traces": [[[0, 99], []], [[0], []]]}, "uses instruction 99"),
        ({"programs": ["dd", 5]}, "programs"),
        ({"measured": -2}, "measured"),
    ],
)
def test_a_damaged_line_is_named(change: dict[str, object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "drafts.jsonl"
    live = record(path)
    live.add(MEASURED, WAITING, PICKS)
    live.close()
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}) + "\n")
    with pytest.raises((RecordingError, JournalError), match=rf"drafts\.jsonl, line 1: .*{said}"):
        record(path, "replay")
