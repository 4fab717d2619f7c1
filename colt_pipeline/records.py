"""Frozen records that cross packages: plain data, without TVM, clock or paths."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta

from colt_pipeline.serialization import Count, Elapsed, Seconds, added

PACKED = "-packed-"
"""In the names of kernels with constant inputs, before the positions of these."""


def packed_name(name: str, constant: Sequence[int]) -> str:
    """What a kernel with these constant inputs is called: a schedule packs them ahead, so it is another kernel."""
    return name + PACKED + "_".join(map(str, constant)) if constant else name


Message = dict[str, str]
"""One chat message: ``role`` and ``content``."""

Role = Literal["regular", "course_alteration"]
"""What a call is for."""

RejectionKind = Literal[
    "empty",
    "not_json",
    "truncated",
    "refusal",
    "unknown_transformation",
    "bad_decision",
    "unknown_model",
    "inapplicable",
    "duplicate",
    "transport",
]
REJECTIONS: tuple[str, ...] = get_args(RejectionKind)
"""Why an answer is unusable, counted per model. `unknown_model` only discards the advice; `duplicate` is bad luck, not
an error."""

Outcome = Literal["accepted", RejectionKind]
"""What became of an answer."""

MeasurementKind = Literal["measured", "estimated"]
"""Where latencies come from: a device or a formula."""

MeasurementError = Literal["build_error", "run_error", "timeout", "crash", "wrong_result"]
"""Why a program has no latency."""

EndReason = Literal["budget", "exhausted", "untuned"]
"""Why a search has finished; ``budget``: all its samples are spent."""

DraftSource = Literal["design", "mutation", "crossover"]
"""How a program was drawn without a call: from the design spaces, or from one or two programs of the tree."""

SampleUnit = Literal["call", "program"]
"""What a sample of a search's budget is: a regular call, as in the paper, or a measured program."""

StopReason = Literal["slower", "steady", "repeats", "budget"]
"""Why timing stopped: clearly slower than the best, after one run or, in a race, a few; a steady median; a limit."""


@dataclass(frozen=True)
class ModelSpec:
    """One LLM: how to reach it and how large it is."""

    name: str
    provider: str
    """Key of the client that answers: ``embedded`` for the stand-ins."""
    api_model: str
    """The provider's own name for the model."""
    parameters_b: float
    """Parameter count in billions."""
    assumed: bool
    """True if the vendor does not publish the parameter count."""
    context_length: int = 0
    """Maximum tokens of prompt plus answer; 0 = unknown."""
    json_schema: bool = False
    """Whether answers can be constrained by a JSON schema."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further parameters of every request, such as the reasoning effort."""
    sampling: Mapping[str, Any] = added({}, optional=True)
    """Sampling parameters of this model alone; None = not sent."""
    output_limit: str | None = added(None, optional=True)
    """Request parameter that limits the tokens of an answer; None = the provider's."""


EMBEDDED = "embedded"
"""Provider of the stand-ins."""
LIMIT = "limit"
"""Why a run stopped before it finished: it reached a limit of its budget."""
RANDOM = "random"
"""Provider of the random answers that replace a model's."""

NO_MODEL = ModelSpec("none", "none", "none", 1.0, False)
"""Fills the model set of a search without models; no result lists it."""


@dataclass(frozen=True)
class Site:
    """A place in a program's trace whose decision may be set: a tile, or one number from a list of choices."""

    transformation: str
    """The transformation that draws here."""
    label: str
    """Unique within the program, such as ``matmul.k`` (block and loop)."""
    now: tuple[int, ...]
    """The current decision: the tile's factors from outer to inner, or a single number."""
    extent: int = 0
    """Product of the tile's factors; 0 for a single number."""
    innermost: int = 0
    """Largest allowed innermost factor of a tile."""
    choices: tuple[int, ...] = ()
    """Allowed values of a single number."""
    note: str = added("", optional=True)
    """What the factors of a tile count, where its loops do not show it."""

    @property
    def bounds(self) -> str:
        """The allowed decisions, in words."""
        if self.extent:
            return f"{len(self.now)} factors with product {self.extent}, the last at most {self.innermost}"
        return f"one of {', '.join(map(str, self.choices))}"

    def shown(self, decision: tuple[int, ...]) -> str:
        """`decision` as an answer writes it."""
        return str(list(decision) if self.extent else decision[0])

    def violation(self, decision: tuple[int, ...]) -> str | None:
        """How `decision` violates the bounds; None if it does not."""
        if not self.extent:
            return None if len(decision) == 1 and decision[0] in self.choices else f"must be {self.bounds}"
        if len(decision) != len(self.now):
            return f"must be {len(self.now)} factors"
        if min(decision) < 1 or math.prod(decision) != self.extent:
            return f"must multiply to {self.extent}"
        return f"must end with at most {self.innermost}" if decision[-1] > self.innermost else None


@dataclass(frozen=True)
class Edit:
    """One proposed transformation; without a decision the mutator draws site and decision."""

    name: str
    site: Site | None = None
    decision: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.site is None:
            return self.name
        return f"{self.name}({self.site.label}={self.site.shown(self.decision)})".replace(" ", "")


def decides(edit: str) -> bool:
    """Whether an edit, as `Edit.__str__` writes it, states the decision."""
    return "(" in edit


