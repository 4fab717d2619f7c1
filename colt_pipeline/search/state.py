"""The state of a search: the fold of its events. `apply` is the only way to change it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from colt_pipeline.config.schema import SearchConfig
from colt_pipeline.records import DraftSource, ModelSpec
from colt_pipeline.runs.events import (
    Bred,
    Call,
    Candidate,
    Child,
    Chosen,
    Deferred,
    Draft,
    Drafted,
    Event,
    Finished,
    Measured,
    Planted,
    Sample,
    Started,
    Stepped,
)
from colt_pipeline.search.stats import ModelStats
from colt_pipeline.search.tree import ROOT, Node, Tree

Source = Literal["call"] | DraftSource
"""Where a program comes from: a model's proposal, or how it was drawn without a call."""
CALL: Source = "call"
"""Also a random draw in place of a call, as the searches without models make."""


def largest(models: Sequence[ModelSpec]) -> ModelSpec:
    """The model with the most parameters; the first one if several are equal."""
    return max(models, key=lambda m: m.parameters_b)


@dataclass(frozen=True)
class Inquiry:
    """A step that has begun, and all that its question depends on, so that it stays the same whatever happens."""

    step: int
    node: int
    model: str
    """The model that expands the node."""
    scores: tuple[float, ...]
    """See `Chosen`."""
    measured: int
    """Programs that had been measured."""
    waiting: int
    """Programs that waited for that."""
    tried: int
    """Entries of `State.tried_at` for the node."""
    stats: Mapping[str, ModelStats]
    """What was known about each model from this search."""
    first: tuple[Call, Child] | None = None
    """See `Deferred`; None until the small model has answered."""


