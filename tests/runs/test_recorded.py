"""A recording in front of a live source: what is on disk is found again, and invalid lines are rejected."""

from pathlib import Path
from typing import TypedDict

import pytest

from colt_pipeline.errors import JournalError, RecordingError
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.runs.recorded import Access, Fields, Recorded
from colt_pipeline.serialization import typed


class Line(TypedDict):
    key: str
    value: int


def read(line: Fields) -> tuple[str, Fields]:
    typed(Line, line)
    return line["key"], {"unit": "s", **line}


def recorded(path: Path, access: Access) -> Recorded[str]:
    return Recorded(path, access, read)


def test_what_was_appended_is_on_disk_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.jsonl"
    live = recorded(path, "append")
    assert live.get("a") is None
    assert live.append({"key": "a", "value": 1}) == {"key": "a", "value": 1, "unit": "s"}
    assert read_lines(path) == [{"key": "a", "value": 1}]  # as it was passed, before anything is closed
    live.append({"key": "b", "value": 2, "unit": "ms"})
    live.close()
    for access in ("replay", "append"):
        again = recorded(path, access)
        assert again.get("a") == {"key": "a", "value": 1, "unit": "s"} and again.get("c") is None
        assert [entry["unit"] for entry in again.entries] == ["s", "ms"]
        again.close()


def test_a_key_occurs_once_unless_its_entry_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    live = Recorded(path, "append", read, superseded=lambda entry: entry["value"] == 0)
    for value in (0, 1):
        live.append({"key": "a", "value": value})
        assert (live.get("a") or {})["value"] == value
    before = path.read_bytes()
    with pytest.raises(ValueError, match="its key 'a' is already in line 2"):
        live.append({"key": "a", "value": 2})
    live.close()
    assert path.read_bytes() == before
    replay = Recorded(path, "replay", read, superseded=lambda entry: entry["value"] == 0)
    assert (replay.get("a") or {})["value"] == 1 and [entry["value"] for entry in replay.entries] == [0, 1]
    with pytest.raises(RecordingError, match="line 2: its key 'a' is already in line 1; restore the file"):
        recorded(path, "replay")


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    live = recorded(tmp_path / "file.jsonl", "append")
    with pytest.raises(ValueError, match="missing required field `value`"):
        live.append({"key": "a"})
    live.close()
    assert (tmp_path / "file.jsonl").read_text() == ""


def test_a_replay_neither_makes_nor_locks_nor_mends_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    assert recorded(path, "replay").entries == [] and not path.exists()
    live = recorded(path, "append")
    live.append({"key": "a", "value": 1})
    replay = recorded(path, "replay")  # while another one appends
    assert replay.get("a")
    with pytest.raises(AssertionError, match="a replay records nothing"):
        replay.append({"key": "b", "value": 2})
    with pytest.raises(JournalError, match="in use"):
        recorded(path, "append")
    live.close()
    assert read_lines(path) == [{"key": "a", "value": 1}]


@pytest.mark.parametrize("access", ["replay", "append"])
def test_a_line_that_is_refused_is_named_with_the_way_out_and_leaves_no_lock(tmp_path: Path, access: Access) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text('{"key":"a","value":1}\n{"unit":"s"}\n')
    with pytest.raises(RecordingError) as refused:
        recorded(path, access)
    assert str(refused.value) == f"{path}, line 2: object missing required field `key`; restore the file"
    path.write_text('{"key":"a","value":1}\n')
    recorded(path, "append").close()
    assert path.read_text() == '{"key":"a","value":1}\n'
