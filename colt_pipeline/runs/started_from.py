"""Record of the programs that a run starts from: ``start.jsonl`` in its recording, one line per program, best first.

They are copied from runs of another results directory once, before anything is measured. So the run resumes and replays
without that directory. A run that looked for such programs and found none has an empty file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from colt_pipeline.runs.events import Candidate
from colt_pipeline.runs.recorded import Fields, Recorded
from colt_pipeline.runs.rundir import write_text
from colt_pipeline.serialization import Seconds, canonical_json, typed
from colt_pipeline.traces import check_trace_json

_Line = TypedDict("_Line", {"program": str, "trace": str, "latency_secs": Seconds, "from": str})


@dataclass(frozen=True)
class Taken(Candidate):
    """A program that an earlier run found."""

    latency_secs: float
    """What that run said; the new one measures it again."""
    source: str
    """Experiment and name of that run, joined by a slash."""


def read_taken(line: Fields) -> tuple[str, Fields]:
    """The key of a line's program, and the line.

    Raises:
        ValueError: the line is none, or has a trace that no rule or mutator makes.
    """
    taken = typed(_Line, line)
    check_trace_json(taken["trace"])
    return taken["program"], line


def read_start(path: Path) -> list[Taken] | None:
    """What a run starts from; None if it did not look for anything.

    Raises:
        JournalError: the file is corrupt.
        RecordingError: a line is not what `write_start` wrote; the message names file and line.
    """
    if not path.exists():
        return None
    lines = Recorded(path, "replay", read_taken).entries
    return [Taken(line["program"], line["trace"], line["latency_secs"], line["from"]) for line in lines]


def write_start(path: Path, programs: Sequence[Taken]) -> None:
    """Record what a run starts from, all of it or nothing.

    Raises:
        RunDirError: the directory is unwritable or the disk is full.
    """
    lines = (
        {"program": each.program, "trace": each.trace, "latency_secs": each.latency_secs, "from": each.source}
        for each in programs
    )
    write_text(path, "".join(f"{canonical_json(line)}\n" for line in lines))
