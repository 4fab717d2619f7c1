"""The schema of the configuration. Values and their explanations are found only in ``conf/``.

Schema classes have no defaults, so a key that is missing, unknown or of the wrong type is an error that gives its full
name (checks.py). A key added after recordings were made states the earlier behaviour: `serialization.added`. Only keys
added to models and providers have defaults, for users have files of their own for these.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from colt_pipeline.records import EMBEDDED, NO_MODEL, RANDOM, ModelSpec
from colt_pipeline.serialization import added, written

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this machine in addresses."""


@dataclass
class WorkloadConfig:
    """conf/workload: the kernel and its sizes, or a kernel of the user's own."""

    name: str
    shape: dict[str, int]
    source: str | None = added(None, optional=True)
    """File of the user's own kernel; None = a kernel of the catalogue."""
    function: str | None = added(None, optional=True)
    """Which of the file's functions; None = the only one."""
    bind: dict[str, int] = added({}, optional=True)
    """Symbolic size -> its value."""
    inputs: str | None = added(None, optional=True)
    """File of its inputs (``.npz``); None = random ones."""
    constant: list[int] = added([], optional=True)
    """Positions of inputs that never change, whose layout a schedule chooses."""
    model: bool = added(False, optional=True)
    """Whether the file holds a whole model, for colt_pipeline.tune_model."""
    weights: str | None = added(None, optional=True)
    """File of the model's weights, if they are not in its own."""


@dataclass
class GpuConfig:
    """A GPU's data sheet, from which latencies are estimated. Rates are peak values."""

    name: str
    arch: str
    """CUDA architecture, such as sm_75."""
    multiprocessors: int
    clock_ghz: float
    fp32_lanes: int
    """Fused multiply-adds per clock and multiprocessor."""
    bandwidth_gb_s: float
    """Device memory, 10^9 bytes per second."""
    l2_mib: float
    threads_per_multiprocessor: int
    blocks_per_multiprocessor: int
    shared_kib_per_multiprocessor: int
    launch_us: float
    """Cost of one kernel launch, microseconds."""


@dataclass
class TargetConfig:
    """conf/target: what to compile for."""

    name: str
    kind: str
    """TVM's target kind: ``llvm`` or ``cuda``."""
    cores: int
    """Threads per kernel; 0 = all usable cores."""
    mcpu: str
    """LLVM CPU name; "" = detected."""
    l2_kib: int
    """L2 cache per core as stated in prompts; 0 for a GPU."""
    arch: str
    """CUDA architecture, such as sm_90; "" = detected, or that of `gpu` if there is no device."""
    gpu: GpuConfig | None
    """The GPU to assume if none is present; None for a CPU."""


@dataclass
class PricesConfig:
    """A model's prices in USD per million tokens."""

    input: float
    output: float
    date: str
    """When these prices applied."""
    source: str
    cached_input: float | None = added(None, optional=True)
    """Of prompt tokens that the provider has cached; None = as any others."""


@dataclass
class ModelConfig:
    """conf/models: one LLM."""

    provider: str
    api_model: str
    parameters_b: float
    assumed: bool
    context_length: int
    json_schema: bool
    extra: dict[str, Any]
    prices: PricesConfig | None
    sampling: dict[str, Any] = field(default_factory=dict)
    """Keys of conf/llm for this model alone; None = not sent."""
    output_limit: str | None = None
    """Like the provider's; None = as the provider says."""


@dataclass
class ProviderConfig:
    """conf/providers: one server that speaks the OpenAI API."""

    base_url: str
    key_env: str
    """Environment variable that holds the key; "" = no key needed."""
    output_limit: str
    """Request parameter that limits the tokens of an answer."""
    timeout_secs: float
    """Longest time of one attempt, from connecting to the last byte."""
    attempts: int
    """Attempts per call."""
    max_bytes: int = 4 << 20
    """Longest response, headers included."""
    proxy: str | None = None
    """Address of an HTTP proxy; None = none, whatever the environment says."""

    @property
    def is_here(self) -> bool:
        """Whether the server runs on this machine, by its address."""
        return urlsplit(self.base_url).hostname in LOOPBACK


@dataclass
class SpaceConfig:
    """conf/space: TVM's design space and code generation, and which additions to it are on."""

    name: str
    run_name: str
    vector_math: bool
    row_fusion: bool
    register_tiles: bool
    packing: bool
    padding: bool
    sound: bool

    @property
    def additions(self) -> tuple[str, ...]:
        """The names of the switches that are on."""
        return tuple(name for name, value in vars(self).items() if value is True)


