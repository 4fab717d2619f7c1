"""Checks of a run's configuration: invalid values are refused with key, value and choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from colt_pipeline.config.places import PROJECT, base
from colt_pipeline.config.plugins import import_plugins
from colt_pipeline.config.ranges import check_range, check_ranges
from colt_pipeline.config.schema import EXTENDED_SPACE, LOOPBACK, SAMPLING, TVM_SPACE, Config, ProviderConfig
from colt_pipeline.config.sources import OWN, OWN_MODEL, own_name
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import EMBEDDED, packed_name

NO_LLM = "none"
"""Name of the model set and of the largest model in a search without LLMs."""
TARGET_KINDS = ("llvm", "cuda")
PACKAGE = Path(__file__).parent.parent
PACKAGED = Path("results/pretraining")
"""What the package contains as well, for use outside the project: a directory per design space."""
PROMPT_CODES = ("outline", "full", "compact")
PROMPT_TRACES = ("changes", "full")
PROMPT_ORDERS = ("listed", "seeded")
RECORD_MODES = ("replay", "missing", "all")
KERNEL_RULES = ("roofline", "flop")
_PLUGGABLE = ("proposer", "router", "cost_model")
SEARCH_CHOICES: dict[str, tuple[str, ...]] = {
    "strategy": ("mcts", "evolutionary"),
    "proposer": ("llm", "uniform", "tvm", "none"),
    "router": ("endogenous", "uniform", "round_robin", "cheapest", "ucb"),
    "first_children": ("proposer", "random"),
    "rollout": ("fixed", "exhaustive"),
    "rewards": ("predicted", "measured"),
    "cost_model": ("xgb", "pretrained", "adapted"),
    "course_alteration": ("path", "path_reset", "path_birth", "streak", "random", "never"),
    "sample": ("call", "program"),
}
"""Key of conf/search -> its allowed values; plugins add some."""


def load(raw: DictConfig, called_from: Path, moves: bool = False) -> Config:
    """The typed configuration.

    Args:
        raw: as Hydra composed it.
        called_from: working directory of the command, where the paths of the user's own files start; those of results
            start at `places.base`.
        moves: whether this process changes its working directory (``hydra.job.chdir``).

    Raises:
        ConfigError: unknown key, wrong type, missing or invalid value; the message names key, value and choices.
    """
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), raw)
        _own_kernel(merged.workload, called_from)
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        message = str(error).splitlines()[0]
        raise ConfigError(f"configuration key {error.full_key or '?'}: {message}") from error
    assert isinstance(config, Config)
    _no_passwords(raw)
    check_ranges(config)
    import_plugins(config.plugins, called_from)
    _choice("model_set", config.model_set, list(config.model_sets))
    _choice("kernels", config.kernels, list(KERNEL_RULES))
    _choice("record.mode", config.record.mode, list(RECORD_MODES))
    _choice("target.kind", config.target.kind, list(TARGET_KINDS))
    _choice("prompt.code", config.prompt.code, list(PROMPT_CODES))
    _choice("prompt.order", config.prompt.order, list(PROMPT_ORDERS))
    _choice("prompt.trace", config.prompt.trace, list(PROMPT_TRACES))
    for key, choices in SEARCH_CHOICES.items():
        by_plugin = "" if key not in _PLUGGABLE else "; or name the module that adds it with plugins=[MODULE]"
        _choice(f"search.{key}", getattr(config.search, key), list(choices), by_plugin)
    _model_set(config)
    _llm(config)
    if not config.search.grows_tree and config.search.evolution is None:
        raise ConfigError("search.strategy=evolutionary needs search.evolution; start from search=evolutionary")
    if not config.search.grows_tree and config.search.cost_model == "adapted":
        raise ConfigError(
            "search.cost_model=adapted learns from the decisions of programs in a tree, and TVM's evolutionary search "
            "has no tree; choose pretrained or xgb"
        )
    if not config.search.grows_tree and config.start_from is not None:
        raise ConfigError(
            f"start_from={config.start_from} is for searches that grow a tree, and TVM's evolutionary search draws its "
            "first programs itself; choose another, such as search=colt_plus, or set start_from=null"
        )
    if config.search.drafts is not None and config.search.cost_model != "adapted":
        raise ConfigError(
            f"search.cost_model={config.search.cost_model} cannot tell which drafts of search={config.search.name} are "
            "worth making; leave it at adapted, choose a search without drafts, such as search=colt, or turn them off "
            "with search.drafts=null"
        )
    if config.search.drafts is not None and config.search.candidates == 0:
        raise ConfigError(
            "search.candidates=0 measures programs in order of creation, so that drafts would wait before every call "
            "and no model would be asked again; give at least 1, or turn drafts off with search.drafts=null"
        )
    if config.search.sample == "call" and not config.search.asks_models:
        raise ConfigError(
            f"search.sample=call counts calls, and search={config.search.name} makes none; choose program"
        )
    if config.search.sample == "call" and (config.search.drafts is not None or config.search.widening):
        key = "drafts" if config.search.drafts is not None else f"widening={config.search.widening:g}"
        raise ConfigError(
            f"search.sample=call counts calls, and with search.{key} programs are measured that no call led to; choose "
            "program, or a search without, such as search=paper"
        )
    if not config.search.asks_models:  # so that all model sets give the same run
        config.model_set, config.largest, config.model_sets = NO_LLM, NO_LLM, {NO_LLM: []}
    _space(config, raw)
    if config.target.kind != "llvm" and (config.workload.constant or config.prepack):
        key = f"workload.constant={config.workload.constant}" if config.workload.constant else "prepack=true"
        raise ConfigError(f"{key} packs weights for CPUs; leave it out for target.kind={config.target.kind}")
    measure = config.measure
    if measure.runner:
        raise ConfigError(
            f"measure.runner={measure.runner} cannot be chosen; colt_pipeline.strategy sets it in TVM's own tuning"
        )
    if measure.slower:
        _at_least(1, "measure.slower", measure.slower)
    _at_least(measure.min_repeats, "measure.max_repeats", measure.max_repeats)
    if config.target.kind != "llvm":
        measure.racing = 0.0  # it needs processes that live from run to run
    start = base(called_from, moves)
    config.results, config.pretraining = str(start / config.results), str(start / config.pretraining)
    config.pretraining = _packaged(config.pretraining, config.space.name, start)
    config.start_from = None if config.start_from is None else str(start / config.start_from)
    return config


def _packaged(pretraining: str, space: str, start: Path) -> str:
    """Outside the project, the package's copy of a directory in PACKAGED; else the path itself.

    A design `space` of the user's own, which has no such directory, starts from the experience in the extended one.
    """
    path, packaged = Path(pretraining), (TVM_SPACE.name, EXTENDED_SPACE.name)
    if path.parent != start / PACKAGED or path.is_dir() or path.name not in (*packaged, space):
        return pretraining
    known = path.name if path.name in packaged else EXTENDED_SPACE.name
    return str((path.parent if (start / PROJECT).is_file() else PACKAGE / PACKAGED.name) / known)


def _own_kernel(workload: DictConfig, called_from: Path) -> None:
    """Name a user's own kernel after its file, before the run's name follows from it."""
    if workload.source is None:
        if workload.name in (OWN, OWN_MODEL):
            what = "kernel" if workload.name == OWN else "model"
            raise ConfigError(f"workload={workload.name} needs the file of a {what}: workload.source=FILE")
        if unused := [key for key in ("function", "bind", "inputs", "weights") if workload[key]]:
            raise ConfigError(
                f"workload.{unused[0]} is for a kernel or model of your own: workload=own or workload=own_model, with "
                "workload.source=FILE"
            )
    elif workload.shape:
        raise ConfigError(
            f"workload.source={workload.source} needs workload=own or workload=own_model, because its sizes are in the "
            "file"
        )
    else:
        if workload.weights is not None and not workload.model:
            raise ConfigError(f"workload.weights={workload.weights} is for a whole model: workload=own_model")
        if workload.constant and workload.model:
            raise ConfigError(
                f"workload.constant={workload.constant} is for one kernel; of a whole model, prepack=true packs weights"
            )
        for key in ("source", "inputs", "weights"):
            if workload[key] is not None:
                workload[key] = str(called_from / workload[key])
        workload.name = own_name(workload.source, workload.function, workload.bind, workload.inputs)
    workload.name = packed_name(workload.name, workload.constant)


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
    """Models and their providers."""
    for name in config.model_sets[config.model_set]:
        _choice(f"models.{name}.provider", config.models[name].provider, [EMBEDDED, *config.providers])
        _sampling(f"models.{name}.sampling", config.models[name].sampling, SAMPLING)
    for name, provider in config.providers.items():
        _provider(f"providers.{name}", provider)


def _space(config: Config, raw: DictConfig) -> None:
    """Switches that need each other; vector math is part of the space, and of measurements on CPUs."""
    space, measure = config.space, config.measure
    if not space.register_tiles:
        for name in ("packing", "padding"):
            if getattr(space, name):
                raise ConfigError(
                    f"space.{name}=true is an addition to register tiles; set space.register_tiles=true, too, or "
                    f"space.{name}=false"
                )
    if "vector_math" in raw.measure and measure.vector_math != space.vector_math:
        raise ConfigError(
            f"measure.vector_math={measure.vector_math} differs from space.vector_math={space.vector_math}, which it "
            "follows; set only space.vector_math"
        )
    measure.vector_math = space.vector_math and config.target.kind == "llvm"


def _provider(key: str, provider: ProviderConfig) -> None:
    try:
        url = urlsplit(provider.base_url)
        valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:  # an unclosed bracket, or a port that is not a number
        valid = False
    if not valid or " " in provider.base_url:
        raise ConfigError(f"{key}.base_url={provider.base_url} is not a valid URL; it must look like https://HOST/v1")
    if url.username or url.password:
        raise ConfigError(f"{key}.base_url contains a user name or password; use {key}.key_env instead")
    if provider.key_env and url.scheme == "http" and url.hostname not in LOOPBACK:
        raise ConfigError(f"{key}.base_url={provider.base_url} would send the key of {provider.key_env} unencrypted")
    if provider.proxy is not None:
        _proxy(key, provider, url.scheme)


def _no_passwords(raw: DictConfig) -> None:
    """Refuse a proxy's password that Hydra would log; of an interpolation it does not log the value."""
    for name, provider in raw.providers.items():
        proxy = None if OmegaConf.is_interpolation(provider, "proxy") else provider.get("proxy")
        if "@" in str(proxy):
            raise ConfigError(
                f"providers.{name}.proxy contains a user name or password, which Hydra's logs hold; put it into "
                f"an environment variable and set providers.{name}.proxy='${{oc.env:VARIABLE}}'"
            )


