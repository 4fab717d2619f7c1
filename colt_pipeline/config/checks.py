"""Checks of a run's configuration: invalid values are refused with key, value and choices."""

from __future__ import annotations

import math
from operator import attrgetter
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from colt_pipeline.config.schema import Config, EvolutionConfig, ProviderConfig
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import EMBEDDED

NO_LLM = "none"
"""Name of the model set and of the largest model in a search without LLMs."""
TARGET_KINDS = ("llvm", "cuda")
PROMPT_CODES = ("full", "compact")
PROMPT_ORDERS = ("listed", "seeded")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
RECORD_MODES = ("replay", "missing", "all")
SEARCH_CHOICES = {
    "strategy": ("mcts", "evolutionary"),
    "proposer": ("llm", "uniform", "tvm", "none"),
    "router": ("endogenous", "uniform", "round_robin", "cheapest", "ucb"),
    "first_children": ("proposer", "random"),
    "rollout": ("fixed", "exhaustive"),
    "rewards": ("predicted", "measured"),
    "cost_model": ("xgb", "pretrained"),
    "course_alteration": ("path", "streak", "random", "never"),
}
"""Key of conf/search -> its allowed values."""
LEAST = {
    "samples": 1,
    "seed": 0,
    "search.branching": 1,
    "search.batch_size": 1,
    "search.initial_programs": 1,
    "search.apply_attempts": 1,
    "search.max_failures": 1,
    "search.warmup_samples": 1,
    "search.draws_per_proposal": 1,
    "search.rollout_length": 0,
    "search.c": 0,
    "search.candidates": 0,
    "search.widening": 0,
    "target.cores": 0,
    "llm.temperature": 0,
    "llm.max_tokens": 1,
    "measure.min_repeats": 1,
    "measure.memory_mib": 1,
    "measure.max_spread": 0,
    "measure.min_repeat_secs": 0,
    "measure.budget_secs": 0,
    "measure.cache_flush_mib": 0,
    "measure.builders": 0,
    "rpc.timeout_secs": 0,
}
"""Key -> its minimum; none may be infinite."""


def load(raw: DictConfig, base: Path) -> Config:
    """The typed configuration, whose relative paths start at `base`.

    Raises:
        ConfigError: unknown key, wrong type, missing or invalid value; the message names key, value and choices.
    """
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), raw))
    except OmegaConfBaseException as error:
        message = str(error).splitlines()[0]
        raise ConfigError(f"configuration key {error.full_key or '?'}: {message}") from error
    assert isinstance(config, Config)
    _choice("model_set", config.model_set, list(config.model_sets))
    _choice("record.mode", config.record.mode, list(RECORD_MODES))
    _choice("target.kind", config.target.kind, list(TARGET_KINDS))
    _choice("prompt.code", config.prompt.code, list(PROMPT_CODES))
    _choice("prompt.order", config.prompt.order, list(PROMPT_ORDERS))
    for key, choices in SEARCH_CHOICES.items():
        _choice(f"search.{key}", getattr(config.search, key), list(choices))
    for key, value in vars(config.target.gpu).items() if config.target.gpu else ():
        if not isinstance(value, str) and not 0 < value < math.inf:
            raise ConfigError(f"target.gpu.{key}={value} must be positive")
    if not 0 < config.rpc.port < 1 << 16:
        raise ConfigError(f"rpc.port={config.rpc.port} is not a valid port")
    _model_set(config)
    _llm(config)
    if not config.search.grows_tree:
        _evolution(config.search.evolution)
    if not config.search.asks_models:  # so that all model sets give the same run
        config.model_set, config.largest, config.model_sets = NO_LLM, NO_LLM, {NO_LLM: []}
    for key, minimum in LEAST.items():
        _at_least(minimum, key, attrgetter(key)(config))
    search, measure = config.search, config.measure
    if measure.slower:
        _at_least(1, "measure.slower", measure.slower)
    _at_least(measure.min_repeats, "measure.max_repeats", measure.max_repeats)
    for key in ("build_timeout_secs", "run_timeout_secs"):
        if not 0 < getattr(measure, key) < math.inf:
            raise ConfigError(f"measure.{key}={getattr(measure, key)} must be positive")
    for key in ("lambda_", "course_rate"):
        if not 0 <= getattr(search, key) <= 1:
            raise ConfigError(f"search.{key}={getattr(search, key)} must be between 0 and 1")
    for name, model in config.models.items():
        if model.parameters_b <= 0:
            raise ConfigError(f"models.{name}.parameters_b={model.parameters_b} must be positive (billions)")
    for part in (config.experiment, config.run):
        if not part or part.startswith((".", "/")) or ".." in part:
            raise ConfigError(f"experiment and run are directories below results/; {part!r} is not a valid name")
    config.results, config.pretraining = str(base / config.results), str(base / config.pretraining)
    return config


def _model_set(config: Config) -> None:
    """The chosen set holds known models, each once; if it includes `largest`, no other has more parameters."""
    names, key = config.model_sets[config.model_set], f"model_sets.{config.model_set}"
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"{key}={names} must name at least one model, and none twice (largest={config.largest})")
    for name in names:
        _choice(f"model in {key}", name, list(config.models))
    most = max(config.models[name].parameters_b for name in names)
    if config.largest in names and config.models[config.largest].parameters_b < most:
        raise ConfigError(f"largest={config.largest} is not the largest model of {key}={names}")


def _llm(config: Config) -> None:
    """Sampling parameters, limits and providers."""
    if config.llm.top_p is not None and not 0 < config.llm.top_p <= 1:
        raise ConfigError(f"llm.top_p={config.llm.top_p} must be above 0 and at most 1")
    for scope, limits in (("run", config.budget.run), ("sweep", config.budget.sweep)):
        for key, value in vars(limits).items():
            _at_least(0, f"budget.{scope}.{key}", 0 if value is None else value)
    for name in config.model_sets[config.model_set]:
        _choice(f"models.{name}.provider", config.models[name].provider, [EMBEDDED, *config.providers])
    for name, provider in config.providers.items():
        _provider(f"providers.{name}", provider)


def _provider(key: str, provider: ProviderConfig) -> None:
    _at_least(1, f"{key}.attempts", provider.attempts)
    if not 0 < provider.timeout_secs < math.inf:
        raise ConfigError(f"{key}.timeout_secs={provider.timeout_secs} must be positive")
    url = urlsplit(provider.base_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ConfigError(f"{key}.base_url={provider.base_url} is not a valid URL; it must look like https://HOST/v1")
    if url.username or url.password:
        raise ConfigError(f"{key}.base_url contains a user name or password; use {key}.key_env instead")
    if provider.key_env and url.scheme == "http" and url.hostname not in _LOOPBACK:
        raise ConfigError(f"{key}.base_url={provider.base_url} would send the key of {provider.key_env} unencrypted")


def _evolution(evolution: EvolutionConfig | None) -> None:
    if evolution is None:
        raise ConfigError("search.strategy=evolutionary needs search.evolution; start from search=evolutionary")
    for key, value in vars(evolution).items():
        _at_least(0 if isinstance(value, float) else 1, f"search.evolution.{key}", value)
        if isinstance(value, float) and value > 1:
            raise ConfigError(f"search.evolution.{key}={value} is a fraction and must be at most 1")


def _choice(key: str, value: str, choices: list[str]) -> None:
    if value not in choices:
        raise ConfigError(f"{key}={value} is unknown; choose one of: {', '.join(choices)}")


def _at_least(minimum: float, key: str, value: float) -> None:
    if not minimum <= value < math.inf:
        raise ConfigError(f"{key}={value} must be at least {minimum}")
