"""The runs that a command line describes, composed the same way for all commands, without starting Hydra's app."""

from __future__ import annotations

import copy
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from colt_pipeline.config.arguments import CommandLine, with_open_keys
from colt_pipeline.config.checks import load
from colt_pipeline.config.schema import AS_MANY_AS_FIT, Config
from colt_pipeline.errors import ConfigError, RunDirError, UnforeseenError

CONF = Path(__file__).parent.parent / "conf"
"""The folder ``conf``: in the repository a link to the one beside the package, so that a wheel contains it."""
_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
_SAMPLES = 48
OmegaConf.register_new_resolver(
    "samples_within", lambda minutes: _SAMPLES if minutes is None else AS_MANY_AS_FIT, replace=True
)
OmegaConf.register_new_resolver("ahead", lambda prepack: "-packed" if prepack else "", replace=True)


def composed(overrides: Sequence[str], config_dir: Path | None = None) -> Config:
    """The project's configuration with these overrides, and with the groups of an additional directory.

    Raises:
        ConfigError: an override names an unknown key or choice, or gives an invalid value.
    """
    with _composer(config_dir) as composer:
        return composer.config(overrides)


def runs(overrides: Sequence[str], config_dir: Path | None = None) -> list[Config]:
    """The runs described by these overrides and by their experiment's sweep.

    A seed changes nothing but the run's name, so one configuration serves all seeds. They therefore follow one another,
    whatever order Hydra's sweeper would use.

    Raises:
        ConfigError: as for `composed`.
    """
    with _composer(config_dir) as composer:
        jobs, seeds = composer.sweep(overrides)
        return [config for chosen in jobs for config in _with_seeds(composer.config(chosen), seeds)]


def possible_runs(line: CommandLine) -> list[Config]:
    """The valid runs that Hydra starts for a command line; an invalid one reports why when Hydra starts it.

    Raises:
        ConfigError: Hydra would refuse the command line.
        RunDirError: Hydra cannot write its logs.
        UnforeseenError: only Hydra knows the runs.
    """
    if line.elsewhere:
        raise UnforeseenError(f"{line.elsewhere} replaces the project's configuration")
    found: list[Config] = []
    with _composer(line.config_dir, line.config_name) as composer:
        jobs, seeds = composer.jobs(line)
        for chosen in jobs:
            try:
                found += _with_seeds(composer.config(chosen), seeds)
            except ConfigError:
                continue  # that job reports why
    return found


