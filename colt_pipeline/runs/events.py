"""The events of a run, as its journal records them, and their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from colt_pipeline.records import EndReason, MeasurementError, MeasurementKind, Outcome, RejectionKind, Role


@dataclass(frozen=True)
class Call:
    """One LLM call within a step, as the search saw it."""

    model: str
    role: Role
    key: str
    occurrence: int
    outcome: Outcome
    detail: str
    transformations: tuple[str, ...]
    next_model: str | None
    flaw: RejectionKind | None
    """What is wrong with an answer that is usable all the same, such as an unknown next model."""
    prompt_tokens: int
    completion_tokens: int
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
    score: float
    """Predicted score."""
    parent_score: float
    """Score of the parent under the same cost model (scores change as it trains); own score if there is no parent."""
    reward: float
    """Predicted score of the rollout's terminal program."""


@dataclass(frozen=True)
class Sample:
    """A measured program in the journal."""

    program: str
    latency_secs: float | None
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
    baseline_secs: float
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
class Stepped(Event):
    """One search step: expansion, rollout, course alteration, backup."""

    kind: ClassVar[str] = "stepped"
    step: int
    parent: int
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
class Measured(Event):
    """A measured batch, in the order of the search."""

    kind: ClassVar[str] = "measured"
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Finished(Event):
    """The run is over."""

    kind: ClassVar[str] = "finished"
    reason: EndReason


def event_from_json(record: Mapping[str, Any]) -> Event:
    """The event that `Event.to_json` wrote.

    Raises:
        KeyError, TypeError: the record is not an event of this version.
    """
    fields = dict(record)
    kind = fields.pop("kind")
    if kind == Planted.kind:
        return Planted(children=tuple(Child(**c) for c in fields["children"]))
    if kind == Bred.kind:
        return Bred(candidates=tuple(Candidate(**c) for c in fields["candidates"]))
    if kind == Measured.kind:
        return Measured(samples=tuple(Sample(**s) for s in fields["samples"]))
    if kind == Stepped.kind:
        fields["calls"] = tuple(_call(c) for c in fields["calls"])
        fields["child"] = Child(**fields["child"]) if fields["child"] else None
        fields["pruned"] = Child(**fields["pruned"]) if fields["pruned"] else None
        return Stepped(**fields)
    simple: dict[str, type[Event]] = {Started.kind: Started, Finished.kind: Finished}
    return simple[kind](**fields)


def _call(record: Mapping[str, Any]) -> Call:
    return Call(**{**record, "transformations": tuple(record["transformations"])})
