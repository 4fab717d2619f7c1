"""Entry points of the DVC stages: each loads, makes one call and writes."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

from colt_pipeline.app import with_message


@with_message
def run_stage(stage: Callable[..., None], argv: Sequence[str] | None) -> int:
    """Call `stage` with the paths of the command line: one flag per parameter, optional where it has a default.

    Args:
        stage: What to do; its docstring is shown by ``--help``.
        argv: Command line without the program; None: this process's.

    Returns:
        The exit status: 1, with the message on stderr, when the input is not usable.
    """
    parser = argparse.ArgumentParser(description=inspect.getdoc(stage), allow_abbrev=False)
    for name, parameter in inspect.signature(stage).parameters.items():
        required = parameter.default is parameter.empty
        parser.add_argument(f"--{name}", type=Path, required=required, default=None if required else parameter.default)
    stage(**vars(parser.parse_args(argv)))
    return 0
