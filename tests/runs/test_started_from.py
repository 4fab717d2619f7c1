"""The record of what a run starts from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colt_pipeline.errors import JournalError, RecordingError
from colt_pipeline.runs.layout import START, set_aside
from colt_pipeline.runs.started_from import Taken, read_start, write_start
from tests.toy_run import tiled_trace

TAKEN = [
    Taken("aa", tiled_trace((4, 4)), 0.25, "adhoc/first"),
    Taken("bb", tiled_trace((2, 8)), 0.5, "adhoc/model/dense_1"),
]


def test_programs_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "recordings" / START
    write_start(path, TAKEN)
    assert read_start(path) == TAKEN
    assert [json.loads(line)["from"] for line in path.read_text().splitlines()] == [each.source for each in TAKEN]


def test_nothing_found_is_not_the_same_as_nothing_looked_for(tmp_path: Path) -> None:
    path = tmp_path / START
    assert read_start(path) is None
    write_start(path, [])
    assert read_start(path) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"program": 5}, "program: "),
        ({"latency_secs": 0}, "latency_secs: "),
        ({"from": None}, "from: "),
        ({"trace": 1}, "trace: "),
        ({"trace": "[["}, "its trace is not valid JSON"),
        ({"trace": '[[["Evaluate",[],[],[]]],[]]'}, "'Evaluate', which no rule makes here"),
        ({"program": "aa"}, "its key 'aa' is already in line 1"),
    ],
)
def test_a_damaged_line_is_named(change: dict[str, object], said: str, tmp_path: Path) -> None:
    path = tmp_path / START
    write_start(path, TAKEN)
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{json.dumps({**json.loads(second), **change})}\n")
    with pytest.raises(RecordingError) as refused:
        read_start(path)
    assert str(refused.value).startswith(f"{path}, line 2: ") and said in str(refused.value)


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / START
    path.write_text("{\n")
    with pytest.raises(JournalError, match=rf"{START}, line 1: not valid JSON"):
        read_start(path)


def test_it_is_set_aside_with_its_recording(tmp_path: Path) -> None:
    write_start(tmp_path / START, TAKEN)
    set_aside(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{START}.1"]
