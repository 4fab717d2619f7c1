"""``summary.json``: a finished run in numbers, read by others than the program that wrote it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from colt_pipeline.errors import RunDirError
from colt_pipeline.records import MeasurementKind, SampleUnit
from colt_pipeline.runs.rundir import read_json
from colt_pipeline.serialization import Count, Elapsed, Number, Seconds, typed

_Factor = Annotated[float, Meta(gt=0, le=1e300)]
_WAY_OUT = "restore it, or run the same command again with record=replay"


class _Summary(TypedDict, total=False):
    """The fields that anything reads; which must be there, their readers know."""

    experiment: str
    run: str
    workload: str
    target: str
    space: list[str]
    """The additions to TVM's design space; not there without any."""
    search: str
    model_set: str
    largest: str | None
    seed: int
    samples: Count
    """Of the budget: measured programs, or what `sample_unit` says."""
    sample_unit: SampleUnit
    programs: Count
    """Measured ones, where samples are calls."""
    initial_secs: Seconds | None
    """The best latency of programs that no call led to, where samples are calls."""
    stopped: str | None
    warmup_samples: Count
    rtol: Number
    baseline_secs: Seconds
    best_secs: Seconds | None
    speedup: _Factor | None
    best_sample: Count | None
    best_program: str | None
    gflops: Annotated[float, Meta(ge=0, le=1e300)] | None
    llm_backend: str
    measurement: MeasurementKind
    device: str
    steps: Count
    regular_calls: Count
    course_alterations: Count
    small_model_calls: Count
    prompt_tokens: Count
    completion_tokens: Count
    llm_secs: Elapsed
    usd: Number | None
    requests: Count
    spent_tokens: Count
    spent_usd: Number | None
    timed_secs: Elapsed | None
    rejections: dict[str, Count]
    sample_errors: dict[str, Count]
    confirmed_secs: Seconds
    confirmed_program: str
    confirmed_rounds: Count
    confirmed_programs: Count


SHOWN = (
    *("run", "samples", "stopped", "baseline_secs", "best_secs", "speedup", "regular_calls", "course_alterations"),
    *("rejections", "sample_errors", "llm_backend", "measurement", "device", "rtol"),
)
"""What a table of runs shows."""


def read_summary(path: Path, required: Iterable[str] = ()) -> dict[str, Any]:
    """The fields of a summary, of which those `required` must be there.

    Raises:
        RunDirError: the file is unreadable, a field is missing or of another type, or two contradict each other.
    """
    summary = read_json(path)
    if missing := sorted(set(required).difference(summary)):
        raise RunDirError(f"{path} lacks {', '.join(missing)}; {_WAY_OUT}")
    try:
        typed(_Summary, summary)
        _check_speedup(summary)
    except ValueError as error:
        raise RunDirError(f"{path}: {error}; {_WAY_OUT}") from error
    return summary


def _check_speedup(summary: dict[str, Any]) -> None:
    if not {"baseline_secs", "best_secs", "speedup"} <= summary.keys():
        return
    baseline, best, speedup = summary["baseline_secs"], summary["best_secs"], summary["speedup"]
    expected = None if best is None else baseline / best
    if speedup is None or expected is None:
        contradicts = speedup is not expected
    else:
        contradicts = not math.isclose(speedup, expected, rel_tol=1e-6)
    if contradicts:
        raise ValueError(f"speedup: {speedup}, but baseline_secs / best_secs is {expected}")
