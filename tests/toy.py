"""A toy world for search tests: programs are tuples of numbers, models are scripts, nothing needs TVM."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from colt_pipeline.config.schema import SearchConfig
from colt_pipeline.errors import LLMError
from colt_pipeline.llm.client import Question
from colt_pipeline.records import (
    Answer,
    Edit,
    ModelSpec,
    Outcome,
    PromptContext,
    Proposal,
    Rejection,
    Reply,
    Role,
    Site,
)
from colt_pipeline.runs.drafted import Pick
from colt_pipeline.runs.events import Call, Candidate, Child, Event, Sample, Started
from colt_pipeline.runs.journal import Journal
from colt_pipeline.search.loop import search
from colt_pipeline.search.state import State
from colt_pipeline.search.world import World
from colt_pipeline.serialization import digest
from tests.support import configured

SMALL = ModelSpec("small", "embedded", "small", 8.0, False)
LARGE = ModelSpec("large", "embedded", "large", 300.0, True)


@dataclass(frozen=True)
class ToyProgram:
    """A sequence of decisions."""

    steps: tuple[int, ...]

    @property
    def key(self) -> str:
        return hashlib.sha256(self.trace_json.encode()).hexdigest()

    @property
    def trace_json(self) -> str:
        return json.dumps(self.steps)

    @property
    def code(self) -> str:
        return f"program {self.steps}"

    @property
    def history(self) -> tuple[str, ...]:
        return tuple(f"sch.step({n})" for n in self.steps)


@dataclass(frozen=True)
class ToyTransformation:
    name: str = "Step"
    description: str = "append a number"
    decided: str = ""


@dataclass(frozen=True)
class ToySketch:
    """A program that was not made; it is invalid if its last number is divisible by 7."""

    parents: tuple[int, ...]
    program: ToyProgram


@dataclass
class ToySpace:
    """Each transformation appends a random number below `alphabet`."""

    alphabet: int = 1_000_000
    base_code: str = "program ()"
    transformations: Sequence[ToyTransformation] = (ToyTransformation(),)

    def initial(self, count: int, rng: np.random.Generator) -> list[ToyProgram]:
        return [ToyProgram((i, int(rng.integers(self.alphabet)))) for i in range(count)]

    def load(self, key: str, trace_json: str) -> ToyProgram:
        program = ToyProgram(tuple(json.loads(trace_json)))
        assert program.key == key
        return program

    def applicable(self, program: ToyProgram) -> Sequence[ToyTransformation]:
        return (ToyTransformation(),)

    def sites(self, program: ToyProgram) -> tuple[Site, ...]:
        return (Site("Step", "last", program.steps[-1:], choices=tuple(range(10))),)

    def apply(
        self,
        program: ToyProgram,
        edits: Sequence[Edit],
        rng: np.random.Generator,
        attempts: int,
        known: Callable[[str], bool],
        draws: int,
    ) -> list[ToyProgram] | Rejection:
        found: list[ToyProgram] = []
        for _ in range(attempts * draws):
            child = ToyProgram((*program.steps, *(int(rng.integers(self.alphabet)) for _ in edits)))
            if not known(child.key) and child not in found:
                found.append(child)
            if len(found) == draws:
                break
        return found or Rejection("duplicate", "known")

    def designs(self, count: int, rng: np.random.Generator) -> list[ToyProgram]:
        return [ToyProgram((9, int(rng.integers(self.alphabet)))) for _ in range(count)]

    def sketches(self, programs: Sequence[ToyProgram], count: int, rng: np.random.Generator) -> list[ToySketch]:
        """Programs with one number more; every other one has two parents, where there are two."""
        found = []
        for number in range(count if programs else 0):
            first, second = (int(i) for i in rng.integers(len(programs), size=2))
            parents = (first, second) if number % 2 and first != second else (first,)
            steps = (*programs[first].steps, int(rng.integers(self.alphabet)))
            found.append(ToySketch(parents, ToyProgram(steps)))
        return found

    def make(self, sketched: Sequence[ToySketch], count: int, known: Set[str]) -> list[tuple[ToySketch, ToyProgram]]:
        found: dict[str, tuple[ToySketch, ToyProgram]] = {}
        for sketch in sketched:
            if sketch.program.steps[-1] % 7 and sketch.program.key not in known:
                found.setdefault(sketch.program.key, (sketch, sketch.program))
        return list(found.values())[:count]

    def rollout(
        self, program: ToyProgram, length: int, rng: np.random.Generator, attempts: int, mode: str
    ) -> ToyProgram:
        return ToyProgram((*program.steps, *(int(n) for n in rng.integers(self.alphabet, size=length))))


@dataclass
class ToyCostModel:
    """Scripted scores: a function of (program, generator)."""

    script: Callable[[ToyProgram, np.random.Generator], float]
    learned: list[str] = field(default_factory=list)
    warm: bool = True

    def score(self, programs: Sequence[ToyProgram], rng: np.random.Generator) -> list[float]:
        return [self.script(p, rng) for p in programs]

    def screen(self, sketches: Sequence[ToySketch], programs: Sequence[ToyProgram]) -> list[float]:
        return [float(sketch.program.steps[-1]) for sketch in sketches]

    def prospects(self, programs: Sequence[ToyProgram], optimism: float) -> Callable[[Sequence[int]], list[float]]:
        scores = [self.script(p, np.random.default_rng(0)) for p in programs]
        return lambda chosen: scores

    def update(self, programs: Sequence[ToyProgram], samples: Sequence[Sample]) -> None:
        self.learned.extend(p.key for p in programs)


@dataclass
class ToyEvaluator:
    """Derives latencies from the program's content, and counts measurements."""

    one_fails_in: int = 0
    """0 = none fail."""
    measured: list[str] = field(default_factory=list)

    def measure(self, programs: Sequence[ToyProgram]) -> list[Sample]:
        self.measured.extend(p.key for p in programs)
        return [self._sample(p.key, int(p.key[:6], 16)) for p in programs]

    def _sample(self, key: str, number: int) -> Sample:
        if self.one_fails_in and number % self.one_fails_in == 0:
            return Sample(key, None, "timeout")
        return Sample(key, 1.0 / (1 + number % 100), None)


