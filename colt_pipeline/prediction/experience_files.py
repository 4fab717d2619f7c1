"""Experience on disk: CSV files of measured programs, one program a line: latency in seconds, then its features."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from colt_pipeline.errors import ConfigError, RecordingError
from colt_pipeline.prediction.pretrained import FEATURES, Experience, Rows
from colt_pipeline.runs.jsonl import refuse_endless


def write_experience(path: Path, rows: Iterable[tuple[float | None, Rows]]) -> None:
    """Write one line per program: latency in seconds ("" if it failed), then its features."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for latency_secs, row in rows:
            writer.writerow(["" if latency_secs is None else f"{latency_secs:.6g}", *(f"{x:.4g}" for x in row)])


def read_experience(directory: Path, workload_hash: str) -> list[Experience]:
    """Experience from the files ``<workload hash>.csv`` in `directory`, except for that of the given workload.

    Raises:
        ConfigError: the directory does not exist, or contains no experience.
        RecordingError: a file was not written by `write_experience`.
    """
    paths = sorted(directory.glob("*.csv"))
    found = {path.stem: _read(path.resolve(), path.stat().st_mtime_ns, path.stat().st_size) for path in paths}
    if not any(experience.latencies for experience in found.values()):
        state = "contains no measured programs (*.csv)" if directory.is_dir() else "is not a directory"
        raise ConfigError(
            f"pretraining={directory} {state}, but search.cost_model=pretrained starts from the measured programs of "
            "other workloads. Name their directory with pretraining=DIR (the project's repository has it in "
            "results/pretraining), or start from nothing with search.cost_model=xgb"
        )
    return [experience for name, experience in found.items() if name != workload_hash and experience.latencies]


def experience_digest(others: Sequence[Experience]) -> str:
    """sha256 (hex) of what a model learns from `others`: their numbers, in order, whatever files hold them."""
    hashed = hashlib.sha256()
    for experience in others:
        hashed.update(np.array([len(experience.latencies)], "<u8").tobytes())
        hashed.update(np.array(experience.latencies, "<f8").tobytes())
        hashed.update(np.array(experience.features, "<f4").tobytes())
    return hashed.hexdigest()


@lru_cache(maxsize=64)
def _read(path: Path, modified: int, size: int) -> Experience:
    """A file written by `write_experience`, read once per process unless it changed since."""
    features: list[Rows] = []
    latencies: list[float] = []
    try:
        refuse_endless(path)
        with path.open(newline="") as file:
            for latency, *row in csv.reader(file):
                if len(row) != FEATURES:
                    raise ValueError(f"{len(row)} numbers instead of {FEATURES}")
                latencies.append(_positive(latency) if latency else np.inf)
                features.append(np.array(row, np.float32))
                if not np.isfinite(features[-1]).all():
                    raise ValueError("a feature is not a finite number")
    except (ValueError, csv.Error) as error:
        raise RecordingError(f"{path} contains a line that is not a program's features ({error})") from error
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from error
    return Experience(features, latencies)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < np.inf:
        raise ValueError(f"{text} is not a latency in seconds")
    return value