class State:
    """Tree, per-model statistics, samples and programs still to be measured."""

    def __init__(self, models: Sequence[ModelSpec], settings: SearchConfig, peers: Sequence[State] = ()) -> None:
        """Create the state before the first event.

        Args:
            models: the model set, in order.
            settings: how to search.
            peers: searches of other kernels by the same models, whose statistics are shared; may include this search,
                and more may be added later.
        """
        self.tree = Tree(settings.branching, settings.max_failures)
        self._measured_rewards = settings.rewards == "measured"
        self._legacy = settings.legacy
        self.counts_calls = settings.sample == "call"
        """Whether a sample of the budget is a regular call rather than a measured program."""
        self._largest = largest(models).name if models else None
        self.stats = {m.name: ModelStats() for m in models}
        self._peers = peers
        self.started: Started | None = None
        self.plantings = 0
        """How often programs were sampled from the design spaces."""
        self.finished: str | None = None
        self.steps = 0
        """Steps that have ended."""
        self.begun = 0
        """Steps that have begun: the number of the next one."""
        self.awaited: deque[Inquiry] = deque()
        """Steps whose answers are awaited, in the order in which these are applied."""
        self.streak = 0
        """Consecutive regressions by small models, in call order."""
        self.samples: list[Sample] = []
        """Measured programs."""
        self.numbers: dict[str, int] = {}
        """Key of every measured program -> its index in `samples`."""
        self.led_to: list[str | None] = []
        """What each regular call led to: the program that its step added to the tree, or None."""
        self.tried_at: dict[int, list[Stepped | Draft]] = {}
        """Node -> the steps from there that have ended and the drafts near its program, in order."""
        self.pending: list[Candidate] = []
        """Programs waiting for measurement, in order of creation."""
        self.fresh = 0
        """Programs that entered the tree since the last measurement."""
        self.drafted = False
        """Whether programs were drafted since the last measurement."""
        self.programs: dict[str, Candidate] = {}
        """Every program by key, except for pruned ones."""
        self.nodes: dict[str, int] = {}
        """Key of every program in the tree -> its node."""
        self.sources: dict[str, Source] = {}
        """Where each program in the tree comes from."""
        self.tried: Counter[Source] = Counter()
        """Measured programs by source."""
        self.improved: Counter[Source] = Counter()
        """Those that were faster than all before their batch, whose order says nothing."""
        self.known: set[str] = set()
        """Keys of all programs, including pruned ones: none of them is made again."""
        self.occurrences: Counter[str] = Counter()
        """How often each recording key was asked in this run."""

    def apply(self, event: Event) -> None:
        """Fold one event."""
        match event:
            case Started():
                self.started = event
            case Planted():
                self.plantings += 1
                for child in event.children:
                    self._grow(ROOT, child, None)
                    self.sources[child.program] = "design"
            case Drafted():
                self.drafted = True
                for draft in event.children:
                    self._grow(draft.parent, draft, None, drafted=True)
                    self.sources[draft.program] = draft.source
                    self.tried_at.setdefault(draft.parent, []).append(draft)
            case Bred():
                for candidate in event.candidates:
                    self._enqueue(candidate)
            case Chosen():
                self._choose(event)
            case Deferred():
                self.known.add(event.child.program)
                self._count(event.call, event.child)
                self.awaited.append(replace(self.awaited.popleft(), first=(event.call, event.child)))
            case Stepped():
                self._step(event)
            case Measured():
                self._measure(event)
            case Finished():
                self.finished = event.reason

    def inquiry(self, node: Node, scores: Sequence[float]) -> Inquiry:
        """The step that would begin now at this node; its question shows these scores."""
        assert node.model is not None
        counts = (len(self.samples), len(self.pending), len(self.tried_at.get(node.id, [])))
        return Inquiry(self.begun, node.id, node.model, tuple(scores), *counts, self.stats)

    def _choose(self, event: Chosen) -> None:
        inquiry = self.inquiry(self.tree.nodes[event.node], event.scores)
        now = {name: stats + ModelStats() for name, stats in self.stats.items()}
        self.awaited.append(replace(inquiry, stats=now))
        self.tree.await_answer(event.node)
        self.begun += 1

    def _step(self, event: Stepped) -> None:
        counted = 0
        if self.awaited and self.awaited[0].step == event.step:
            inquiry = self.awaited.popleft()
            self.tree.end_wait(inquiry.node)
            counted = inquiry.first is not None
        else:
            self.begun += 1
        self.steps += 1
        self.tried_at.setdefault(event.parent, []).append(event)
        if event.calls:
            self.led_to.append(None if event.child is None else event.child.program)
        for call in event.calls[counted:]:
            # If nothing was pruned, any child is the regular call's.
            self._count(call, event.pruned or event.child)
        if event.pruned is not None:
            self.known.add(event.pruned.program)
        if event.child is not None:
            self._grow(event.parent, event.child, event.made_by)
            self.sources[event.child.program] = CALL
        else:
            self.tree.fail(event.parent, event.retry_model)

    def _count(self, call: Call, child: Child | None) -> None:
        """Count a call and, if it was a regular one, what it led to."""
        self.stats[call.model].count(call, self._legacy)
        self.occurrences[call.key] += 1
        if call.role == "regular" and child is not None:
            self.stats[call.model].made(child)
            if call.model != self._largest:
                self.streak = self.streak + 1 if child.score < child.parent_score else 0

    def _grow(self, parent: int, child: Child, made_by: str | None, drafted: bool = False) -> None:
        self.nodes[child.program] = self.tree.grow(parent, child, made_by, drafted).id
        self._enqueue(child)

    def _enqueue(self, candidate: Candidate) -> None:
        self.programs[candidate.program] = candidate
        self.known.add(candidate.program)
        self.pending.append(candidate)
        self.fresh += 1

    def _measure(self, event: Measured) -> None:
        before = self.best_secs
        for sample in event.samples:
            source = self.sources.get(sample.program, "design")
            self.tried[source] += 1
            self.improved[source] += sample.latency_secs is not None and sample.latency_secs < before
        for sample in event.samples:
            self.numbers[sample.program] = len(self.samples)
            self.samples.append(sample)
        self.fresh, self.drafted = 0, False
        done = {sample.program for sample in event.samples}
        self.pending = [candidate for candidate in self.pending if candidate.program not in done]
        if self._measured_rewards:
            for sample in event.samples:
                self.tree.measured(self.nodes[sample.program], sample.latency_secs)

    @property
    def spent(self) -> int:
        """Samples of the budget that are spent, see ``search.sample``."""
        return len(self.led_to if self.counts_calls else self.samples)

    @property
    def known_stats(self) -> dict[str, ModelStats]:
        """What is known about each model: its statistics here and in the peers."""
        return self.with_peers(self.stats)

    def with_peers(self, own: Mapping[str, ModelStats]) -> dict[str, ModelStats]:
        """What is known about each model: its `own` statistics and those in the peers."""
        return {name: sum((peer.stats[name] for peer in self._others), start=stats) for name, stats in own.items()}

    @property
    def has_peers(self) -> bool:
        """Whether other searches share their statistics with this one."""
        return bool(self._others)

    @property
    def _others(self) -> list[State]:
        return [peer for peer in self._peers if peer is not self]

    @property
    def best(self) -> Sample | None:
        """The fastest valid sample; the earliest if several are equal."""
        valid = [s for s in self.samples if s.latency_secs is not None]
        return min(valid, key=lambda s: s.latency_secs or 0.0) if valid else None

    @property
    def best_secs(self) -> float:
        """The best latency; 0 if there is none yet."""
        best = self.best
        return 0.0 if best is None else best.latency_secs or 0.0

    @property
    def speedup(self) -> float | None:
        """Latency of the unoptimized program over the best latency."""
        if self.started is None or self.best is None or self.best.latency_secs is None:
            return None
        return self.started.baseline_secs / self.best.latency_secs