@dataclass
class ToyDrafts:
    """A record in memory."""

    picks: dict[tuple[int, str], list[Pick]] = field(default_factory=dict)
    path: Path = Path("drafts.jsonl")

    def get(self, measured: Sequence[Sample], waiting: Sequence[Candidate]) -> list[Pick] | None:
        return self.picks.get(self._key(measured, waiting))

    def add(self, measured: Sequence[Sample], waiting: Sequence[Candidate], picks: Sequence[Pick]) -> None:
        self.picks[self._key(measured, waiting)] = list(picks)

    def _key(self, measured: Sequence[Sample], waiting: Sequence[Candidate]) -> tuple[int, str]:
        return len(measured), digest([candidate.program for candidate in waiting])


@dataclass
class ToyEvolution:
    """Batches of `batch` consecutively numbered programs, up to `samples`; none after `last`."""

    samples: int
    batch: int = 6
    last: int = 1_000_000
    asked: list[int] = field(default_factory=list)

    def next_batch(self, measured: Sequence[tuple[ToyProgram, Sample]]) -> list[ToyProgram]:
        done = len(measured)
        self.asked.append(done)
        assert all(program.key == sample.program for program, sample in measured)
        return [ToyProgram((n,)) for n in range(done, min(done + self.batch, self.samples, self.last))]


Script = Callable[[ModelSpec, PromptContext, int], Proposal | Rejection]


def uniform_script(model: ModelSpec, context: PromptContext, occurrence: int) -> Proposal | Rejection:
    """Proposes one step; the next model is a uniform function of the question."""
    names = [m.name for m in context.models]
    return Proposal((Edit("Step"),), names[int(digest([model.name, str(context), occurrence])[:8], 16) % len(names)])


