"""The runs that a command line makes, without starting Hydra's app: one composition for all commands."""

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
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError

CONF = Path(__file__).parent.parent.parent / "conf"
_PARSER = get_args_parser()
"""Hydra's own, which it does not export: a second one would disagree with it some day."""


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """The overrides of a command line of Hydra; ``--config-dir`` becomes the override that it stands for."""
    given, _ = _PARSER.parse_known_args(list(arguments))
    return _overrides(given)


def strict_overrides_of(arguments: Sequence[str]) -> list[str]:
    """As `overrides_of`, for a command that has no flags but ``--config-dir`` and ``--multirun``.

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
    """Whether Hydra runs jobs for this command line, rather than show its help, a configuration or its own facts."""
    given, _ = _PARSER.parse_known_args(list(arguments))
    return not any((given.help, given.hydra_help, given.cfg, given.info, given.shell_completion))


def _overrides(given: Namespace) -> list[str]:
    if not given.config_dir:
        return list(given.overrides)
    address = f"file://{Path(given.config_dir).resolve()}"
    quoted = address.replace("\\", "\\\\").replace('"', '\\"')
    return [f'hydra.searchpath=["{quoted}"]', *given.overrides]


def composed(overrides: Sequence[str]) -> Config:
    """The project's configuration with overrides.

    Raises:
        ConfigError: an override names no key or choice, or gives an impossible value.
    """
    with _composer() as composer:
        return composer.config(overrides)


def runs(overrides: Sequence[str]) -> list[Config]:
    """The runs of these overrides and of the sweep of their experiment.

    Seeds come cheap: they change nothing but the name, so one configuration serves all of them. So its seeds follow one
    another, wherever Hydra's sweeper would put them.

    Raises:
        ConfigError: as `composed`.
    """
    with _composer() as composer:
        jobs, seeds = composer.jobs(overrides)
        return [config for chosen in jobs for config in _with_seeds(composer.config(chosen), seeds)]


def possible_runs(overrides: Sequence[str]) -> list[Config]:
    """Those of `runs` that can be; none where the command line itself is wrong."""
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
                continue  # its own job says why
    return found


def with_seed(config: Config, seed: int) -> Config:
    """The same run with another seed, under the default name; a name of the user's own stays."""
    ending = f"-s{config.seed}"
    named = config.run.endswith(ending)
    return replace(config, seed=seed, run=config.run.removesuffix(ending) + f"-s{seed}" if named else config.run)


def _with_seeds(config: Config, seeds: Sequence[int]) -> list[Config]:
    return [with_seed(config, seed) for seed in seeds or [config.seed]]


class _Composer:
    """Composes configurations as Hydra does, each choice of groups once.

    A sweep repeats a few choices of groups with many values. Reading and merging the files of the groups is what takes
    time, and Hydra sets values on the result, last and in order. So that result is kept.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        self._loader = loader
        self._parser = OverridesParser.create(config_loader=loader)  # a parser that knows the choices, for globs
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def config(self, overrides: Sequence[str]) -> Config:
        """The configuration with these overrides, none of which is swept.

        Raises:
            ConfigError: as `composed`.
        """
        raw = self._raw(self._parsed(overrides))
        del raw["hydra"]
        return load(raw)

    def jobs(self, overrides: Sequence[str]) -> tuple[list[list[str]], list[int]]:
        """The overrides of each job of a sweep, without seeds; and the seeds that each is repeated with.

        Raises:
            ConfigError: as `composed`, before any sweep.
        """
        given = self._parsed(overrides)
        params = self._raw([o for o in given if not o.is_sweep_override()]).hydra.sweeper.params or {}
        swept = self._parsed([f"{key}={value}" for key, value in params.items()])
        # As Hydra's sweeper has it: what the command line says of a key replaces what the experiment says.
        choices = {override.get_key_element(): _choices(override) for override in [*swept, *given]}
        seeds = [_seed(choice.partition("=")[2]) for choice in choices.pop("seed", [])]
        return [list(chosen) for chosen in product(*choices.values())], seeds

    def _parsed(self, overrides: Sequence[str]) -> list[Override]:
        with _messages():
            return self._parser.parse_overrides(list(overrides))

    def _raw(self, overrides: Sequence[Override]) -> DictConfig:
        """As Hydra composes it, its own node included; open for changes."""
        # A directory that is searched too may bring groups that this loader does not know.
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
        """Whether the override sets a value of the project, rather than choose a group or configure Hydra."""
        key = override.key_or_group
        group = self._loader.repository.group_exists(key) and not isinstance(override.value(), dict)
        return not (group or override.is_hydra_override() or override.is_sweep_override())


@contextmanager
def _composer() -> Iterator[_Composer]:
    """Inside, the project's configuration can be composed."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        yield _Composer(loader)


@contextmanager
def _messages() -> Iterator[None]:
    """Turns an exception of Hydra's into a ConfigError with its message."""
    try:
        yield
    except HydraException as error:
        problem, _, _ = str(error).partition("\nConfig search path")  # which holds paths of this machine
        raise ConfigError(problem) from error


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"seed={text} is not a whole number") from None


def _choices(override: Override) -> list[str]:
    key = override.get_key_element()
    if override.is_sweep_override():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [str(override.input_line)]
