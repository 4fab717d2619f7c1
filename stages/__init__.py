"""Entry points of the DVC stages; each reads, makes one call and writes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from colt_pipeline.app import with_message


@with_message
def run_stage(
    stage: Callable[..., None],
    source: str,
    description: str | None,
    argv: Sequence[str] | None,
    also: Mapping[str, str] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> int:
    """Call ``stage(source directory, where to write, **also, **choices)`` with the values from the command line.

    Args:
        stage: What to do.
        source: Name of the flag for the directory to read, without dashes.
        description: Shown by ``--help``.
        argv: Command line without the program; None: this process's.
        also: Names of flags for further directories to read, with their help texts; one that is not given is None.
        choices: Names of flags with their possible values, the default first.

    Returns:
        The exit status: 1, with the message on stderr, when the input is not usable.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(f"--{source}", dest="source", type=Path, required=True, help="directory to read")
    parser.add_argument("--out", type=Path, required=True, help="where to write")
    for name, text in (also or {}).items():
        parser.add_argument(f"--{name}", type=Path, help=text)
    for name, values in (choices or {}).items():
        parser.add_argument(f"--{name}", choices=values, default=values[0])
    arguments = parser.parse_args(argv)
    stage(arguments.source, arguments.out, **{n: getattr(arguments, n) for n in (*(also or {}), *(choices or {}))})
    return 0
