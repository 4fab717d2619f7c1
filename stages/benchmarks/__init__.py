"""One module per benchmark; each has ``rows(options)``, and stages/benchmark.py lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from colt_pipeline.checks import load
from colt_pipeline.config import Config
from colt_pipeline.errors import ConfigError

Row = dict[str, object]

CONF = Path(__file__).parent.parent.parent / "conf"


@dataclass(frozen=True)
class Options:
    """What the command line of stages/benchmark.py chose."""

    results: Path
    """Where recordings are, and for `search` go."""
    experiment: str
    workloads: tuple[str, ...]
    model_set: str
    candidates: int
    runs: Path
    """Where finished runs are, at any depth."""
    rounds: int
    """How often things that are measured side by side take their turn."""
    searches: tuple[str, ...] = ()
    """Of `search`: rows of its table, or names of conf/search."""
    seeds: tuple[int, ...] = ()
    """Of `search`."""
    overrides: tuple[str, ...] = ()
    """Of `search`, `growth` and `cost`: for Hydra."""


def composed(overrides: Sequence[str]) -> Config:
    """The project's configuration with overrides.

    Raises:
        ConfigError: an override names no key or choice, or gives an impossible value.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            raw = compose("config", overrides=list(overrides))
        except HydraException as error:
            problem, _, _ = str(error).partition("\nConfig search path")  # which holds paths of this machine
            raise ConfigError(problem) from error
        return load(raw)
