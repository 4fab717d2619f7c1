"""The runs that a command line describes, composed the same way for all commands, without starting Hydra's app."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig

from colt_pipeline.config.checks import load
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError

CONF = Path(__file__).parent.parent.parent / "conf"
_PARSER = get_args_parser()
"""Hydra's own parser, which it does not export; a copy would eventually disagree with it."""


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """The overrides of a Hydra command line; ``--config-dir`` becomes the equivalent override."""
    given, _ = _PARSER.parse_known_args(list(arguments))
    return _overrides(given)


def strict_overrides_of(arguments: Sequence[str]) -> list[str]:
    """Like `overrides_of`, for a command whose only flags are ``--config-dir`` and ``--multirun``.

    Raises:
        ConfigError: there is another flag.
    """
    given, unknown = _PARSER.parse_known_args(list(arguments))
    usual = vars(_PARSER.parse_args([]))
    others = {name for name, value in vars(given).items() if value != usual[name]} - {
        "overrides",
        "config_dir",
        "multirun",
    }
    if flags := [*unknown, *(f"--{name.replace('_', '-')}" for name in sorted(others))]:
        raise ConfigError(f"unknown flag {flags[0]}; this command takes overrides, --config-dir and --multirun")
    return _overrides(given)


def _overrides(given: Namespace) -> list[str]:
    if not given.config_dir:
        return list(given.overrides)
    address = f"file://{Path(given.config_dir).resolve()}"
    quoted = address.replace("\\", "\\\\").replace('"', '\\"')
    return [f'hydra.searchpath=["{quoted}"]', *given.overrides]


def composed(overrides: Sequence[str]) -> Config:
    """The project's configuration with these overrides.

    Raises:
        ConfigError: an override names an unknown key or choice, or gives an invalid value.
    """
    return load(_composed(overrides))


def first(overrides: Sequence[str]) -> Config:
    """The configuration before any sweep.

    Raises:
        ConfigError: as for `composed`.
    """
    with _loader() as parser:
        given = _parsed(parser, overrides)
    return composed(_single(given))


def runs(overrides: Sequence[str]) -> list[Config]:
    """The runs described by these overrides and by their experiment's sweep.

    A seed changes nothing but the run's name, so one configuration serves all seeds. They therefore follow one another,
    whatever order Hydra's sweeper would use.

    Raises:
        ConfigError: as for `composed`.
    """
    return [config for chosen, seeds in _jobs(overrides) for config in _with_seeds(composed(chosen), seeds)]


def possible_runs(overrides: Sequence[str]) -> list[Config]:
    """The valid runs among `runs`; none if the command line itself is invalid."""
    found: list[Config] = []
    try:
        for chosen, seeds in _jobs(overrides):
            try:
                found += _with_seeds(composed(chosen), seeds)
            except ConfigError:
                continue  # that job reports why
    except ConfigError:
        return []
    return found


def with_seed(config: Config, seed: int) -> Config:
    """The same run with another seed; a default name follows the seed, a user-given name stays."""
    ending = f"-s{config.seed}"
    named = config.run.endswith(ending)
    return replace(config, seed=seed, run=config.run.removesuffix(ending) + f"-s{seed}" if named else config.run)


def _with_seeds(config: Config, seeds: Sequence[int]) -> list[Config]:
    return [with_seed(config, seed) for seed in seeds or [config.seed]]


def _jobs(overrides: Sequence[str]) -> Iterator[tuple[list[str], list[int]]]:
    """The overrides of each job of a sweep, without seeds, and the seeds it is repeated with."""
    with _loader() as parser:
        given = _parsed(parser, overrides)
        params = _composed_here(_single(given), return_hydra_config=True).hydra.sweeper.params or {}
        swept = _parsed(parser, [f"{key}={value}" for key, value in params.items()])
        # As in Hydra's sweeper, the command line's choices for a key replace the experiment's.
        choices = {override.get_key_element(): _choices(override) for override in [*swept, *given]}
    seeds = [_seed(choice.partition("=")[2]) for choice in choices.pop("seed", [])]
    for chosen in product(*choices.values()):
        yield list(chosen), seeds


@contextmanager
def _loader() -> Iterator[OverridesParser]:
    """Set up Hydra to compose the project's configuration; yields a parser that knows its choices, for globs."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())


def _parsed(parser: OverridesParser, overrides: Sequence[str]) -> list[Override]:
    try:
        return parser.parse_overrides(list(overrides))
    except HydraException as error:
        raise ConfigError(str(error)) from error


def _single(given: Sequence[Override]) -> list[str]:
    return [str(override.input_line) for override in given if not override.is_sweep_override()]


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"seed={text} is not an integer") from None


def _choices(override: Override) -> list[str]:
    key = override.get_key_element()
    if override.is_sweep_override():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [str(override.input_line)]


def _composed(overrides: Sequence[str]) -> DictConfig:
    with _loader():
        return _composed_here(overrides)


def _composed_here(overrides: Sequence[str], **options: bool) -> DictConfig:
    try:
        return compose("config", list(overrides), **options)
    except HydraException as error:
        problem, _, _ = str(error).partition("\nConfig search path")  # which would show local paths
        raise ConfigError(problem) from error