def _proxy(key: str, provider: ProviderConfig, scheme: str) -> None:
    """The address of a proxy may hold a password, so no message shows it."""
    if not _is_proxy(provider.proxy or ""):
        raise ConfigError(f"{key}.proxy is not the address of an HTTP proxy; it must look like http://HOST:PORT")
    if provider.key_env and scheme == "http":
        raise ConfigError(f"{key}.proxy would see the key of {provider.key_env}; use a base_url with https://")


def _is_proxy(address: str) -> bool:
    try:
        url = urlsplit(address)
        return url.scheme == "http" and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:  # of a port or an IPv6 address
        return False


def _sampling(key: str, own: Mapping[str, Any], known: Sequence[str]) -> None:
    """A model's own sampling parameters, in the ranges of the common ones; None = not sent."""
    for name, value in own.items():
        _choice(f"parameter in {key}", str(name), known)
        if value is None and name != "max_tokens":
            continue
        whole = name in ("max_tokens", "seed")
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise ConfigError(f"{key}.{name}={value} must be a {'whole ' if whole else ''}number")
        check_range(f"{key}.{name}", f"llm.{name}", value)


def _choice(key: str, value: str, choices: Sequence[str], otherwise: str = "") -> None:
    if value not in choices:
        raise ConfigError(f"{key}={value} is unknown; choose one of: {', '.join(choices)}{otherwise}")


def _at_least(minimum: float, key: str, value: float) -> None:
    if value < minimum:
        raise ConfigError(f"{key}={value} must be at least {minimum}")