TVM_SPACE = SpaceConfig("tvm", "", False, False, False, False, False, False)
EXTENDED_SPACE = SpaceConfig("extended", "-extended", True, True, True, True, True, True)
"""``space=extended``; others are named by what they have or lack beside these two."""


@dataclass
class EvolutionConfig:
    """conf/search/evolutionary.yaml; names follow TVM's EvolutionarySearch."""

    num_trials_per_iter: int
    population_size: int
    init_measured_ratio: float
    init_min_unmeasured: int
    max_fail_count: int
    genetic_num_iters: int
    genetic_mutate_prob: float
    genetic_max_fail_count: int
    eps_greedy: float


@dataclass
class DraftsConfig:
    """conf/search/colt_plus.yaml: programs drawn without a call before each batch."""

    generations: int
    designs: int
    sketches: int
    draws: int
    elites: int
    optimism: float


@dataclass
class SearchConfig:
    """conf/search; names follow the paper's formulas."""

    name: str
    run_name: str
    strategy: str
    proposer: str
    decisions: bool
    draws_per_proposal: int
    router: str
    lambda_: float
    c: float
    branching: int
    rollout: str
    rollout_length: int
    course_alteration: str
    course_rate: float
    first_children: str
    cost_model: str
    warmup_samples: int
    rewards: str
    batch_size: int
    candidates: int
    initial_programs: int
    widening: float
    apply_attempts: int
    max_failures: int
    evolution: EvolutionConfig | None
    drafts: DraftsConfig | None = added(None)
    sample: str = added("program")
    legacy: bool = added(True)
    """Whether to keep the prompts and rules that earlier recordings rest on."""
    early_scores: bool = added(False)
    """Whether prompts show the score of an initial program, which is noise, before the cost model predicts."""

    @property
    def grows_tree(self) -> bool:
        """Whether this is the tree search rather than TVM's evolutionary search, which needs `evolution`."""
        return self.strategy == "mcts"

    @property
    def asks_models(self) -> bool:
        """Whether LLMs, or random answers in their place, propose transformations."""
        return self.grows_tree and self.proposer != "none"


@dataclass
class LLMConfig:
    """conf/llm: sampling parameters, part of every recording key (None = not sent), and how many calls at once."""

    temperature: float | None
    max_tokens: int
    top_p: float | None
    seed: int | None
    concurrency: int = added(1)
    """Calls that are made at the same time; no sampling parameter."""

    @property
    def sampling(self) -> dict[str, float]:
        """The parameters that are set, by their names in the OpenAI API."""
        return {name: value for name in SAMPLING if (value := getattr(self, name)) is not None}


SAMPLING = ("temperature", "max_tokens", "top_p", "seed")
"""The sampling parameters of `LLMConfig`."""


@dataclass
class PromptConfig:
    """conf/prompt: how a prompt is written."""

    code: str
    order: str
    trace: str = added("full")


@dataclass
class LimitsConfig:
    """Spending limits; None = no limit."""

    calls: int | None
    tokens: int | None
    usd: float | None
    hours: float | None


@dataclass
class BudgetConfig:
    """conf/budget: limits on live calls, and what an experiment derives from its size."""

    run: LimitsConfig
    sweep: LimitsConfig
    warmup_samples: int
    """`search.warmup_samples` in experiments with search=paper."""


@dataclass
class MeasureConfig:
    """conf/measure: how a kernel is built and timed."""

    min_repeats: int
    max_repeats: int
    max_spread: float
    min_repeat_secs: float
    budget_secs: float
    slower: float
    cache_flush_mib: int
    build_timeout_secs: float
    run_timeout_secs: float
    memory_mib: int
    builders: int
    vector_math: bool = added(False, optional=True)
    """Whether the compiler makes polynomials of exp and its like: `space.vector_math`, and false on GPUs."""
    confirm: int = added(0, optional=True)
    """How many of a run's best programs are measured again at its end, in turn; 0 = none."""
    cold_runs: int = added(0, optional=True)
    """How many runs with cold caches follow the warm ones when a program is confirmed; of a kernel with constant inputs
    at least three."""
    racing: float = added(0.0, optional=True)
    """Standard errors by which a program must be slower than the best to be clearly slower; 0 = no race."""
    runner: str = added("", optional=True)
    """Who measures: "" = this package's workers; ``tvm`` = TVM's runner, see `strategy`, which alone sets it."""


