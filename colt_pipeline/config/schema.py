"""The schema of the configuration. Values and their explanations stand once, in ``conf/``.

Schema classes carry no defaults, so a key that is missing, unknown or of the wrong type is an error with its full name
(checks.py). A key that is added when recordings exist says what held before it: `records.added`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from colt_pipeline.records import EMBEDDED, NO_MODEL, RANDOM, ModelSpec, written


@dataclass
class WorkloadConfig:
    """conf/workload: which kernel at which sizes."""

    name: str
    shape: dict[str, int]


@dataclass
class GpuConfig:
    """A GPU by its data sheet: what an estimate computes with. Rates are peaks."""

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
    """Threads of a kernel; 0 = all usable cores."""
    mcpu: str
    """LLVM CPU name; "" = as detected."""
    l2_kib: int
    """L2 cache per core that prompts state; 0 for a GPU."""
    arch: str
    """CUDA architecture, such as sm_90; "" = as detected, or that of `gpu` where there is no device."""
    gpu: GpuConfig | None
    """The GPU that is assumed where none is at hand; None for a CPU."""


@dataclass
class PricesConfig:
    """What a model costs, USD per million tokens."""

    input: float
    output: float
    date: str
    """When that was so."""
    source: str


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


@dataclass
class ProviderConfig:
    """conf/providers: one server that speaks the OpenAI API."""

    base_url: str
    key_env: str
    """Environment variable that holds the key; "" = none is needed."""
    output_limit: str
    """What the request calls the largest number of tokens of an answer."""
    timeout_secs: float
    attempts: int
    """How often a call is tried in all."""


@dataclass
class EvolutionConfig:
    """conf/search/evolutionary.yaml: names follow TVM's EvolutionarySearch."""

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
class SearchConfig:
    """conf/search: names follow the paper's formulas."""

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

    @property
    def grows_tree(self) -> bool:
        """Whether this is the tree search; else it is TVM's evolutionary search, which needs `evolution`."""
        return self.strategy == "mcts"

    @property
    def asks_models(self) -> bool:
        """Whether LLMs, or random answers in their place, take part."""
        return self.grows_tree and self.proposer != "none"

    @property
    def pool(self) -> int:
        """``candidates``: programs that wait in the tree before a batch is chosen; 0 = all are measured in order."""
        return self.candidates


@dataclass
class LLMConfig:
    """conf/llm: sampling parameters, part of every recording key; None: not sent."""

    temperature: float
    max_tokens: int
    top_p: float | None
    seed: int | None

    @property
    def sampling(self) -> dict[str, float]:
        """What is set, by the names of the OpenAI API."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass
class PromptConfig:
    """conf/prompt: how a prompt is written."""

    code: str
    order: str


@dataclass
class LimitsConfig:
    """What may be spent; None: without limit."""

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
    """`search.warmup_samples` of experiments with search=paper."""


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


@dataclass
class RpcConfig:
    """conf/rpc: a TVM RPC tracker; `key` "" means none."""

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
    seed: int
    results: str
    pretraining: str

    @property
    def model_specs(self) -> tuple[ModelSpec, ...]:
        """See `model_specs`."""
        models = {name: vars(self.models[name]) for name in self.model_sets[self.model_set]}
        keyed = {name for name, provider in self.providers.items() if provider.key_env}
        return model_specs(self.search.proposer, models, keyed if self.stand_ins else ())

    def identity(self) -> dict[str, Any]:
        """What makes this run this run: without where it is stored, who records it, and unused models and sets."""
        full = written(self)
        chosen = full["model_sets"][self.model_set]
        full["model_sets"] = {self.model_set: chosen}
        full["models"] = {spec.name: written(spec) for spec in self.model_specs if spec != NO_MODEL}
        return {k: v for k, v in full.items() if k not in _ELSEWHERE}


_ELSEWHERE = ("results", "pretraining", "record", "device", "rpc", "budget", "providers", "stand_ins")
"""Keys that say where things lie, who records them, and what that may cost."""


def model_specs(
    proposer: str, models: Mapping[str, Mapping[str, Any]], stand_in_providers: Collection[str] = ()
) -> tuple[ModelSpec, ...]:
    """The models of a run in the order of the set (name -> fields), as who answers makes them.

    Stand-ins play the models of `stand_in_providers`. Random answers are not the model's, so its provider is
    ``random``; a search may have no models at all.
    """
    if proposer == "none":
        return (NO_MODEL,)
    specs = (ModelSpec(name=name, **{k: v for k, v in given.items() if k in _SPEC}) for name, given in models.items())
    return tuple(_as_answered(spec, proposer, stand_in_providers) for spec in specs)


_SPEC = tuple(f.name for f in fields(ModelSpec) if f.name != "name")


def _as_answered(spec: ModelSpec, proposer: str, stand_in_providers: Collection[str]) -> ModelSpec:
    if proposer == "llm" and spec.provider not in stand_in_providers:
        return spec
    provider = EMBEDDED if proposer == "llm" else RANDOM
    return ModelSpec(spec.name, provider, spec.name, spec.parameters_b, spec.assumed)
