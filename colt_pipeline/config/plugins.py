"""A user's own modules, which register what they add to the search: see `colt_pipeline.registry`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.errors import ConfigError


def import_plugins(names: Sequence[str], called_from: Path) -> None:
    """Import modules by name, also from the directory `called_from`; those that are imported stay as they are.

    Raises:
        ConfigError: one does not exist, or fails.
    """
    if names and str(called_from.absolute()) not in sys.path:
        sys.path.append(str(called_from.absolute()))  # last, so that it hides no package
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a user's code may raise anything
            raise ConfigError(f"plugins: {name} cannot be imported: {type(error).__name__}: {error}") from error
