"""The configurations that a command line makes, without starting Hydra's app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from colt_pipeline.config.checks import load
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError

CONF = Path(__file__).parent.parent.parent / "conf"


def composed(overrides: Sequence[str]) -> Config:
    """The project's configuration with overrides.

    Raises:
        ConfigError: an override names no key or choice, or gives an impossible value.
    """
    return load(_composed(overrides))


def first(overrides: Sequence[str]) -> Config:
    """The configuration before any sweep.

    Raises:
        ConfigError: as `composed`.
    """
    return composed(_single(_parsed(overrides)))


def runs(overrides: Sequence[str]) -> list[Config]:
    """The runs that ``python -m colt_pipeline.tune`` makes of these overrides and of the sweep of their experiment.

    Seeds come cheap: they change nothing but the name, so one configuration serves all of them.

    Raises:
        ConfigError: as `composed`.
    """
    given = _parsed(overrides)
    params = _composed(_single(given), hydra=True).hydra.sweeper.params or {}
    swept = _parsed([f"{key}={value}" for key, value in params.items()])
    # As Hydra's sweeper has it: what the command line says of a key replaces what the experiment says.
    choices = {override.get_key_element(): _choices(override) for override in [*swept, *given]}
    seeds = [int(choice.partition("=")[2]) for choice in choices.pop("seed", [])]
    configs = [composed(chosen) for chosen in product(*choices.values())]
    return [with_seed(config, seed) for config in configs for seed in seeds or [config.seed]]


def with_seed(config: Config, seed: int) -> Config:
    """The same run with another seed, under the default name; a name of the user's own stays."""
    ending = f"-s{config.seed}"
    named = config.run.endswith(ending)
    return replace(config, seed=seed, run=config.run.removesuffix(ending) + f"-s{seed}" if named else config.run)


def _parsed(overrides: Sequence[str]) -> list[Override]:
    try:
        return OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(str(error)) from error


def _single(given: Sequence[Override]) -> list[str]:
    return [str(override.input_line) for override in given if not override.is_sweep_override()]


def _choices(override: Override) -> list[str]:
    key = override.get_key_element()
    if override.is_sweep_override():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [str(override.input_line)]


def _composed(overrides: Sequence[str], hydra: bool = False) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            return compose("config", list(overrides), return_hydra_config=hydra)
        except HydraException as error:
            problem, _, _ = str(error).partition("\nConfig search path")  # which holds paths of this machine
            raise ConfigError(problem) from error
