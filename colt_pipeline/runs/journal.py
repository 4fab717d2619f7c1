"""The journal of a run: one append-only ``events.jsonl`` whose fold is the state of the search.

It contains no times, host names or paths: run == rerun == kill + resume == replay, byte for byte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from colt_pipeline.errors import JournalError
from colt_pipeline.runs.events import (
    Bred,
    Candidate,
    Child,
    Chosen,
    Deferred,
    Drafted,
    Event,
    Finished,
    Measured,
    Planted,
    Started,
    Stepped,
    event_from_json,
)
from colt_pipeline.runs.jsonl import JsonLines, read_growing
from colt_pipeline.serialization import differences
from colt_pipeline.traces import check_trace_json


def read_events(path: Path) -> list[Event]:
    """The events of a journal, read without a lock: if another process is writing it, a partial last line is ignored.

    Raises:
        JournalError: corrupt before its last line, or not what this version writes.
    """
    return _events(path, read_growing(path))


def _events(path: Path, records: Iterable[Mapping[str, Any]]) -> list[Event]:
    events: list[Event] = []
    order = _Order()
    for number, record in enumerate(records, start=1):
        try:
            event = event_from_json(record)
            order.check(event)
        except ValueError as error:
            raise JournalError(
                f"{path}, line {number}: {error}; it is damaged, or was written by another version of this program"
            ) from error
        events.append(event)
    return events


def check_models(path: Path, events: Iterable[Event], known: Collection[str]) -> None:
    """Check that the journal `path` names models of its run only.

    Raises:
        JournalError: it names another.
    """
    for number, event in enumerate(events, start=1):
        named = {child.model for child in candidates_of(event) if isinstance(child, Child)}
        if isinstance(event, Deferred):
            named.add(event.call.model)
        if isinstance(event, Stepped):
            named |= {name for name in (event.made_by, event.retry_model) if name is not None}
            named |= {call.model for call in event.calls}
        if strange := sorted(named.difference(known)):
            raise JournalError(
                f"{path}, line {number}: the run's model set has no {strange[0]!r}; restore the journal."
            )


def check_traces(path: Path, events: Iterable[Event]) -> None:
    """Check that the programs of the journal `path` may be applied, or shown: anybody can edit a journal.

    Raises:
        JournalError: a trace is none that a rule or mutator makes.
    """
    for number, event in enumerate(events, start=1):
        for candidate in candidates_of(event):
            try:
                check_trace_json(candidate.trace)
            except ValueError as error:
                raise JournalError(
                    f"{path}, line {number}: program {candidate.program[:12]}: {error}. Nothing of it was run; restore "
                    "the journal, or move the run directory away to replay its recording into a new one."
                ) from error


def candidates_of(event: Event) -> tuple[Candidate, ...]:
    """The programs that an event brings."""
    match event:
        case Planted() | Drafted():
            return event.children
        case Bred():
            return event.candidates
        case Deferred():
            return (event.child,)
        case Stepped():
            return tuple(child for child in (event.child, event.pruned) if child is not None)
    return ()


class _Order:
    """What an event may refer to: only to what came before it."""

    def __init__(self) -> None:
        self._nodes = 1  # the root
        self._waiting: set[str] = set()
        self._steps = 0  # begun
        self._awaited: deque[int] = deque()  # those among them whose answers are awaited
        self._begun = self._ended = False

    def check(self, event: Event) -> None:
        """Count an event that may follow those before.

        Raises:
            ValueError: it may not.
        """
        if self._ended:
            raise ValueError(f"an event of kind {event.kind} follows the end")
        if self._begun == isinstance(event, Started):
            raise ValueError(f"an event of kind {event.kind} {'in the middle' if self._begun else 'at the beginning'}")
        self._begun, self._ended = True, isinstance(event, Finished)
        match event:
            case Planted():
                self._add(event.children)
                self._nodes += len(event.children)
            case Drafted():
                for child in event.children:
                    if child.parent >= self._nodes:
                        raise ValueError(f"parent: there is no node {child.parent} yet")
                self._add(event.children)
                self._nodes += len(event.children)
            case Bred():
                self._add(event.candidates)
            case Chosen():
                if not 0 < event.node < self._nodes:
                    raise ValueError(f"node: there is no node {event.node} that a model could expand")
                self._awaited.append(self._steps)
                self._steps += 1
            case Deferred():
                if not self._awaited:
                    raise ValueError("call: no answer is awaited")
                self._awaited.rotate(-1)
            case Stepped():
                if event.parent >= self._nodes:
                    raise ValueError(f"parent: there is no node {event.parent} yet")
                if self._awaited and event.step == self._awaited[0]:
                    self._awaited.popleft()
                else:
                    self._steps += 1
                if event.pruned is not None and not event.calls:
                    raise ValueError("calls: none, although one made the child that was pruned")
                if event.child is not None:
                    self._add([event.child])
                    self._nodes += 1
            case Measured():
                for sample in event.samples:
                    if (sample.latency_secs is None) == (sample.error is None):
                        raise ValueError(f"samples: program {sample.program[:12]} needs either a latency or an error")
                    if sample.program not in self._waiting:
                        raise ValueError(f"samples: program {sample.program[:12]} is not waiting for its measurement")
                    self._waiting.remove(sample.program)

    def _add(self, candidates: Iterable[Candidate]) -> None:
        self._waiting.update(candidate.program for candidate in candidates)


class Journal:
    """Events of one run, written to disk before they are applied.

    Attributes:
        recorded: the events that the file held when it was opened.
        events: the events of the search: those recorded, followed by those appended. In a replay, only those appended.
    """

    def __init__(self, path: Path, replay: bool = False) -> None:
        """Open `path` for this process exclusively.

        Args:
            path: the file.
            replay: the search begins again from its first event, and each of its events is compared with the recorded
                one. A replay trusts no journal: it may have been edited.

        Raises:
            JournalError: in use, unwritable, corrupt, or not what this version writes.
        """
        self.path = path
        self._lines = JsonLines(path)
        try:
            self.recorded = _events(path, self._lines.records)
        except JournalError:
            self._lines.close()
            raise
        self.events = [] if replay else list(self.recorded)

    def append(self, event: Event) -> None:
        """Write `event` and force it to disk, or compare it with the event that is recorded there.

        Raises:
            JournalError: it could not be written, or differs from what is recorded.
        """
        number, lines = len(self.events), self._lines.records
        if number >= len(self.recorded):
            self._lines.append(event.to_json())
        elif differing := differences(lines[number], event.to_json()):
            raise JournalError(
                f"{self.path}, line {number + 1}: the recording and this version give another event than the journal "
                f"holds ({differing}). Nothing was changed. Restore the journal or the recording; or move the run "
                "directory away, and the same command replays the recording into a new one."
            )
        self.events.append(event)

    def check_end(self) -> None:
        """Check that a search that ends here has met every recorded event.

        Raises:
            JournalError: the journal goes on.
        """
        if (number := len(self.events)) < len(self.recorded):
            raise JournalError(
                f"{self.path}, line {number + 1}: the journal goes on where a limit in the recording ends the run. "
                "Nothing was changed; restore the journal or the recording."
            )

    def close(self) -> None:
        self._lines.close()
