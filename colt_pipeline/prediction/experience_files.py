"""Experience on disk: a directory of CSV files, one program a line.

The first line says which workload it is, for which target it was compiled, on which device it was measured, and of
which design space its programs are:

    # {"device": ..., "schema": 1, "space": [...], "target": {...}, "workload": ..., "workload_hash": ...}

Each further line is the first digits of a program's key, its latency in seconds ("" if it failed), and its features.
A file without the first line has no keys either; it is named after its workload's hash, and of an unnamed device.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np

from colt_pipeline.config.spaces import space_name
from colt_pipeline.errors import ConfigError, RecordingError
from colt_pipeline.prediction.pretrained import FEATURES, Experience, Rows
from colt_pipeline.runs.jsonl import refuse_endless
from colt_pipeline.runs.rundir import write_text
from colt_pipeline.serialization import KEY_WIDTH, canonical_json, strict_json, typed

_MARK = "# "
"""How the first line begins, if it says where the programs come from."""


class _Header(TypedDict):
    schema: Literal[1]
    workload: str
    workload_hash: str
    device: str
    target: dict[str, Any]
    space: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """Where the programs of a file come from."""

    workload: str
    workload_hash: str
    device: str
    """The device's slug."""
    target: Mapping[str, Any]
    """TVM's target dict."""
    additions: tuple[str, ...]
    """What their design space adds to TVM's."""

    @property
    def scale(self) -> tuple[str, ...]:
        """Equal where latencies are comparable: of one workload on one device, compiled for one target."""
        return self.workload_hash, self.device, canonical_json(self.target)

    @property
    def file_name(self) -> str:
        """The file with programs of this origin; a target that is not all of the device is named."""
        compiled_for = f"{self.target.get('mcpu')}-{self.target.get('num-cores')}"
        whole = self.device.endswith(f"{compiled_for}c")
        words = (self.device, *(() if whole else (f"{compiled_for}t",)), space_name(self.additions))
        return "--".join([self.workload_hash, *(re.sub(r"[^a-z0-9]+", "-", word.lower()) for word in words)]) + ".csv"


@dataclass(frozen=True, eq=False)
class ExperienceFile:
    """The measured programs of one origin."""

    path: Path
    origin: Origin | None
    """None in a file that does not say."""
    keys: tuple[str, ...]
    """First digits of the programs' keys; none if there is no origin."""
    experience: Experience

    @property
    def workload_hash(self) -> str:
        """Of the workload that they compute."""
        return self.path.stem if self.origin is None else self.origin.workload_hash

    @property
    def lines(self) -> list[str]:
        """Its programs, see `program_line`."""
        rows = zip(self.experience.latencies, self.experience.features, strict=True)
        return [program_line(secs if np.isfinite(secs) else None, row) for secs, row in rows]

    @property
    def scale(self) -> tuple[str, ...]:
        """Equal for files whose latencies are comparable: of one workload on one device, compiled for one target."""
        return (self.path.name,) if self.origin is None else self.origin.scale


def write_experience(path: Path, rows: Iterable[tuple[float | None, Rows]]) -> None:
    """Write a file without origin: one line per program, its latency in seconds (None if it failed) and features."""
    write_text(path, "".join(f"{program_line(*row)}\n" for row in rows))


def write_file(directory: Path, origin: Origin, lines: Mapping[str, str]) -> None:
    """Write the file of one origin: program key -> see `program_line`."""
    header = canonical_json(
        {
            "schema": 1,
            "workload": origin.workload,
            "workload_hash": origin.workload_hash,
            "device": origin.device,
            "target": origin.target,
            "space": origin.additions,
        }
    )
    programs = (f"{key[:KEY_WIDTH]},{line}" for key, line in sorted(lines.items()))
    write_text(directory / origin.file_name, "".join(f"{line}\n" for line in (_MARK + header, *programs)))