@dataclass
class ToyProposer:
    """Scripted answers."""

    script: Script = uniform_script
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    contexts: list[PromptContext] = field(default_factory=list)

    def ask(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> Answer:
        key = digest([model.name, str(context)])
        occurrence = occurrences.get(key, 0)
        self.asked.append((model.name, key, occurrence))
        self.contexts.append(context)
        reply = Reply("", "stop", 10, 1, 0.0, model.name, "embedded")
        return Answer(key, occurrence, reply, self.script(model, context, occurrence))


@dataclass
class ToyPosed:
    """A question to a `ToyPosing`."""

    proposer: ToyPosing
    model: ModelSpec
    context: PromptContext
    key: str
    occurrence: int
    takes_time: bool = True

    def fetch(self) -> None:
        there = self.proposer
        with there.lock:
            there.in_flight += 1
            there.most_in_flight = max(there.most_in_flight, there.in_flight)
        try:
            there.arrive(self)
        finally:
            with there.lock:
                there.in_flight -= 1
        there.arrived.append((self.key, self.occurrence))

    def answer(self) -> Answer:
        return self.proposer.ask(self.model, self.context, {self.key: self.occurrence})


@dataclass
class ToyPosing(ToyProposer):
    """Scripted answers that arrive when `arrive` returns, in a thread of their own."""

    arrive: Callable[[ToyPosed], None] = lambda posed: None
    arrived: list[tuple[str, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    in_flight: int = 0
    most_in_flight: int = 0

    def pose(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> ToyPosed:
        key = digest([model.name, str(context)])
        return ToyPosed(self, model, context, key, occurrences.get(key, 0))


@dataclass
class ToyClient:
    """Gives one text to everything, or else the number of the question; keeps the questions."""

    text: str | None = None
    finish_reason: str = "stop"
    fails_at: int | None = None
    questions: list[Question] = field(default_factory=list)

    def complete(self, question: Question, occurrence: int) -> Reply:
        if len(self.questions) == self.fails_at:
            raise LLMError("down")
        self.questions.append(question)
        number = len(self.questions)
        text = f"answer {number}" if self.text is None else self.text
        return Reply(text, self.finish_reason, 100 * number, number, 0.0, "m", question.model.provider)


def falling(chance: float) -> Callable[[ToyProgram, np.random.Generator], float]:
    """A function of the program that falls with this probability per appended number, and rises otherwise."""

    def score(program: ToyProgram, rng: np.random.Generator) -> float:
        falls = sum(1 for n in program.steps[2:] if n % 1000 < chance * 1000)
        return float(len(program.steps) - 2 - 2 * falls)

    return score


def call(model: str, hit: bool = False, role: Role = "regular", outcome: Outcome = "accepted") -> Call:
    """A call with these outcomes; nothing else matters to statistics."""
    return Call(model, role, "key", 0, outcome, "", (), None, None, 0, 0, hit)


_SMALL = {"batch_size": 4, "warmup_samples": 4, "initial_programs": 2, "apply_attempts": 2, "sample": "program"}
"""What suits a world in which a run has some twenty samples, each a measured program."""


def settings(name: str = "paper", **changes: Any) -> SearchConfig:
    """The search of this name with small batches, and changed so."""
    return replace(configured(f"search={name}").search, **{**_SMALL, **changes})


def world(
    samples: int = 20,
    seed: int = 0,
    models: tuple[ModelSpec, ...] = (LARGE, SMALL),
    score: Callable[[ToyProgram, np.random.Generator], float] = lambda p, rng: float(rng.uniform()),
    script: Script = uniform_script,
    space: ToySpace | None = None,
    one_fails_in: int = 0,
    name: str = "paper",
    **changes: Any,
) -> World[ToyProgram]:
    """A toy world, searched as `settings` says."""
    return World(
        settings=settings(name, **changes),
        models=models,
        seed=seed,
        samples=samples,
        target="toy",
        hardware="",
        start=lambda: Started(1, "toy", "0" * 64, {"kind": "toy"}, "toy", "measured", 1.0),
        space=space or ToySpace(),
        cost_model=ToyCostModel(score),
        evaluator=ToyEvaluator(one_fails_in),
        proposer=ToyProposer(script),
        drafts=ToyDrafts(),
    )


def child(
    *steps: int, model: str = "small", score: float = 0.5, parent_score: float = 0.5, reward: float = 0.5
) -> Child:
    """The record of a program with these steps."""
    program = ToyProgram(steps)
    return Child(program.key, program.trace_json, model, score, parent_score, reward)


def play(toy: World[ToyProgram], path: Path, stop_after: int | None = None) -> State:
    """Run (or resume) a search; stop after this many new events, like a kill."""
    state = State(toy.models, toy.settings)
    journal = Journal(path)
    for number, _ in enumerate(search(toy, journal, state), start=1):
        if number == stop_after:
            break
    journal.close()
    return state


def events_of(path: Path) -> list[Event]:
    """The contents of a journal."""
    journal = Journal(path)
    journal.close()
    return list(journal.events)
