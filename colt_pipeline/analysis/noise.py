"""How much repeated measurements of one program differ on a device; a smaller difference is not an improvement.

``results/noise/<device>/<workload>.jsonl`` records measurements of one program, minutes apart: a header, then one
measurement per line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from colt_pipeline.errors import ConfigError
from colt_pipeline.records import MeasurementError
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.serialization import Elapsed, Seconds, typed

SCHEMA = 1
MIN_MEASUREMENTS = 8
"""With fewer measurements, the 95th percentile over pairs (28 of them) would depend on a single pair."""

_STATISTICS = ("median_secs", "spread_within", "spread_between", "floor")
NOISE_COLUMNS = ("device", "workload", "program", "measurements", "errors", "minutes", *_STATISTICS)


@dataclass(frozen=True)
class _Repeat:
    program: str
    elapsed_secs: Elapsed
    run_secs: tuple[Seconds, ...]
    error: MeasurementError | None


def read_noise(directory: Path) -> pd.DataFrame:
    """Read the noise recordings of all devices.

    Returns:
        One row per device and workload: device, workload, program (its key), measurements (successful ones), errors
        (failed ones), minutes (from the first successful one to the last), and the columns of `noise_statistics`.

    Raises:
        ConfigError: `directory` is not a directory, or a file is invalid.
        JournalError: a line is not a JSON object.
    """
    if not directory.is_dir():
        raise ConfigError(f"{directory} is not a directory; give the one with the noise of the devices")
    paths = sorted(directory.glob("*/*.jsonl"), key=lambda path: path.relative_to(directory).as_posix())
    return pd.DataFrame([_row(path) for path in paths], columns=list(NOISE_COLUMNS))


def noise_statistics(run_secs: Sequence[Sequence[float]]) -> dict[str, float]:
    """The spread of repeated measurements, each given by the seconds of its timed runs; its latency is their median.

    Returns:
        median_secs: median of the latencies;
        spread_within: median over measurements of (interquartile range of the runs / latency);
        spread_between: (95th - 5th percentile of the latencies) / their median;
        floor: see `noise_floor`.
        All are NaN if there is no measurement.
    """
    if not run_secs:
        return dict.fromkeys(_STATISTICS, math.nan)
    quartiles = np.array([np.percentile(runs, (25, 50, 75)) for runs in run_secs])
    latencies = quartiles[:, 1]
    low, median, high = np.percentile(latencies, (5, 50, 95))
    within = np.median((quartiles[:, 2] - quartiles[:, 0]) / latencies)
    values = (median, within, (high - low) / median, noise_floor(latencies))
    return {name: float(value) for name, value in zip(_STATISTICS, values, strict=True)}


def noise_floor(latencies: Sequence[float] | np.ndarray[Any, Any]) -> float:
    """The ratio (at least 1) below which 95 % of all pairs of `latencies` of one program lie.

    "A is faster than B" means latency of B / latency of A > floor. This is the noise of two single measurements; for
    means, see `mean_floor`. NaN (unknown) below MIN_MEASUREMENTS.
    """
    values = np.asarray(latencies, dtype=float)
    if len(values) < MIN_MEASUREMENTS:
        return math.nan
    first, second = values[np.array(np.triu_indices(len(values), k=1))]
    return float(np.percentile(np.maximum(first, second) / np.minimum(first, second), 95))


def comparison_floor(runs: pd.DataFrame, noise: pd.DataFrame) -> float:
    """The ratio that two single latencies of `runs`, all of one workload, must exceed to count as different.

    Args:
        runs: rows of `Tidy.runs`.
        noise: `Tidy.noise`.

    Returns:
        1 for estimates, which have no noise. NaN (unknown) if no or too little noise was recorded, or if the latencies
        come from several devices or are partly estimated, partly measured.
    """
    kinds = runs[["device", "workload", "measurement"]].drop_duplicates()
    if len(kinds) != 1:
        return math.nan
    if kinds["measurement"].iloc[0] == "estimated":
        return 1.0
    floors = noise.merge(kinds, on=["device", "workload"])["floor"]
    return float(floors.iloc[0]) if len(floors) else math.nan


def mean_floor(floors: Sequence[float]) -> float:
    """The ratio that a geometric mean of ratios must exceed, given the floor of each: it varies less than its parts.

    All ratios have equal weight.

    Returns:
        exp(sqrt(sum of ln(floor)^2) / n), which is exp(ln(floor) / sqrt(n)) if all n floors are equal. NaN (unknown) if
        one is, or if there is none.
    """
    return math.exp(math.hypot(*map(math.log, floors)) / len(floors)) if floors else math.nan


def _row(path: Path) -> dict[str, Any]:
    lines = read_lines(path)
    _check_header(path, lines)
    repeats = [_repeat(path, number, line) for number, line in enumerate(lines[1:], start=2)]
    for number, repeat in enumerate(repeats, start=2):
        if repeat.program != repeats[0].program:
            raise _broken(path, number, f"program {repeat.program} differs from line 2; a file is about one program")
    good = [repeat for repeat in repeats if repeat.error is None]
    elapsed = [repeat.elapsed_secs for repeat in good]
    return {
        "device": path.parent.name,
        "workload": path.stem,
        "program": repeats[0].program if repeats else "",
        "measurements": len(good),
        "errors": len(repeats) - len(good),
        "minutes": (max(elapsed) - min(elapsed)) / 60 if good else math.nan,
        **noise_statistics([repeat.run_secs for repeat in good]),
    }


def _check_header(path: Path, lines: list[dict[str, Any]]) -> None:
    header = lines[0] if lines else {}
    # Runs are matched by file name. An estimate repeats exactly, which would give a floor of 1.
    for name, expected in (("schema", SCHEMA), ("workload", path.stem), ("measurement", "measured")):
        if header.get(name) != expected:
            raise _broken(path, 1, f"the header's {name} is {header.get(name)!r}, not {expected!r}")


def _repeat(path: Path, number: int, line: dict[str, Any]) -> _Repeat:
    try:
        repeat = typed(_Repeat, line)
        if not repeat.run_secs and repeat.error is None:
            raise ValueError("run_secs: empty without an error")
    except ValueError as error:
        raise _broken(path, number, str(error)) from error
    return repeat


def _broken(path: Path, number: int, problem: str) -> ConfigError:
    return ConfigError(f"{path}, line {number}: {problem}. Restore the file, or move it away and record it again.")
