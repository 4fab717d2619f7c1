"""The collaborators of a search, as protocols; `assemble` passes the real ones, tests scripted ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np

from colt_pipeline.config.schema import SearchConfig
from colt_pipeline.records import Answer, Edit, ModelSpec, PromptContext, Rejection, Site
from colt_pipeline.runs.drafted import Pick
from colt_pipeline.runs.events import Candidate, Measured, Sample, Started
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.search.in_flight import InFlight
from colt_pipeline.search.state import largest


class ProgramLike(Protocol):
    """A program: base module + trace."""

    @property
    def key(self) -> str: ...
    @property
    def trace_json(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def history(self) -> tuple[str, ...]: ...


class TransformationLike(Protocol):
    """A row in the table of transformations."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def decided(self) -> str:
        """The description where answers take decisions; "" if it is the same."""
        ...


P = TypeVar("P", bound=ProgramLike)
P_contra = TypeVar("P_contra", bound=ProgramLike, contravariant=True)


class SpaceLike(Protocol[P]):
    """Schedules of one workload."""

    @property
    def base_code(self) -> str: ...
    @property
    def transformations(self) -> Sequence[TransformationLike]: ...
    def initial(self, count: int, rng: np.random.Generator) -> list[P]: ...
    def load(self, key: str, trace_json: str) -> P: ...
    def applicable(self, program: P) -> Sequence[TransformationLike]: ...
    def sites(self, program: P) -> tuple[Site, ...]: ...
    def apply(
        self,
        program: P,
        edits: Sequence[Edit],
        rng: np.random.Generator,
        attempts: int,
        known: Callable[[str], bool],
        draws: int,
    ) -> list[P] | Rejection: ...
    def designs(self, count: int, rng: np.random.Generator) -> list[P]: ...
    def sketches(self, programs: Sequence[P], count: int, rng: np.random.Generator) -> Sequence[Any]: ...
    def make(self, sketched: Sequence[Any], count: int, known: Set[str]) -> list[tuple[Any, P]]: ...
    def rollout(self, program: P, length: int, rng: np.random.Generator, attempts: int, mode: str) -> P: ...


class CostModelLike(Protocol[P_contra]):
    """Predicts scores: higher is faster."""

    @property
    def warm(self) -> bool:
        """Whether scores depend on the programs; before that, they are noise."""
        ...

    def score(self, programs: Sequence[P_contra], rng: np.random.Generator) -> list[float]: ...
    def update(self, programs: Sequence[P_contra], samples: Sequence[Sample]) -> None: ...


@runtime_checkable
class DraftingCostModelLike(CostModelLike[P_contra], Protocol[P_contra]):
    """What ``search.drafts`` asks of a cost model besides."""

    def screen(self, sketches: Sequence[Any], programs: Sequence[P_contra]) -> list[float]:
        """Rough scores of what was only sketched, with the help of `programs`; any monotone function will do."""
        ...

    def prospects(self, programs: Sequence[P_contra], optimism: float) -> Callable[[Sequence[int]], list[float]]:
        """What each may score at best, given the indices of those that will be measured anyway."""
        ...


class EvaluatorLike(Protocol[P_contra]):
    """Measures programs."""

    def measure(self, programs: Sequence[P_contra]) -> list[Sample]: ...


class ProposerLike(Protocol):
    """Asks an LLM."""

    def ask(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> Answer: ...


class EvolutionLike(Protocol[P]):
    """Breeds batches of programs from the measurements so far."""

    def next_batch(self, measured: Sequence[tuple[P, Sample]]) -> Sequence[P]:
        """Distinct new programs, at most as many as are left to measure; empty if there are no more."""
        ...


class DraftsLike(Protocol):
    """What was picked from many draws, by what it followed from."""

    @property
    def path(self) -> Path: ...
    def get(self, measured: Sequence[Sample], waiting: Sequence[Candidate]) -> list[Pick] | None: ...
    def add(self, measured: Sequence[Sample], waiting: Sequence[Candidate], picks: Sequence[Pick]) -> None: ...


class Purpose(IntEnum):
    """The purpose of a random generator; part of its seed, so that streams never mix."""

    PLANT = 0
    SCORE_LINEAGE = 1
    APPLY = 2
    ROLLOUT = 3
    SCORE = 4
    ROUTE = 5
    RETRY = 6
    COURSE = 7
    CHOOSE = 8
    BATCH = 9
    RESCORE = 10
    DRAFT = 11
    ROUTE_DRAFTS = 12


@dataclass(frozen=True)
class World(Generic[P]):
    """Settings and collaborators of one search."""

    settings: SearchConfig
    models: tuple[ModelSpec, ...]
    """The model set."""
    seed: int
    samples: int
    """Size of the budget: regular calls or measured programs, see ``search.sample``."""
    target: str
    """The target in words, for prompts."""
    hardware: str
    """What prompts add for models that make decisions, see `PromptContext.hardware`."""
    start: Callable[[], Started]
    space: SpaceLike[P]
    cost_model: CostModelLike[P]
    evaluator: EvaluatorLike[P]
    proposer: ProposerLike
    stopwatch: Stopwatch = field(default_factory=Stopwatch)
    in_flight: InFlight | None = None
    """Calls that are made at the same time; None = one after another."""
    evolution: EvolutionLike[P] | None = None
    """Source of programs in a search without a tree."""
    drafts: DraftsLike | None = None
    """Record of the drafts of a search with ``search.drafts``."""
    start_from: tuple[Candidate, ...] = ()
    """Programs of earlier runs with which a search with a tree begins, best first."""

    @property
    def largest(self) -> ModelSpec:
        """The model with the most parameters; the first one if several are equal."""
        return largest(self.models)

    def model(self, name: str) -> ModelSpec:
        """The model of the set with this name."""
        return next(model for model in self.models if model.name == name)

    @property
    def drafting_model(self) -> DraftingCostModelLike[P]:
        """The cost model of a search with ``search.drafts``."""
        assert isinstance(self.cost_model, DraftingCostModelLike), "the configuration was checked"
        return self.cost_model

    def rng(self, step: int, purpose: Purpose, attempt: int = 0) -> np.random.Generator:
        """The generator for one purpose in one step (and, after a course alteration, for its second attempt)."""
        return np.random.default_rng([self.seed, step, purpose, attempt])

    def program(self, candidate: Candidate) -> P:
        """The program that a record describes."""
        return self.space.load(candidate.program, candidate.trace)

    def measure(self, candidates: Sequence[Candidate]) -> Measured:
        """Measure programs, in order."""
        if self.in_flight is not None:
            with self.stopwatch.lap("llm"):
                self.in_flight.let_measure()
        with self.stopwatch.lap("measure"):
            return Measured(tuple(self.evaluator.measure([self.program(c) for c in candidates])))