@dataclass
class RpcConfig:
    """conf/rpc: a TVM RPC tracker; no `key`, no tracker."""

    host: str
    port: int
    key: str
    timeout_secs: float


@dataclass
class RecordConfig:
    """conf/record: what is replayed and what is live."""

    mode: str


@dataclass
class Config:
    """One run."""

    experiment: str
    run: str
    workload: WorkloadConfig
    target: TargetConfig
    search: SearchConfig
    llm: LLMConfig
    prompt: PromptConfig
    budget: BudgetConfig
    measure: MeasureConfig
    device: str
    rpc: RpcConfig
    record: RecordConfig
    model_set: str
    largest: str
    model_sets: dict[str, list[str]]
    models: dict[str, ModelConfig]
    providers: dict[str, ProviderConfig]
    stand_ins: bool
    samples: int
    minutes: float | None
    """Wall-clock limit of the search; None = none. A limit, not a property of the run: a higher one continues it."""
    seed: int
    results: str
    pretraining: str
    space: SpaceConfig = added(TVM_SPACE)
    """The design space."""
    plugins: list[str] = added([])
    """A user's own modules, see `plugins`; their names are part of the run."""
    prepack: bool = added(False)
    """Whether the kernels of a whole model may have their weights packed ahead."""
    kernels: str = added("flop")
    """How the kernels of a whole model that are worth tuning are told from the others."""
    start_from: str | None = added(None, optional=True)
    """Results directory whose best programs of the same kernel the search begins with; None = only random ones."""

    @property
    def model_specs(self) -> tuple[ModelSpec, ...]:
        """See `model_specs`."""
        models = {name: vars(self.models[name]) for name in self.model_sets[self.model_set]}
        keyed = {name for name, provider in self.providers.items() if provider.key_env}
        return model_specs(self.search.proposer, models, keyed if self.stand_ins else ())

    def identity(self) -> dict[str, Any]:
        """What identifies this run: everything but storage, recording, budget and unused models and model sets."""
        full = written(self)
        chosen = full["model_sets"][self.model_set]
        full["model_sets"] = {self.model_set: chosen}
        full["models"] = {spec.name: written(spec) for spec in self.model_specs if spec != NO_MODEL}
        for key in _FILES:  # their contents are in the workload's name
            full["workload"].pop(key, None)
        for key in ("confirm", "cold_runs"):  # after the search
            full["measure"].pop(key, None)
        return {k: v for k, v in full.items() if k not in _ELSEWHERE}


_ELSEWHERE = (
    *("results", "pretraining", "start_from", "record", "device", "rpc", "budget", "minutes", "providers"),
    *("stand_ins", "kernels"),
)
"""Keys about where results are stored, how they are obtained, and what that may cost; and which kernels of a model are
searched, each of which is a run of its own."""
_FILES = ("source", "inputs", "weights")
AS_MANY_AS_FIT = 10_000
"""``samples`` of a run that is only limited by ``minutes``."""
ANSWERS_IN_PLACE = {"uniform": RANDOM, "tvm": RANDOM}
"""``search.proposer`` -> what answers, if not the models."""


def model_specs(
    proposer: str, models: Mapping[str, Mapping[str, Any]], stand_in_providers: Collection[str] = ()
) -> tuple[ModelSpec, ...]:
    """The models of a run in the order of the set, with the provider that actually answers.

    Random answers are not the model's own, so its provider becomes ``random``; a search may have no models at all.

    Args:
        proposer: ``search.proposer``.
        models: name -> configured fields.
        stand_in_providers: providers whose models are replaced by stand-ins.
    """
    if proposer == "none":
        return (NO_MODEL,)
    specs = (ModelSpec(name=name, **{k: v for k, v in given.items() if k in _SPEC}) for name, given in models.items())
    return tuple(_as_answered(spec, proposer, stand_in_providers) for spec in specs)


_SPEC = tuple(f.name for f in fields(ModelSpec) if f.name != "name")


def _as_answered(spec: ModelSpec, proposer: str, stand_in_providers: Collection[str]) -> ModelSpec:
    if proposer not in ANSWERS_IN_PLACE and spec.provider not in stand_in_providers:
        return spec
    provider = ANSWERS_IN_PLACE.get(proposer, EMBEDDED)
    return ModelSpec(spec.name, provider, spec.name, spec.parameters_b, spec.assumed)
