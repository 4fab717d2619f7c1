"""The events of a run, as its journal records them, and their JSON form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from colt_pipeline.records import (
    DraftSource,
    EndReason,
    MeasurementError,
    MeasurementKind,
    Outcome,
    RejectionKind,
    Role,
)
from colt_pipeline.serialization import Count, Number, Seconds, typed


@dataclass(frozen=True)
class Call:
    """One LLM call within a step, as the search saw it."""

    model: str
    role: Role
    key: str
    occurrence: Count
    outcome: Outcome
    detail: str
    transformations: tuple[str, ...]
    next_model: str | None
    flaw: RejectionKind | None
    """What is wrong with an answer that is usable all the same, such as an unknown next model."""
    prompt_tokens: Count
    completion_tokens: Count
    hit: bool


@dataclass(frozen=True)
class Candidate:
    """A program to measure."""

    program: str
    """Content key of the program."""
    trace: str
    """The schedule trace as canonical JSON."""


@dataclass(frozen=True)
class Child(Candidate):
    """A program of the tree."""

    model: str
    """The model that will expand this node."""
    score: Number
    """Predicted score."""
    parent_score: Number
    """Score of the parent under the same cost model (scores change as it trains); own score if there is no parent."""
    reward: Number
    """Predicted score of the rollout's terminal program."""


@dataclass(frozen=True)
class Draft(Child):
    """A program of the tree that no call made."""

    parent: Count
    """The node below which it enters the tree: the root for a sample of the design spaces."""
    source: DraftSource


@dataclass(frozen=True)
class Sample:
    """A measured program in the journal."""

    program: str
    latency_secs: Seconds | None
    error: MeasurementError | None


@dataclass(frozen=True)
class Event:
    """Something that happened in a run; the state of a search is the fold of its events."""

    kind: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True)
class Started(Event):
    """The facts that stay fixed during the run."""

    kind: ClassVar[str] = "started"
    schema: int
    workload: str
    workload_hash: str
    target: dict[str, Any]
    device: str
    measurement: MeasurementKind
    baseline_secs: Seconds
    """Median latency of the unoptimized program, seconds."""


@dataclass(frozen=True)
class Planted(Event):
    """The initial programs, children of the root (the unoptimized program)."""

    kind: ClassVar[str] = "planted"
    children: tuple[Child, ...]


@dataclass(frozen=True)
class Bred(Event):
    """A batch of programs to measure, from a search without a tree."""

    kind: ClassVar[str] = "bred"
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Chosen(Event):
    """A node whose model is asked while other answers are awaited; its step follows when the answer's turn comes.

    Without concurrent calls a search has no such events.
    """

    kind: ClassVar[str] = "chosen"
    node: Count
    scores: tuple[Number, ...]
    """What the prompt says of the node's program, its ancestors and what was tried at it: scores by the cost model of
    this moment."""


@dataclass(frozen=True)
class Deferred(Event):
    """The oldest awaited answer led to a child that alters the course; its step ends after the largest model's answer.

    That answer takes its turn behind all that are awaited already.
    """

    kind: ClassVar[str] = "deferred"
    call: Call
    child: Child
    """What the small model's proposal led to."""


@dataclass(frozen=True)
class Stepped(Event):
    """One search step: expansion, rollout, course alteration, backup."""

    kind: ClassVar[str] = "stepped"
    step: Count
    """Steps are numbered as they begin; with concurrent calls they may end in another order."""
    parent: Count
    """Node that was selected and expanded."""
    calls: tuple[Call, ...]
    child: Child | None
    """The node that enters the tree and is backed up; None if nothing could be applied."""
    made_by: str | None
    """The model whose proposal made `child`."""
    pruned: Child | None
    """The small model's child that a course alteration removed."""
    retry_model: str | None
    """After a failed step: the model that expands this node next."""


@dataclass(frozen=True)
class Drafted(Event):
    """The best by prediction of many programs drawn without a call."""

    kind: ClassVar[str] = "drafted"
    children: tuple[Draft, ...]


@dataclass(frozen=True)
class Measured(Event):
    """A measured batch, in the order of the search."""

    kind: ClassVar[str] = "measured"
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Finished(Event):
    """The run is over."""

    kind: ClassVar[str] = "finished"
    reason: EndReason


_KINDS: dict[str, type[Event]] = {
    k.kind: k for k in (Started, Planted, Bred, Chosen, Deferred, Stepped, Drafted, Measured, Finished)
}


def with_calls(events: Iterable[Event]) -> Iterator[tuple[Event, tuple[Call, ...]]]:
    """Each event with the calls that were applied at it; a deferred step's first one when it was deferred."""
    deferred: set[tuple[str, int]] = set()
    for event in events:
        match event:
            case Deferred(call):
                deferred.add((call.key, call.occurrence))
                yield event, (call,)
            case Stepped():
                yield event, tuple(call for call in event.calls if (call.key, call.occurrence) not in deferred)
            case _:
                yield event, ()


def spent(events: Iterable[Event], counts_calls: bool) -> int:
    """Samples of the budget that these events spend: regular calls or measured programs, see ``search.sample``."""
    if counts_calls:
        return sum(isinstance(event, Stepped) and bool(event.calls) for event in events)
    return sum(len(event.samples) for event in events if isinstance(event, Measured))


def event_from_json(record: Mapping[str, Any]) -> Event:
    """The event that `Event.to_json` wrote.

    Raises:
        ValueError: the record is not an event of this version; the message names the field.
    """
    kind = record.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"kind {kind!r} is none of {', '.join(_KINDS)}")
    return typed(_KINDS[kind], record)
