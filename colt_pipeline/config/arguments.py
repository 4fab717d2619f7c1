"""A command line as Hydra understands it."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.utils import get_args_parser

from colt_pipeline.errors import ConfigError

_PARSER = get_args_parser()
"""Hydra's own parser, which it does not export; a copy would eventually disagree with it."""
_PRIMARY = "config"
_OPEN = ("workload.bind.", "workload.constant=", "workload.weights=")
"""Keys that no file of the configuration lists."""
_OF_SWEEPS = {"overrides", "config_dir", "multirun"}
_COMMANDS = ("run", "multirun", "cfg", "info", "shell_completion")


@dataclass(frozen=True)
class CommandLine:
    """What a command line asks for."""

    overrides: tuple[str, ...]
    config_dir: Path | None = None
    """An additional directory of configuration groups."""
    config_name: str = _PRIMARY
    multirun: bool = False
    """Whether ``--multirun`` is given; `overrides` may say the same."""
    starts_jobs: bool = True
    """Whether Hydra runs jobs rather than printing help, a configuration or information."""
    elsewhere: str = ""
    """The flag, if there is one, that takes the configuration from somewhere else than this project's files."""


def with_open_keys(arguments: Sequence[str]) -> list[str]:
    """The same arguments, with Hydra's prefix for new keys before the sizes of a user's own kernel."""
    return [f"++{argument}" if argument.startswith(_OPEN) else argument for argument in arguments]


def with_override(arguments: Sequence[str], override: str) -> list[str]:
    """The same arguments and one more override, which replaces earlier ones of its key.

    It stands next to the others: Hydra takes overrides before or after its flags, but not both.
    """
    overrides = _PARSER.parse_known_args(list(arguments))[0].overrides
    end = len(arguments) - list(reversed(arguments)).index(overrides[-1]) if overrides else len(arguments)
    return [*arguments[:end], override, *arguments[end:]]


def command_line(arguments: Sequence[str]) -> CommandLine:
    """The command line of one of Hydra's apps; Hydra itself reports unknown flags.

    Raises:
        ConfigError: flags contradict each other, or name what does not exist.
    """
    given, _ = _PARSER.parse_known_args(list(arguments))
    asked = [name for name in _COMMANDS if getattr(given, name)]
    if len(asked) > 1:
        raise ConfigError("give only one of " + " and ".join(f"--{name.replace('_', '-')}" for name in asked))
    if given.resolve and not (given.cfg or given.help):
        raise ConfigError("--resolve says how a configuration is printed; give --cfg job, too")
    elsewhere = "--config-path" if given.config_path else "--experimental-rerun" if given.experimental_rerun else ""
    prints = any((given.help, given.hydra_help, given.cfg, given.info, given.shell_completion))
    name = _PRIMARY if given.config_name is None else given.config_name
    return CommandLine(tuple(given.overrides), _config_dir(given), name, given.multirun, not prints, elsewhere)


def sweep_command_line(argv: Sequence[str] | None, usage: str) -> CommandLine | None:
    """Like `command_line`, for a command whose only flags are ``--config-dir`` and ``--multirun``.

    Args:
        argv: the arguments; None = the process's own.
        usage: what to print if the arguments ask for help; the answer is then None.

    Raises:
        ConfigError: there is another flag, or the directory does not exist.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    if {"-h", "--help"} & set(arguments):
        print(usage)
        return None
    given, unknown = _PARSER.parse_known_args(arguments)
    defaults = vars(_PARSER.parse_args([]))
    set_ = {name for name, value in vars(given).items() if value != defaults[name]}
    if flags := [*unknown, *(f"--{name.replace('_', '-')}" for name in sorted(set_ - _OF_SWEEPS))]:
        raise ConfigError(f"unknown flag {flags[0]}; this command takes overrides, --config-dir and --multirun")
    return CommandLine(tuple(given.overrides), _config_dir(given), multirun=True)


def _config_dir(given: Namespace) -> Path | None:
    if given.config_dir is None:
        return None
    path = Path(given.config_dir).absolute()
    if not given.config_dir or not path.is_dir():
        raise ConfigError(f"--config-dir={given.config_dir} is not a directory")
    return path
