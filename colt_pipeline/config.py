"""The schema of the configuration. Values and their explanations stand once, in ``conf/``.

Schema classes carry no defaults, so a key that is missing, unknown or of the wrong type is an error with its full name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from colt_pipeline.errors import ConfigError
from colt_pipeline.records import ModelSpec


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
    arch: str
    """CUDA architecture, such as sm_90; "" = as detected, or that of `gpu` where there is no device."""
    gpu: GpuConfig | None
    """The GPU that is assumed where none is at hand; None for a CPU."""


@dataclass
class ModelConfig:
    """conf/models: one LLM."""

    provider: str
    api_model: str
    parameters_b: float
    assumed: bool


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
    lambda_: float
    c: float
    branching: int
    rollout_length: int
    course_alteration: bool
    warmup_samples: int
    batch_size: int
    initial_programs: int
    apply_attempts: int
    max_failures: int
    evolution: EvolutionConfig | None


@dataclass
class LLMConfig:
    """conf/llm: sampling parameters, part of every recording key."""

    temperature: float
    max_tokens: int


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
    measure: MeasureConfig
    device: str
    rpc: RpcConfig
    record: RecordConfig
    model_set: str
    largest: str
    model_sets: dict[str, list[str]]
    models: dict[str, ModelConfig]
    samples: int
    seed: int
    results: str

    @property
    def model_specs(self) -> tuple[ModelSpec, ...]:
        """The models of the chosen set, in its order."""
        return tuple(
            ModelSpec(name=name, **{k: v for k, v in vars(self.models[name]).items()})
            for name in self.model_sets[self.model_set]
        )

    def identity(self) -> dict[str, Any]:
        """What makes this run this run: without where it is stored, who records it, and unused models and sets."""
        full: dict[str, Any] = OmegaConf.to_container(OmegaConf.structured(self))  # type: ignore[assignment]
        chosen = full["model_sets"][self.model_set]
        full["model_sets"] = {self.model_set: chosen}
        full["models"] = {name: full["models"][name] for name in chosen}
        return {k: v for k, v in full.items() if k not in ("results", "record", "device", "rpc")}


NO_LLM = "none"
STRATEGIES = ("mcts", "evolutionary")
TARGET_KINDS = ("llvm", "cuda")
RECORD_MODES = ("replay", "missing", "all")


def load(raw: DictConfig) -> Config:
    """The typed configuration.

    Raises:
        ConfigError: unknown key, wrong type, missing value or impossible value; the message names key, value, choices.
    """
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), raw))
    except OmegaConfBaseException as error:
        message = str(error).splitlines()[0]
        raise ConfigError(f"configuration key {error.full_key or '?'}: {message}") from error
    assert isinstance(config, Config)
    _choice("model_set", config.model_set, list(config.model_sets))
    _choice("search.strategy", config.search.strategy, list(STRATEGIES))
    _choice("record.mode", config.record.mode, list(RECORD_MODES))
    _choice("target.kind", config.target.kind, list(TARGET_KINDS))
    for key, value in vars(config.target.gpu).items() if config.target.gpu else ():
        if not isinstance(value, str) and not 0 < value < math.inf:
            raise ConfigError(f"target.gpu.{key}={value} must be positive")
    if not 0 < config.rpc.port < 1 << 16:
        raise ConfigError(f"rpc.port={config.rpc.port} is no port")
    _model_set(config)
    if config.search.strategy == "evolutionary":
        _evolution(config.search.evolution)
        # It asks no LLM, so all model sets are one run.
        config.model_set, config.largest, config.model_sets = NO_LLM, NO_LLM, {NO_LLM: []}
    _at_least(1, samples=config.samples)
    _at_least(0, seed=config.seed)
    search, measure = config.search, config.measure
    _at_least(
        1,
        **{
            "search.branching": search.branching,
            "search.batch_size": search.batch_size,
            "search.initial_programs": search.initial_programs,
            "search.apply_attempts": search.apply_attempts,
            "search.max_failures": search.max_failures,
            "search.warmup_samples": search.warmup_samples,
            "measure.min_repeats": measure.min_repeats,
            "measure.memory_mib": measure.memory_mib,
        },
    )
    _at_least(
        0,
        **{
            "search.rollout_length": search.rollout_length,
            "search.c": search.c,
            "target.cores": config.target.cores,
            "measure.max_spread": measure.max_spread,
            "measure.min_repeat_secs": measure.min_repeat_secs,
            "measure.budget_secs": measure.budget_secs,
            "measure.cache_flush_mib": measure.cache_flush_mib,
            "measure.builders": measure.builders,
            "rpc.timeout_secs": config.rpc.timeout_secs,
        },
    )
    if measure.slower:
        _at_least(1, **{"measure.slower": measure.slower})
    _at_least(measure.min_repeats, **{"measure.max_repeats": measure.max_repeats})
    for key in ("build_timeout_secs", "run_timeout_secs"):
        if not 0 < getattr(measure, key) < math.inf:
            raise ConfigError(f"measure.{key}={getattr(measure, key)} must be positive")
    if not 0 <= search.lambda_ <= 1:
        raise ConfigError(f"search.lambda_={search.lambda_} must lie between 0 and 1")
    for name, model in config.models.items():
        if model.parameters_b <= 0:
            raise ConfigError(f"models.{name}.parameters_b={model.parameters_b} must be positive (billions)")
    for part in (config.experiment, config.run):
        if not part or part.startswith((".", "/")) or ".." in part:
            raise ConfigError(f"experiment and run name directories below results/; {part!r} is no such name")
    return config


def _model_set(config: Config) -> None:
    """The chosen set: known models, each once; `largest` has the most parameters if it is among them."""
    names, key = config.model_sets[config.model_set], f"model_sets.{config.model_set}"
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"{key}={names} must name at least one model, and none twice (largest={config.largest})")
    for name in names:
        _choice(f"model in {key}", name, list(config.models))
    most = max(config.models[name].parameters_b for name in names)
    if config.largest in names and config.models[config.largest].parameters_b < most:
        raise ConfigError(f"largest={config.largest} is not the largest model of {key}={names}")


def _evolution(evolution: EvolutionConfig | None) -> None:
    if evolution is None:
        raise ConfigError("search.strategy=evolutionary needs search.evolution; start from search=evolutionary")
    for key, value in vars(evolution).items():
        _at_least(0 if isinstance(value, float) else 1, **{f"search.evolution.{key}": value})
        if isinstance(value, float) and value > 1:
            raise ConfigError(f"search.evolution.{key}={value} is a share, so at most 1")


def _choice(key: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{key}={value} is unknown; choose one of: {', '.join(choices)}")


def _at_least(minimum: int, **values: float) -> None:
    for key, value in values.items():
        if not minimum <= value < math.inf:
            raise ConfigError(f"{key}={value} must be at least {minimum}")
