"""Summaries are read with their types, whoever wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.errors import RunDirError
from colt_pipeline.runs.summary import SHOWN, read_summary

GOOD = {
    "run": "r",
    "samples": 4,
    "stopped": "budget",
    "baseline_secs": 1.0,
    "best_secs": 0.25,
    "speedup": 4.0,
    "regular_calls": 3,
    "course_alterations": 0,
    "rejections": {},
    "sample_errors": {"timeout": 1},
    "llm_backend": "embedded",
    "measurement": "measured",
    "device": "box",
    "rtol": 1e-4,
}


def written(path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps({**GOOD, **changes}))
    return path


def test_a_summary_comes_back_with_fields_that_nothing_reads(tmp_path: Path) -> None:
    assert read_summary(written(tmp_path / "s.json", new=1), SHOWN) == {**GOOD, "new": 1}
    failed = {"best_secs": None, "speedup": None}
    assert read_summary(written(tmp_path / "s.json", **failed), SHOWN)["speedup"] is None
    exact = written(tmp_path / "s.json", rtol=0.0)  # outputs of integer types
    assert read_summary(exact, SHOWN)["rtol"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speedup": "huge"}, "speedup: expected `float | null`, got `str`"),
        ({"speedup": 31415.0}, r"speedup: 31415.0, but baseline_secs / best_secs is 4.0"),
        ({"speedup": None}, "speedup: None, but"),
        ({"best_secs": None}, "speedup: 4.0, but"),
        ({"best_secs": -1.0}, "best_secs"),
        ({"gflops": ["\x1b[31m"]}, "gflops"),
        ({"samples": 1e99}, "samples"),
        ({"workload": {"a": 1}}, "workload"),
        ({"measurement": "sworn"}, "measurement"),
        ({"rejections": {"empty": "many"}}, "rejections"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RunDirError, match=rf"s\.json: {message}.*record=replay"):
        read_summary(written(tmp_path / "s.json", **changes))


def test_a_missing_field_is_named_if_it_is_required(tmp_path: Path) -> None:
    path = written(tmp_path / "s.json")
    path.write_text("{}")
    assert read_summary(path) == {}
    with pytest.raises(RunDirError, match="lacks baseline_secs, best_secs"):
        read_summary(path, SHOWN)
