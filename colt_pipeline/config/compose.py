"""The runs that a command line describes, composed the same way for all commands, without starting Hydra's app."""

from __future__ import annotations

import copy
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from colt_pipeline.config.checks import load
from colt_pipeline.config.places import base
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError

CONF = Path(__file__).parent.parent / "conf"
"""The folder ``conf``: in the repository a link to the one beside the package, so that a wheel contains it."""
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


def starts_jobs(arguments: Sequence[str]) -> bool:
    """Whether Hydra runs jobs for this command line rather than printing help, a configuration or information."""
    given, _ = _PARSER.parse_known_args(list(arguments))
    return not any((given.help, given.hydra_help, given.cfg, given.info, given.shell_completion))


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
    with _composer() as composer:
        return composer.config(overrides)


def runs(overrides: Sequence[str]) -> list[Config]:
    """The runs described by these overrides and by their experiment's sweep.

    A seed changes nothing but the run's name, so one configuration serves all seeds. They therefore follow one another,
    whatever order Hydra's sweeper would use.

    Raises:
        ConfigError: as for `composed`.
    """
    with _composer() as composer:
        jobs, seeds = composer.jobs(overrides)
        return [config for chosen in jobs for config in _with_seeds(composer.config(chosen), seeds)]


def possible_runs(overrides: Sequence[str]) -> list[Config]:
    """The valid runs among `runs`; none if the command line itself is invalid."""
    found: list[Config] = []
    with _composer() as composer:
        try:
            jobs, seeds = composer.jobs(overrides)
        except ConfigError:
            return []
        for chosen in jobs:
            try:
                found += _with_seeds(composer.config(chosen), seeds)
            except ConfigError:
                continue  # that job reports why
    return found


def with_seed(config: Config, seed: int) -> Config:
    """The same run with another seed; a default name follows the seed, a user-given name stays."""
    ending = f"-s{config.seed}"
    named = config.run.endswith(ending)
    return replace(config, seed=seed, run=config.run.removesuffix(ending) + f"-s{seed}" if named else config.run)


def _with_seeds(config: Config, seeds: Sequence[int]) -> list[Config]:
    return [with_seed(config, seed) for seed in seeds or [config.seed]]


class _Composer:
    """Composes configurations like Hydra, but each choice of groups only once.

    A sweep repeats a few choices of groups with many values. Reading and merging the groups' files takes most of the
    time, and Hydra sets values on the result last and in order, so that result is cached.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        self._loader = loader
        self._parser = OverridesParser.create(config_loader=loader)  # a parser that knows the choices, for globs
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def config(self, overrides: Sequence[str]) -> Config:
        """The configuration with these overrides, none of which is swept.

        Raises:
            ConfigError: as for `composed`.
        """
        raw = self._raw(self._parsed(overrides))
        moves = bool(raw.hydra.job.chdir)
        del raw["hydra"]
        return load(raw, base(Path.cwd(), moves))

    def jobs(self, overrides: Sequence[str]) -> tuple[list[list[str]], list[int]]:
        """The overrides of each job of a sweep, without seeds, and the seeds that each is repeated with.

        Raises:
            ConfigError: as for `composed`, before any sweep.
        """
        given = self._parsed(overrides)
        params = self._raw([o for o in given if not o.is_sweep_override()]).hydra.sweeper.params or {}
        swept = self._parsed([f"{key}={value}" for key, value in params.items()])
        # As in Hydra's sweeper, the command line's choices for a key replace the experiment's.
        choices = {override.get_key_element(): _choices(override) for override in [*swept, *given]}
        seeds = [_seed(choice.partition("=")[2]) for choice in choices.pop("seed", [])]
        return [list(chosen) for chosen in product(*choices.values())], seeds

    def _parsed(self, overrides: Sequence[str]) -> list[Override]:
        with _messages():
            return self._parser.parse_overrides(list(overrides))

    def _raw(self, overrides: Sequence[Override]) -> DictConfig:
        """The configuration as composed by Hydra, including its own node, and open for changes."""
        # An additional search path may contain groups that this loader does not know.
        apart = not any(override.get_key_element() == "hydra.searchpath" for override in overrides)
        values = [override for override in overrides if apart and self._is_value(override)]
        others = tuple(str(override.input_line) for override in overrides if override not in values)
        with _messages():
            if others not in self._composed:
                self._composed[others] = compose("config", list(others), return_hydra_config=True)
            raw = copy.deepcopy(self._composed[others])
            ConfigLoaderImpl._apply_overrides_to_config(values, raw)
        OmegaConf.set_struct(raw, False)
        return raw

    def _is_value(self, override: Override) -> bool:
        """Whether the override sets a value of the project rather than choosing a group or configuring Hydra."""
        key = override.key_or_group
        group = self._loader.repository.group_exists(key) and not isinstance(override.value(), dict)
        return not (group or override.is_hydra_override() or override.is_sweep_override())


@contextmanager
def _composer() -> Iterator[_Composer]:
    """Set up Hydra to compose the project's configuration."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        yield _Composer(loader)


@contextmanager
def _messages() -> Iterator[None]:
    """Turn Hydra's exceptions into a ConfigError with the same message."""
    try:
        yield
    except HydraException as error:
        problem, _, _ = str(error).partition("\nConfig search path")  # which would show local paths
        raise ConfigError(problem) from error


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
