"""Where a run's recording lies, and who adds to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError, DeviceError, RecordingError
from colt_pipeline.measurement.backend import Backend, choose
from colt_pipeline.measurement.ledger import read_header
from colt_pipeline.runs.layout import MEASUREMENTS, recordings_in
from colt_pipeline.workloads.workload import Workload


@dataclass(frozen=True)
class Place:
    """Where a run's recording lies, and who adds to it."""

    directory: Path
    header: dict[str, Any]
    backend: Backend | None
    """None: nobody, the recording is replayed."""
    words: str


def find_place(config: Config, workload: Workload) -> Place:
    """The run's recording: the one there is, or the one that the first device at hand would make.

    Raises:
        RecordingError: a replay without a recording of this workload.
        DeviceError, ConfigError: no device gives latencies for the target.
    """
    recorded = _recorded(config, workload)
    if config.record.mode == "replay":
        if len(recorded) != 1:
            raise RecordingError(
                f"replay of {config.experiment}/{config.run} needs its recording on one device below "
                f"{recordings_in(config.results)}; found: {', '.join(recorded) or 'none'}. "
                "Record it with record=missing, or remove all but one."
            )
        return _replayed(config, *recorded.popitem())
    fresh = config.record.mode == "all"
    try:
        name, backend, absent = choose(config, () if fresh else recorded)
    except (DeviceError, ConfigError):
        if config.device != "auto" or fresh or len(recorded) != 1:
            raise
        return _replayed(config, *recorded.popitem())
    if config.device == "auto" and not fresh and len(recorded) == 1 and backend.device.slug not in recorded:
        return _replayed(config, *recorded.popitem())
    slug, header = backend.device.slug, backend.header(workload, config.measure)
    words = f"device={name}: {slug}, latencies {backend.measurement}" + (f" ({absent})" if absent else "")
    return Place(_directory(config, slug), header, backend, words)


def _replayed(config: Config, slug: str, header: dict[str, Any]) -> Place:
    words = f"recorded ledger of {slug}, latencies {header['measurement']}; nothing is measured"
    return Place(_directory(config, slug), header, None, words)


def _directory(config: Config, slug: str) -> Path:
    return recordings_in(config.results) / slug / config.experiment / config.run


def _recorded(config: Config, workload: Workload) -> dict[str, dict[str, Any]]:
    """Device slug -> header of each recording of this run.

    Raises:
        RecordingError: one of another workload or shape, or a replay without any recordings.
    """
    if config.record.mode == "replay" and not recordings_in(config.results).is_dir():
        raise RecordingError(
            f"there is no recordings directory {recordings_in(config.results)}; check results={config.results}"
        )
    found = {}
    for path in sorted(recordings_in(config.results).glob(f"*/{config.experiment}/{config.run}/{MEASUREMENTS}")):
        header = read_header(path)
        if header is None:
            continue  # killed before the first line
        if header["workload_hash"] != workload.hash:
            raise RecordingError(
                f"{path} recorded {header['workload']} {header['workload_hash'][:12]}; this run tunes "
                f"{workload.name} {workload.hash[:12]}. Give it another name with run=NAME."
            )
        found[path.relative_to(recordings_in(config.results)).parts[0]] = header
    return found
