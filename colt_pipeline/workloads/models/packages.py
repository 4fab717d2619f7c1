"""Packages that only some models need."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from colt_pipeline.errors import ConfigError


def required(package: str, extra: str, where: str) -> Any:
    """The package.

    Raises:
        ConfigError: it is not installed; the message names the extra that installs it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        name = package.partition(".")[0]
        raise ConfigError(
            f"{where} needs the package {name}: pip install 'colt-pipeline[{extra}]' ({error})"
        ) from error
