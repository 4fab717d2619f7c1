"""The ledger: every measured latency, once per key, on disk before it is used.

One ``measurements.jsonl`` serves one combination of workload, target, device and evaluator settings. These are stated
in its first line, the header, so a run never mixes devices. Each further line is one program's measurement, identified
by the first digits of its key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from colt_pipeline.errors import DeviceMismatchError, RecordingError
from colt_pipeline.records import KEY_WIDTH, Measurement
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.runs.recorded import Access, Fields, Recorded, require

Header = Mapping[str, Any]

SCHEMA = 1
EXPERIENCE = "experience"
"""Field of the header of a run's own ledger: digest of what its cost model was trained on before the run."""


def read_header(path: Path) -> dict[str, Any] | None:
    """The first line of a ledger: schema, workload, workload_hash, target, device, evaluator; None if it is empty."""
    lines = read_lines(path)
    if not lines:
        return None
    if lines[0].get("schema") != SCHEMA:
        raise RecordingError(f"{path}: the first line is not a header of schema {SCHEMA}; restore the file")
    return _with_measurement(lines[0])


class Ledger:
    """Measurements by program key."""

    def __init__(self, path: Path, header: Header, access: Access) -> None:
        """Open `path`; when appending, a new file gets `header` and an existing one must have the same.

        Raises:
            DeviceMismatchError: the file to append to was recorded with another header.
            JournalError: the file is corrupt or in use.
            RecordingError: a line is not a measurement.
        """
        self.path = path
        self._recorded: Recorded[str] = Recorded(path, access, _read)
        if access == "append":
            if not self._recorded.entries:
                self._recorded.append(header)
            self._check(header)

    def _check(self, header: Header) -> None:
        recorded, header = _with_measurement(self._recorded.entries[0]), _with_measurement(header)
        known = {*recorded, *header} - ({EXPERIENCE} - set(recorded))  # which the first recordings lack
        differing = [k for k in sorted(known) if recorded.get(k) != header.get(k)]
        if differing:
            self.close()
            shown = "; ".join(_difference(k, recorded.get(k), header.get(k)) for k in differing)
            raise DeviceMismatchError(
                f"{self.path} was recorded with another {', '.join(differing)} ({shown}). "
                "Replay it with record=replay, or choose another name with run=NAME to measure here."
            )

    def get(self, program: str) -> Measurement | None:
        """The recorded measurement of a program key."""
        line = self._recorded.get(program[:KEY_WIDTH])
        return None if line is None else _measurement(line)

    @property
    def best_secs(self) -> float | None:
        """The best recorded latency; None if there is none."""
        return min((m.latency_secs for m in self._measured().values() if m.latency_secs is not None), default=None)

    def timed_secs(self, but: str) -> float | None:
        """Total seconds of the timed runs of all programs except `but`; None for an empty ledger."""
        measured = self._measured()
        timed = [sum(m.run_secs) for key, m in measured.items() if key != but[:KEY_WIDTH]]
        return float(sum(timed)) if measured else None

    def _measured(self) -> dict[str, Measurement]:
        lines = (line for line in self._recorded.entries if not _is_header(line))
        return {line["program"][:KEY_WIDTH]: _measurement(line) for line in lines}

    def put(self, program: str, measurement: Measurement) -> None:
        """Record a new measurement on disk."""
        self._recorded.append({"program": program[:KEY_WIDTH], **_told(measurement)})

    def close(self) -> None:
        """Release the file to other processes."""
        self._recorded.close()


def _with_measurement(header: Fields) -> dict[str, Any]:
    """The header including ``measurement``, which the first recordings lack."""
    return {"measurement": "measured", **header}


def _is_header(line: Fields) -> bool:
    return "schema" in line


def _read(line: Fields) -> tuple[str, Fields]:
    if _is_header(line):
        return "", line
    require(line, ("program", "run_secs"))
    try:
        _measurement(line)
        return line["program"][:KEY_WIDTH], line
    except TypeError as error:
        raise ValueError(f"is not a measurement ({error})") from error


def _difference(name: str, there: Any, here: Any) -> str:
    """How two header fields differ, part by part."""
    if not (isinstance(there, Mapping) and isinstance(here, Mapping)):
        return f"{name}: {there!r} there, {here!r} here"
    parts = [k for k in sorted({*there, *here}) if there.get(k) != here.get(k)]
    return ", ".join(f"{name}.{k}: {there.get(k)!r} there, {here.get(k)!r} here" for k in parts)


def _told(measurement: Measurement) -> dict[str, Any]:
    """The run times, and any other fields that differ from their defaults."""
    defaults = asdict(Measurement())
    return {k: v for k, v in asdict(measurement).items() if k == "run_secs" or v != defaults[k]}


def _measurement(line: Fields) -> Measurement:
    fields = {k: v for k, v in line.items() if k != "program"}
    return Measurement(**{**fields, "run_secs": tuple(fields["run_secs"])})
