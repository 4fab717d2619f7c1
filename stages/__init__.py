"""The steps of the pipelines: each loads and makes one call."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

from colt_pipeline.app import with_message


def command(stage: Callable[..., None]) -> Callable[..., int]:
    """The command line of `stage`: a path for each of its parameters, optional where it has a default.

    Returns:
        A function of the command line without the program (None: this process's) that returns the exit status: 1, with
        the message on stderr, when the input is not usable.
    """

    @with_message
    def main(argv: Sequence[str] | None = None) -> int:
        parser = argparse.ArgumentParser(description=inspect.getdoc(stage), allow_abbrev=False)
        for name, parameter in inspect.signature(stage).parameters.items():
            required = parameter.default is parameter.empty
            default = None if required else parameter.default
            parser.add_argument(f"--{name}", type=Path, required=required, default=default)
        stage(**vars(parser.parse_args(argv)))
        return 0

    return main