@dataclass(frozen=True)
class Proposal:
    """What a model proposes: transformations in order and, as advice, the model to answer next."""

    transformations: tuple[Edit, ...]
    next_model: str | None
    flaw: RejectionKind | None = None
    """Why half of the answer was dropped (``unknown_model``), or None."""


@dataclass(frozen=True)
class Rejection:
    """An answer that yields no child."""

    kind: RejectionKind
    detail: str


@dataclass(frozen=True)
class Reply:
    """One raw answer of an LLM."""

    text: str
    finish_reason: str
    prompt_tokens: Count
    completion_tokens: Count
    latency_secs: Elapsed
    provider_model: str
    """The model string that the provider reported."""
    backend: str
    """The provider: ``embedded``, ``openai``, ..."""
    cached_tokens: Count = added(0, optional=True)
    """Tokens of the prompt that the provider had cached, and charges less for."""


@dataclass(frozen=True)
class Measurement:
    """One measured program: its run times, or the kind of error."""

    run_secs: tuple[Seconds, ...] = ()
    error: MeasurementError | None = None
    detail: str = ""
    max_relative_error: Annotated[float, Meta(ge=0, le=1e300)] | None = None
    """max|out - reference| / max|reference|, in a race of the first runs, otherwise of the last one."""
    stop: StopReason | None = None
    cold_secs: tuple[Seconds, ...] = ()
    """Run times with cold caches, of a kernel with constant inputs that is not in a race."""

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Measurement:
        """What a worker says."""
        lists = {name: tuple(fields[name]) for name in ("run_secs", "cold_secs") if name in fields}
        return cls(**{**fields, **lists})

    @property
    def latency_secs(self) -> float | None:
        """Median of the run times; None for an error."""
        if self.error is not None or not self.run_secs:
            return None
        return statistics.median(self.run_secs)


@dataclass(frozen=True)
class ProgramView:
    """A program as a prompt shows it."""

    code: str
    """TVMScript."""
    history: tuple[str, ...]
    """The ``sch.`` lines of the trace; empty for the unoptimized program."""
    score: float | None
    """Predicted score; None for the unoptimized program."""
    model: str | None
    """The model that expands the current program; for ancestors, the model whose expansion led to it."""


@dataclass(frozen=True)
class StepView:
    """A program on the path to the current one, and the step that led to it, as a prompt shows them."""

    history: tuple[str, ...]
    """The ``sch.`` lines of the program's trace."""
    model: str | None
    """The model whose proposal led here; None for a program that was drawn without a call."""
    score: float | None
    """Predicted score; None as long as the cost model has seen too few programs to predict."""
    latency_secs: float | None = None
    """None unless the program has been measured and ran."""
    failed: bool = False
    """Whether it was measured and did not run."""


@dataclass(frozen=True)
class AttemptView:
    """An earlier answer at the current program, or a program drawn near it, as a prompt shows them."""

    model: str | None
    """None for a program that was drawn without a call."""
    proposed: tuple[str, ...]
    """The transformations that the answer named; empty if it was unusable."""
    outcome: Outcome
    child: StepView | None
    """The program that it led to."""
    pruned: bool = False
    """Whether that program was removed again, because regressions by small models had persisted."""


@dataclass(frozen=True)
class ModelView:
    """What a prompt says about one candidate model (paper section 3.3)."""

    name: str
    parameters_b: float
    calls: int
    hit_rate: float
    """Share of regular calls with score(child) > score(parent); 0 before the first call."""
    errors: int
    course_alterations: int


@dataclass(frozen=True)
class Progress:
    """How far a search has come."""

    spent: int
    """Samples of the budget; see `unit`."""
    budget: int
    unit: SampleUnit
    measured: int
    """Programs."""
    waiting: int
    """Programs that have been made and not been measured yet."""
    best_secs: float | None
    """The best latency so far."""
    baseline_secs: float
    """Latency of the unoptimized program."""


@dataclass(frozen=True)
class PromptContext:
    """Everything a model is told for one expansion (paper section 3.3, appendix B)."""

    target: str
    """The target in words."""
    lineage: tuple[ProgramView, ...]
    """Current program, parent, grandparent; as many as exist."""
    transformations: tuple[tuple[str, str], ...]
    """Name and description of each available transformation."""
    sites: tuple[Site, ...]
    """Where a decision may be given; empty if answers are bare names."""
    hardware: str
    """Vector width, registers and caches in words; shown with the sites."""
    depth: int
    samples: int
    budget: int
    models: tuple[ModelView, ...]
    """Candidate models in the order of the model set; a single one means no choice."""
    largest: str
    base_code: str = added("", optional=True)
    """TVMScript of the unoptimized program."""
    offer: tuple[tuple[str, str], ...] = added((), optional=True)
    """Name and description of every transformation of the space; the current program may have no place for some."""
    path: tuple[StepView, ...] = added((), optional=True)
    """From the initial program to the current one."""
    tried: tuple[AttemptView, ...] = added((), optional=True)
    """What was tried at the current program before, in order."""
    progress: Progress | None = added(None, optional=True)
    """None = the prompts of ``search.legacy``."""


@dataclass(frozen=True)
class Answer:
    """A reply with its identity in the recording and the parser's verdict."""

    key: str
    occurrence: int
    reply: Reply
    verdict: Proposal | Rejection
