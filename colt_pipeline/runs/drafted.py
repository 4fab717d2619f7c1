"""Record and replay of drafts: one ``drafts.jsonl`` in each run's recording, one line per batch.

Making thousands of draws again would take a replay longer than all else, and which of them win may depend on the last
digits of linear algebra. So what was picked is recorded before it is used, as an LLM's answer is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colt_pipeline.errors import ReplayMissError
from colt_pipeline.records import DraftSource
from colt_pipeline.runs.batches import Packed, check_packed, pack, unpack
from colt_pipeline.runs.events import Candidate, Sample
from colt_pipeline.runs.recorded import Access, Fields, Recorded
from colt_pipeline.serialization import Count, digest, typed

SCHEMA = 1


@dataclass(frozen=True)
class Pick(Candidate):
    """A program that was picked from many draws."""

    parent: Count
    """The node below which it enters the tree."""
    source: DraftSource


@dataclass(frozen=True)
class _Line(Packed):
    """A line: the picks of one batch."""

    key: str
    measured: Count
    """Number of programs measured before."""
    programs: list[str]
    parents: list[Count]
    sources: list[DraftSource]


def read_picks(line: Fields) -> tuple[str, Fields]:
    """The key of a line, and the line.

    Raises:
        ValueError: the line is none, or has a trace that no rule or mutator makes.
    """
    picks = typed(_Line, line)
    if not len(picks.programs) == len(picks.parents) == len(picks.sources) == len(picks.traces):
        raise ValueError("programs, parents, sources and traces: not equally many")
    check_packed(picks)
    return picks.key, line


class DraftRecord:
    """The picks of one run, by what they followed from."""

    def __init__(self, path: Path, settings: Mapping[str, Any], access: Access) -> None:
        """Open the recording.

        Args:
            path: the run's ``drafts.jsonl``.
            settings: everything that picks depend on besides the state of the search.
            access: whether picks may be added.

        Raises:
            JournalError: the file is corrupt or in use by another process.
            RecordingError: a line is not what `add` wrote.
        """
        self.path = path
        self._settings = dict(settings)
        self._access = access
        self._recorded: Recorded[str] = Recorded(path, access, read_picks)

    def get(self, measured: Sequence[Sample], waiting: Sequence[Candidate]) -> list[Pick] | None:
        """What was picked after these measurements, with these programs waiting; None if it has to be drawn.

        Raises:
            ReplayMissError: strict replay, and it is not recorded.
        """
        line = self._recorded.get(self._key(measured, waiting))
        if line is not None:
            picks = typed(_Line, line)
            named = zip(picks.programs, unpack(picks), picks.parents, picks.sources, strict=True)
            return [Pick(program, trace, parent, source) for program, trace, parent, source in named]
        if self._access == "append":
            return None
        raise ReplayMissError(
            f"replay miss in {self.path}: what was drafted after {len(measured)} measured programs is not recorded. "
            "The code, the configuration or a package differs from the recorded run. Use record=missing device=local "
            "to draw anew."
        )

    def add(self, measured: Sequence[Sample], waiting: Sequence[Candidate], picks: Sequence[Pick]) -> None:
        """Record on disk what was picked."""
        line = _Line(
            **vars(pack([pick.trace for pick in picks])),
            key=self._key(measured, waiting),
            measured=len(measured),
            programs=[pick.program for pick in picks],
            parents=[pick.parent for pick in picks],
            sources=[pick.source for pick in picks],
        )
        self._recorded.append(line.to_json())

    def _key(self, measured: Sequence[Sample], waiting: Sequence[Candidate]) -> str:
        samples = [[sample.program, sample.latency_secs, sample.error] for sample in measured]
        return digest([SCHEMA, self._settings, samples, [candidate.program for candidate in waiting]])

    def close(self) -> None:
        """Release the recording to other processes."""
        self._recorded.close()