def check_overrides(line: CommandLine) -> None:
    """Check the form of a command line's overrides.

    Raises:
        ConfigError: Hydra would fail to understand one.
    """
    with _composer(line.config_dir, line.config_name) as composer:
        composer.parsed(line.overrides)


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

    def __init__(self, loader: ConfigLoaderImpl, name: str) -> None:
        self._loader = loader
        self._name = name
        self._parser = OverridesParser.create(config_loader=loader)  # a parser that knows the choices, for globs
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def config(self, overrides: Sequence[str]) -> Config:
        """The configuration with these overrides, none of which is swept.

        Raises:
            ConfigError: as for `composed`.
        """
        raw = self._raw(self.parsed(overrides))
        moves = bool(raw.hydra.job.chdir)
        del raw["hydra"]
        return load(raw, Path.cwd(), moves)

    def jobs(self, line: CommandLine) -> tuple[list[list[str]], list[int]]:
        """Like `sweep`, for what Hydra does with a command line: it may start only one job.

        Raises:
            ConfigError: as for `sweep`, or several values are given to a single job.
            RunDirError: Hydra cannot write its logs.
            UnforeseenError: a sweeper other than Hydra's own chooses the jobs.
        """
        given = self.parsed(line.overrides)
        swept = [override for override in given if override.is_sweep_override()]
        hydra = self._raw([override for override in given if override not in swept]).hydra
        sweeps = line.multirun or hydra.mode == RunMode.MULTIRUN
        _check_logs(hydra, "sweep" if sweeps else "run")
        if sweeps:
            if hydra.sweeper._target_ != _SWEEPER:
                raise UnforeseenError(f"{hydra.sweeper._target_} chooses the runs while they are running")
            return self.sweep(line.overrides)
        if swept:
            raise ConfigError(
                f"{swept[0].input_line} is several values: start a run for each with -m, or give one value that is a "
                "list as KEY=[A,B]"
            )
        return [list(line.overrides)], []

    def sweep(self, overrides: Sequence[str]) -> tuple[list[list[str]], list[int]]:
        """The overrides of each job of a sweep, without seeds, and the seeds that each is repeated with.

        Raises:
            ConfigError: as for `composed`, before any sweep.
        """
        given = self.parsed(overrides)
        params = self._raw([o for o in given if not o.is_sweep_override()]).hydra.sweeper.params or {}
        swept = self.parsed([f"{key}={value}" for key, value in params.items()])
        # As in Hydra's sweeper, the command line's choices for a key replace the experiment's.
        choices = {override.get_key_element(): _choices(override) for override in [*swept, *given]}
        seeds = [_seed(choice.partition("=")[2]) for choice in choices.pop("seed", [])]
        return [list(chosen) for chosen in product(*choices.values())], seeds

    def parsed(self, overrides: Sequence[str]) -> list[Override]:
        """The overrides as Hydra understands them.

        Raises:
            ConfigError: one is not of the form KEY=VALUE, or gives a group something else than names of its files.
        """
        with _messages():
            parsed = self._parser.parse_overrides(with_open_keys(overrides))
        for override in parsed:
            if not override.key_or_group:
                raise ConfigError(f"{override.input_line} lacks the key before =")
            sets = not (override.is_sweep_override() or override.is_delete())
            if sets and self._is_group(override) and not isinstance(override.value(), str | list):
                raise ConfigError(f"{override.input_line}: {override.key_or_group} takes the name of a file in conf")
        return parsed

    def _raw(self, overrides: Sequence[Override]) -> DictConfig:
        """The configuration as composed by Hydra, including its own node, and open for changes."""
        # An additional search path may contain groups that this loader does not know.
        apart = not any(override.get_key_element() == "hydra.searchpath" for override in overrides)
        values = [override for override in overrides if apart and self._is_value(override)]
        others = tuple(str(override.input_line) for override in overrides if override not in values)
        with _messages():
            if others not in self._composed:
                self._composed[others] = self._loader.load_configuration(self._name, list(others), RunMode.RUN)
            raw = copy.deepcopy(self._composed[others])
            ConfigLoaderImpl._apply_overrides_to_config(values, raw)
        OmegaConf.set_struct(raw, False)
        return raw

    def _is_value(self, override: Override) -> bool:
        """Whether the override sets a value of the project rather than choosing a group or configuring Hydra."""
        return not (self._is_group(override) or override.is_hydra_override() or override.is_sweep_override())

    def _is_group(self, override: Override) -> bool:
        return self._loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)


@contextmanager
def _composer(config_dir: Path | None = None, name: str = "config") -> Iterator[_Composer]:
    """Set up Hydra to compose the project's configuration, as its apps do.

    Raises:
        ConfigError: the working directory was deleted.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        raise ConfigError("the working directory no longer exists; change to another one") from None
    with initialize_config_dir(str(CONF), version_base="1.3"):
        path = create_config_search_path(str(CONF))
        if config_dir is not None:
            path.prepend("command-line", f"file://{config_dir}", SearchPathQuery(provider="schema"))
        yield _Composer(ConfigLoaderImpl(path), name)


@contextmanager
def _messages() -> Iterator[None]:
    """Turn Hydra's exceptions into a ConfigError with the same message."""
    try:
        yield
    except HydraException as error:
        problem, _, _ = str(error).partition("\nConfig search path")  # which would show local paths
        problem, _, key = problem.partition("\nTo append to your config use +")
        if key:
            problem += f" There is no such setting; --help lists them all. To add a key to a mapping, write +{key}"
        raise ConfigError(problem) from error


def _check_logs(hydra: DictConfig, kind: str) -> None:
    """Create the directory of Hydra's logs, which Hydra could only do with a traceback."""
    key = f"hydra.{kind}.dir"
    try:
        directory = Path(hydra[kind].dir).parent
    except OmegaConfBaseException:
        return  # it depends on the job
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise RunDirError(
            f"cannot write Hydra's logs to {directory}: {error.strerror}; choose another directory with {key}=DIR"
        ) from error


def _seed(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"seed={text} is not an integer") from None


def _choices(override: Override) -> list[str]:
    key = override.get_key_element()
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line} is not a list of values; write KEY=A,B or KEY=range(A,B)")
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    return [str(override.input_line)]
