"""The ledger: every measured latency, once per key, on disk before it is used.

One ``measurements.jsonl`` serves one (workload, target, device, evaluator settings): these stand in its first line.
Each further line is one program's measurement by the first digits of its key, so a run never mixes devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from colt_pipeline.errors import DeviceMismatchError, RecordingError
from colt_pipeline.records import KEY_WIDTH, Measurement
from colt_pipeline.runs.jsonl import JsonLines, read_lines

Header = Mapping[str, Any]

SCHEMA = 1


def read_header(path: Path) -> dict[str, Any] | None:
    """The first line of a ledger: schema, workload, workload_hash, target, device, evaluator. None if there is none."""
    lines = read_lines(path)
    if not lines:
        return None
    if lines[0].get("schema") != SCHEMA:
        raise RecordingError(f"{path}: the first line is not a header of schema {SCHEMA}; restore the file")
    return {"measurement": "measured", **lines[0]}  # the field is younger than the first recordings


class Ledger:
    """Measurements by program key; in replay it only answers, otherwise it also appends."""

    def __init__(self, path: Path, header: Header, replay: bool) -> None:
        """Open `path`; a new file gets `header`.

        Raises:
            DeviceMismatchError: the file was recorded with another header, and this is no replay.
            JournalError: broken or in use.
        """
        self.path = path
        self._file = None if replay else JsonLines(path)
        lines = read_lines(path) if self._file is None else self._file.records
        if not lines and self._file is not None:
            self._file.append(dict(header))
        elif self._file is not None:
            self._check(lines[0], header)
        try:
            self._known = {line["program"][:KEY_WIDTH]: _measurement(line) for line in lines[1:]}
        except (KeyError, TypeError) as error:
            self.close()
            raise RecordingError(f"{path} holds a line that is no measurement ({error}); restore the file") from error

    def _check(self, recorded: Header, header: Header) -> None:
        differing = [k for k in sorted({*recorded, *header}) if recorded.get(k) != header.get(k)]
        if differing and self._file is not None:
            self._file.close()
            shown = "; ".join(_difference(k, recorded.get(k), header.get(k)) for k in differing)
            raise DeviceMismatchError(
                f"{self.path} was recorded with another {', '.join(differing)} ({shown}). "
                "Replay it with record=replay, or choose another name with run=NAME to measure here."
            )

    def get(self, program: str) -> Measurement | None:
        """The recorded measurement of a program key."""
        return self._known.get(program[:KEY_WIDTH])

    @property
    def best_secs(self) -> float | None:
        """The best latency that is recorded here."""
        return min((m.latency_secs for m in self._known.values() if m.latency_secs is not None), default=None)

    def timed_secs(self, but: str) -> float | None:
        """Seconds that the timed runs of all programs took, apart from the program `but`; None of an empty ledger."""
        timed = [sum(m.run_secs) for key, m in self._known.items() if key != but[:KEY_WIDTH]]
        return float(sum(timed)) if self._known else None

    def put(self, program: str, measurement: Measurement) -> None:
        """Record a new measurement on disk."""
        assert self._file is not None, "a replay records nothing"
        self._file.append({"program": program[:KEY_WIDTH], **_told(measurement)})
        self._known[program[:KEY_WIDTH]] = measurement

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _difference(name: str, there: Any, here: Any) -> str:
    """Where two header fields differ, by their parts."""
    if not (isinstance(there, Mapping) and isinstance(here, Mapping)):
        return f"{name}: {there!r} there, {here!r} here"
    parts = [k for k in sorted({*there, *here}) if there.get(k) != here.get(k)]
    return ", ".join(f"{name}.{k}: {there.get(k)!r} there, {here.get(k)!r} here" for k in parts)


def _told(measurement: Measurement) -> dict[str, Any]:
    """The run times, and of the other fields those that say something."""
    usual = asdict(Measurement())
    return {k: v for k, v in asdict(measurement).items() if k == "run_secs" or v != usual[k]}


def _measurement(line: Mapping[str, Any]) -> Measurement:
    fields = {k: v for k, v in line.items() if k != "program"}
    return Measurement(**{**fields, "run_secs": tuple(fields["run_secs"])})
