"""A run directory belongs to one configuration."""

from pathlib import Path

import pytest

from colt_pipeline.errors import RunDirError
from colt_pipeline.runs.rundir import RunDir, write_bytes


def test_the_same_config_opens_the_same_directory(tmp_path: Path) -> None:
    RunDir(tmp_path / "run", {"samples": 8, "search": {"c": 1.5}})
    assert RunDir(tmp_path / "run", {"search": {"c": 1.5}, "samples": 8}).journal.parent == tmp_path / "run"


def test_another_config_is_refused_and_the_key_named(tmp_path: Path) -> None:
    RunDir(tmp_path / "run", {"samples": 8, "search": {"c": 1.5}})
    before = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(RunDirError, match=r"search\.c: 1\.5 there, 2\.0 now"):
        RunDir(tmp_path / "run", {"samples": 8, "search": {"c": 2.0}})
    assert (tmp_path / "run" / "config.yaml").read_bytes() == before


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunDirError, match="results=DIR"):
        RunDir(tmp_path / "file" / "run", {})


def test_csv_of_none_is_an_empty_field(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run", {})
    rundir.write_csv("x.csv", ("a", "b"), [{"a": 1, "b": None}, {"a": 0.5, "b": True}])
    assert (tmp_path / "run" / "x.csv").read_text() == "a,b\n1,\n0.5,True\n"


def test_csv_without_rows_keeps_its_header(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run", {})
    rundir.write_csv("x.csv", ("a", "b"), [])
    assert (tmp_path / "run" / "x.csv").read_text() == "a,b\n"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_bytes(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff" and list(path.parent.iterdir()) == [path]
    (path.parent / ".file.part").mkdir()  # in the way
    with pytest.raises(RunDirError, match=f"cannot write {path}: .*; existing files are intact"):
        write_bytes(path, b"other")
    assert path.read_bytes() == b"\x00\xff"
