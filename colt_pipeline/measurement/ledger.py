"""The ledger: every measured latency, once per program and round, on disk before it is used.

One ``measurements.jsonl`` serves one combination of workload, target, device and evaluator settings. These are stated
in its first line, the header, so a run never mixes devices. Each further line is one measurement of a program, which is
identified by the first digits of its key. A search uses round 0, which is not written; a program that is measured again
gets the next round.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from colt_pipeline.errors import DeviceMismatchError, RecordingError
from colt_pipeline.records import Measurement, MeasurementKind
from colt_pipeline.runs.jsonl import read_growing
from colt_pipeline.runs.recorded import Access, Fields, Recorded
from colt_pipeline.runs.targets import unknown_target_keys
from colt_pipeline.serialization import KEY_WIDTH, Count, differences, typed

Header = Mapping[str, Any]

SCHEMA = 1
EXPERIENCE = "experience"
"""Field of the header of a run's own ledger: digest of what its cost model was trained on before the run."""
RUNNER = "runner"
"""Field of the header's ``evaluator``: who measured, if not this package's workers."""

Round = tuple[str, int]
"""The first digits of a program's key, and how often it had been measured before."""


class _Header(TypedDict):
    schema: Literal[1]
    workload: str
    workload_hash: str
    target: dict[str, Any]
    device: dict[str, Any]
    evaluator: dict[str, Any]
    measurement: NotRequired[MeasurementKind]
    experience: NotRequired[str]


class _Line(TypedDict):
    program: str
    round: NotRequired[Count]


def read_header(path: Path) -> dict[str, Any] | None:
    """The first line of a ledger: schema, workload, workload_hash, target, device, evaluator; None if it is empty.

    Raises:
        JournalError: the file is corrupt.
        RecordingError: the first line is not a header.
    """
    lines = read_growing(path)
    if not lines:
        return None
    try:
        typed(_Header, lines[0])
    except ValueError as error:
        raise RecordingError(f"{path}, line 1: not a header of schema {SCHEMA} ({error}); restore the file") from error
    if unknown := unknown_target_keys(lines[0]["target"]):
        raise RecordingError(
            f"{path}, line 1: the target sets {', '.join(unknown)}, which no run does; restore the file"
        )
    return _with_measurement(lines[0])


def read_line(line: Fields) -> tuple[Round, Fields]:
    """What a line is about, and the line itself; a header is about no program.

    Raises:
        ValueError: the line is neither a header nor a measurement; the message names the field.
    """
    if _is_header(line):
        typed(_Header, line)
        return ("header", 0), line
    if unknown := sorted(line.keys() - _NAMES):
        raise ValueError(f"{', '.join(unknown)}: not a field of a measurement")
    identity, measurement = typed(_Line, line), typed(Measurement, line)
    if not measurement.run_secs and measurement.error is None:
        raise ValueError("run_secs: empty without an error")
    return (identity["program"][:KEY_WIDTH], identity.get("round", 0)), line


_NAMES = {*asdict(Measurement()), "program", "round"}


class Ledger:
    """Measurements by program key and round."""

    def __init__(self, path: Path, header: Header, access: Access) -> None:
        """Open `path`; when appending, a new file gets `header` and an existing one must have the same.

        Raises:
            DeviceMismatchError: the file to append to was recorded with another header.
            JournalError: the file is corrupt or in use.
            RecordingError: a line is not a measurement, or its program and round occurred before.
        """
        self.path = path
        self._recorded: Recorded[Round] = Recorded(path, access, read_line)
        self._rounds: dict[str, int] = {}
        try:
            self._check(header, access)
        except RecordingError:
            self.close()
            raise

    def _check(self, header: Header, access: Access) -> None:
        recorded = self._recorded.entries
        if recorded and not _is_header(recorded[0]):
            raise RecordingError(f"{self.path}, line 1: not a header of schema {SCHEMA}; restore the file")
        for number, line in enumerate(recorded[1:], start=2):
            if (missing := self._count(line["program"])) != line.get("round", 0):
                raise RecordingError(f"{self.path}, line {number}: its program lacks round {missing}; restore the file")
        if access != "append":
            return
        if not recorded:
            self._recorded.append(header)
        there, here = _with_measurement(recorded[0]), _with_measurement(header)
        if EXPERIENCE not in there:  # the first recordings do not say
            here.pop(EXPERIENCE, None)
        if differing := differences(there, here):
            parts = ", ".join(name for name in sorted({*there, *here}) if there.get(name) != here.get(name))
            raise DeviceMismatchError(
                f"{self.path} was recorded with another {parts} ({differing}). "
                "Replay it with record=replay, or choose another name with run=NAME to measure here."
            )

    def get(self, program: str) -> Measurement | None:
        """What a search knows of a program: its measurement in round 0."""
        return self._get(program, 0)

    def latest(self, program: str) -> Measurement | None:
        """The measurement of a program's last round."""
        return self._get(program, self._rounds.get(program[:KEY_WIDTH], 1) - 1)

    def rounds(self, program: str) -> list[Measurement]:
        """The measurements of a program after round 0, in order."""
        numbers = range(1, self._rounds.get(program[:KEY_WIDTH], 0))
        return [measurement for number in numbers if (measurement := self._get(program, number)) is not None]

    def _get(self, program: str, number: int) -> Measurement | None:
        line = self._recorded.get((program[:KEY_WIDTH], number))
        return None if line is None else typed(Measurement, line)

    def _count(self, program: str) -> int:
        """The number of a program's next round, which begins."""
        number = self._rounds.get(program[:KEY_WIDTH], 0)
        self._rounds[program[:KEY_WIDTH]] = number + 1
        return number

    @property
    def best_secs(self) -> float | None:
        """The best recorded latency; None if there is none."""
        measurements = (typed(Measurement, line) for line in self._first_rounds())
        return min((m.latency_secs for m in measurements if m.latency_secs is not None), default=None)

    def timed_secs(self, but: str) -> float | None:
        """Total seconds of the timed runs of all programs except `but`; None for an empty ledger."""
        lines = list(self._first_rounds())
        timed = [sum(line["run_secs"]) for line in lines if line["program"][:KEY_WIDTH] != but[:KEY_WIDTH]]
        return float(sum(timed)) if lines else None

    def _first_rounds(self) -> Iterable[Fields]:
        return (line for line in self._recorded.entries if not _is_header(line) and not line.get("round"))

    def put(self, program: str, measurement: Measurement) -> None:
        """Record a new measurement on disk, as the next round of its program."""
        number = self._count(program)
        line = {"program": program[:KEY_WIDTH], **_told(measurement)}
        self._recorded.append(line | {"round": number} if number else line)

    def close(self) -> None:
        """Release the file to other processes."""
        self._recorded.close()


def _with_measurement(header: Fields) -> dict[str, Any]:
    """The header including ``measurement``, which the first recordings lack."""
    return {"measurement": "measured", **header}


def _is_header(line: Fields) -> bool:
    return "schema" in line


def _told(measurement: Measurement) -> dict[str, Any]:
    """The run times, and any other fields that differ from their defaults."""
    defaults = asdict(Measurement())
    return {k: v for k, v in asdict(measurement).items() if k == "run_secs" or v != defaults[k]}
