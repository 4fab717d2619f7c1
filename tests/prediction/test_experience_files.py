"""Experience on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tvm.s_tir.meta_schedule.feature_extractor import PerStoreFeature

from colt_pipeline.errors import ConfigError, RecordingError
from colt_pipeline.prediction.experience_files import experience_digest, read_experience, write_experience
from colt_pipeline.prediction.pretrained import FEATURES as WIDTH
from colt_pipeline.prediction.pretrained import features
from tests.space.small import space

pytestmark = pytest.mark.tvm


def rows(count: int, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).uniform(0, 10, size=(count, WIDTH)).astype(np.float32)


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    here = space("deepseek_r1_moe")
    extractor = PerStoreFeature()
    found = features(here, extractor, here.initial(3, np.random.default_rng(0)))
    assert {row.shape for row in found} == {(WIDTH,)} and {row.dtype for row in found} == {np.dtype(np.float32)}
    assert len({row.tobytes() for row in found}) == 3
    write_experience(tmp_path / "aa.csv", zip((1.23456e-3, None, 2.0), found, strict=True))
    [read] = read_experience(tmp_path, "bb")
    assert read.latencies == [1.23456e-3, np.inf, 2.0]
    assert np.array_equal(np.stack(read.features), np.stack(found))


def test_the_workload_itself_is_left_out(tmp_path: Path) -> None:
    for name, secs in (("aa", 1.0), ("bb", 2.0), ("cc", 3.0)):
        write_experience(tmp_path / f"{name}.csv", [(secs, rows(1, 0)[0])])
    assert [e.latencies for e in read_experience(tmp_path, "bb")] == [[1.0], [3.0]]
    assert len(read_experience(tmp_path, "dd")) == 3
    write_experience(tmp_path / "aa.csv", [(5.0, rows(1, 0)[0])])
    os.utime(tmp_path / "aa.csv", (1, 1))  # the clock of the file system may be coarse
    assert [e.latencies for e in read_experience(tmp_path, "bb")] == [[5.0], [3.0]]
    write_experience(tmp_path / "ee.csv", [])  # nothing of it was measured
    assert len(read_experience(tmp_path, "dd")) == 3


def test_a_directory_without_experience_is_named_with_the_ways_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pretraining=\S+nowhere is not a directory.*search\.cost_model=xgb"):
        read_experience(tmp_path / "nowhere", "aa")
    write_experience(tmp_path / "ee.csv", [])
    with pytest.raises(ConfigError, match=r"contains no measured programs"):
        read_experience(tmp_path, "aa")
    write_experience(tmp_path / "aa.csv", [(1.0, rows(1, 0)[0])])
    assert read_experience(tmp_path, "aa") == []  # it is there, but is the workload's own


def test_experience_is_identified_by_its_numbers(tmp_path: Path) -> None:
    def identity(*texts: str) -> str:
        for path in tmp_path.glob("*.csv"):
            path.unlink()
        for number, text in enumerate(texts):
            (tmp_path / f"{number}.csv").write_text(text, newline="")
        return experience_digest(read_experience(tmp_path, "own"))

    line = "0.1" + ",1" * 329
    assert identity(f"{line}\n") == identity(f"{line}\r\n") == identity("", f"{line}\n")
    others = ["0.2" + ",1" * 329, "0.1" + ",1" * 328 + ",2", "" + ",1" * 329]
    assert len({identity(f"{first}\n") for first in (line, *others)}) == 4
    assert len({identity(f"{line}\n{line}\n"), identity(f"{line}\n", f"{line}\n"), identity(f"{line}\n")}) == 3


@pytest.mark.parametrize(
    "line",
    [
        *("0.1,many" + ",1" * 328, "fast" + ",1" * 329, "0.1" + ",1" * 328, "0.1", "", "<<<<<<< ours"),
        *("nan" + ",1" * 329, "-1" + ",1" * 329, "0.1,nan" + ",1" * 328, "0.1," + "1" * 200_000),
    ],
    ids=[
        *("text", "latency", "cut off", "latency alone", "empty line", "merge conflict"),
        *("latency NaN", "latency below 0", "feature NaN", "a long field"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, line: str) -> None:
    good = "0.1" + ",1" * 329
    (tmp_path / "aa.csv").write_text(f"{good}\n{line}\n")
    with pytest.raises(RecordingError, match=r"aa\.csv contains a line that is not a program's features"):
        read_experience(tmp_path, "bb")


def test_a_device_in_place_of_a_file_is_not_read_for_ever(tmp_path: Path) -> None:
    (tmp_path / "aa.csv").symlink_to("/dev/zero")
    with pytest.raises(RecordingError, match=r"cannot read /dev/zero: it is a device or a pipe"):
        read_experience(tmp_path, "bb")