def program_line(latency_secs: float | None, row: Rows) -> str:
    """A program as a file holds it, without its key."""
    return ",".join(["" if latency_secs is None else f"{latency_secs:.6g}", *(f"{x:.4g}" for x in row)])


def read_files(directory: Path) -> list[ExperienceFile]:
    """The files of a directory, by name; none if it does not exist.

    Raises:
        RecordingError: a file is not one of experience.
    """
    return [
        _read(path.resolve(), path.name, path.stat().st_mtime_ns, path.stat().st_size)
        for path in sorted(directory.glob("*.csv"))
    ]


def read_experience(directory: Path, workload_hash: str) -> list[Experience]:
    """The experience in `directory`, by workload and device, except for that of the given workload.

    Raises:
        ConfigError: the directory does not exist, or contains no experience.
        RecordingError: a file is not one of experience.
    """
    files = [file for file in read_files(directory) if file.experience.latencies]
    if not files:
        state = "contains no measured programs (*.csv)" if directory.is_dir() else "is not a directory"
        raise ConfigError(
            f"pretraining={directory} {state}, but this search's cost model starts from the measured programs of other "
            "workloads. Name their directory with pretraining=DIR (the project's repository has one per design "
            "space in results/pretraining), add your own runs with colt experience add, or start from nothing with a "
            "search and cost model that can: search=colt search.cost_model=xgb"
        )
    scales: dict[tuple[str, ...], list[ExperienceFile]] = {}
    for file in files:
        if file.workload_hash != workload_hash:
            scales.setdefault(file.scale, []).append(file)
    return [_together(tuple(found)) for found in scales.values()]


@lru_cache(maxsize=256)
def _together(files: tuple[ExperienceFile, ...]) -> Experience:
    """Files of comparable latencies as one; the same object each time, so that what was trained on it is found."""
    if len(files) == 1:
        return files[0].experience
    return Experience(
        [row for file in files for row in file.experience.features],
        [secs for file in files for secs in file.experience.latencies],
    )


def experience_digest(others: Sequence[Experience]) -> str:
    """sha256 (hex) of what a model learns from `others`: their numbers, in order, whatever files hold them."""
    hashed = hashlib.sha256()
    for experience in others:
        hashed.update(np.array([len(experience.latencies)], "<u8").tobytes())
        hashed.update(np.array(experience.latencies, "<f8").tobytes())
        hashed.update(np.array(experience.features, "<f4").tobytes())
    return hashed.hexdigest()


@lru_cache(maxsize=256)
def _read(path: Path, name: str, modified: int, size: int) -> ExperienceFile:
    """One file, read once per process unless it changed since; `name` is that of a link to it."""
    keys: list[str] = []
    features: list[Rows] = []
    latencies: list[float] = []
    try:
        refuse_endless(path)
        with path.open(newline="") as file:
            origin = _origin(file.readline())
            if origin is None:
                file.seek(0)
            for line in csv.reader(file):
                latency, *row = line if origin is None else _without_key(line, keys)
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
    return ExperienceFile(path.with_name(name), origin, tuple(keys), Experience(features, latencies))


def _origin(line: str) -> Origin | None:
    """What a first line says; None if it is a program's."""
    if not line.startswith(_MARK):
        return None
    header = typed(_Header, strict_json(line.removeprefix(_MARK)))
    return Origin(
        header["workload"], header["workload_hash"], header["device"], header["target"], tuple(header["space"])
    )


def _without_key(line: list[str], keys: list[str]) -> Iterator[str]:
    """The rest of a program's line, whose key is added to `keys`."""
    key, *rest = line
    if not re.fullmatch(f"[0-9a-f]{{{KEY_WIDTH}}}", key):
        raise ValueError(f"{key[:40]!r} instead of a program's key")
    keys.append(key)
    return iter(rest)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < np.inf:
        raise ValueError(f"{text} is not a latency in seconds")
    return value
