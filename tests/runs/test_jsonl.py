"""Append-only files: what was written survives, what is corrupt is reported."""

import fcntl
import gzip
import os
import resource
from pathlib import Path

import pytest

from colt_pipeline.errors import JournalError, RunDirError
from colt_pipeline.runs import jsonl
from colt_pipeline.runs.jsonl import JsonLines, locked, read_from, read_growing, read_lines
from colt_pipeline.runs.rundir import read_config, read_json


def test_appended_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.jsonl"
    with JsonLines(path) as file:
        file.append({"b": 1, "a": "ü"})
        file.append({"c": None})
    assert path.read_bytes() == b'{"a":"\\u00fc","b":1}\n{"c":null}\n'
    with JsonLines(path) as file:
        assert file.records == read_lines(path) == [{"a": "ü", "b": 1}, {"c": None}]


def test_a_torn_last_line_is_dropped_for_writing_but_an_error_for_reading(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(b'{"a":1}\n{"b":')
    with pytest.raises(JournalError, match="line 2"):
        read_lines(path)
    assert read_growing(path) == [{"a": 1}]
    with JsonLines(path) as file:
        assert file.records == [{"a": 1}]
        file.append({"c": 3})
    assert path.read_bytes() == b'{"a":1}\n{"c":3}\n'


@pytest.mark.parametrize("broken", [b'{"a":1}\nnonsense\n{"b":2}\n', b'{"a":1}\n{"b":2}\nnonsense\n', b"[1]\n"])
def test_any_other_broken_line_is_named_and_nothing_is_changed(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(broken)
    with pytest.raises(JournalError, match=r"file\.jsonl, line \d"):
        JsonLines(path)
    assert path.read_bytes() == broken


def test_two_writers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    with JsonLines(path), pytest.raises(JournalError, match="in use by another process"):
        JsonLines(path)
    JsonLines(path).close()


def test_a_file_that_was_replaced_before_the_lock_was_got_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(b'{"a":1}\n')

    def replace(*_: object) -> None:
        path.rename(tmp_path / "before")
        path.write_bytes(b"")

    monkeypatch.setattr(fcntl, "flock", replace)
    with pytest.raises(JournalError, match="in use by another process"):
        JsonLines(path)


def test_a_locked_file_takes_no_writer_and_a_written_one_is_not_locked(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    with pytest.raises(JournalError, match="cannot read"), locked(path):
        pass
    with JsonLines(path), pytest.raises(JournalError, match="in use by another process"), locked(path):
        pass
    with locked(path), pytest.raises(JournalError, match="in use by another process"):
        JsonLines(path)
    JsonLines(path).close()


def test_a_packed_file_is_read_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a":1}\n{"b":2}\n'))
    assert read_lines(path) == [{"a": 1}, {"b": 2}]
    for damaged in (b"plain", path.read_bytes()[:-1], path.read_bytes()[:12] + b"\xff" * 30):
        path.write_bytes(damaged)
        with pytest.raises(JournalError, match=r"file\.jsonl\.gz: not a valid gzip file"):
            read_lines(path)


def test_nan_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    with JsonLines(path) as file:
        with pytest.raises(ValueError, match="JSON"):
            file.append({"x": float("nan")})
        file.append({"x": 1})
    assert read_lines(path) == [{"x": 1}]


def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalError, match="cannot write"):
        JsonLines(tmp_path / "file" / "x.jsonl")


def test_a_full_disk_damages_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.jsonl"
    with JsonLines(path) as file:
        file.append({"a": 1})

        def refuse(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", refuse)
            with pytest.raises(JournalError, match="No space left"):
                file.append({"b": 2})
        file.append({"c": 3})
    assert read_lines(path) == [{"a": 1}, {"c": 3}]


def test_a_limit_in_the_middle_of_a_line_damages_nothing_and_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with JsonLines(path) as file:
        file.append({"a": 1})
        resource.setrlimit(resource.RLIMIT_FSIZE, (12, hard))
        try:
            with pytest.raises(JournalError, match="File too large"):
                file.append({"b": 2})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        file.append({"c": 3})
    assert read_lines(path) == [{"a": 1}, {"c": 3}]


def test_a_device_in_place_of_a_file_is_not_read_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.symlink_to("/dev/zero")
    for read in (read_lines, read_growing, lambda path: read_from(path, 0), JsonLines):
        with pytest.raises(JournalError, match=r"file\.jsonl: it is a device or a pipe"):
            read(path)
    for read_mapping in (read_config, read_json):
        with pytest.raises(RunDirError, match=r"file\.jsonl: it is a device or a pipe"):
            read_mapping(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(JournalError, match="it is a device or a pipe"):
        read_lines(path)


def test_a_small_packed_file_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "MOST_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "llm.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a":"' + b" " * (1 << 20) + b'"}\n'))
    with pytest.raises(JournalError, match=r"llm\.jsonl\.gz has more than 1 MiB"):
        read_lines(path)


def test_a_field_that_a_line_names_twice_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "measurements.jsonl"
    path.write_text('{"a":1}\n{"b":{"run_secs":[1.0],"run_secs":[1e-9]}}\n')
    with pytest.raises(JournalError, match="line 2: not valid JSON .a field is named twice"):
        read_lines(path)
