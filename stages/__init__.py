"""The steps of the pipelines: each loads its input and makes one call."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

from colt_pipeline.app import with_message


def command(stage: Callable[..., None]) -> Callable[..., int]:
    """The command line of `stage`: a path per parameter, optional if it has a default; a flag if that is False.

    Returns:
        A function of the arguments (None = this process's) that returns the exit status: 0, or 1 with a message on
        stderr if the input is unusable.
    """

    @with_message
    def main(argv: Sequence[str] | None = None) -> int:
        parser = argparse.ArgumentParser(description=inspect.getdoc(stage), allow_abbrev=False)
        for name, parameter in inspect.signature(stage).parameters.items():
            if parameter.default is False:
                parser.add_argument(f"--{name.replace('_', '-')}", action="store_true")
                continue
            required = parameter.default is parameter.empty
            default = None if required else parameter.default
            parser.add_argument(f"--{name}", type=Path, required=required, default=default)
        stage(**vars(parser.parse_args(argv)))
        return 0

    return main
