"""One module per benchmark; each has ``rows(options)``, and stages/benchmark.py lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra import compose, initialize_config_dir

from colt_pipeline.config import Config, load

Row = dict[str, object]

CONF = Path(__file__).parent.parent.parent / "conf"


@dataclass(frozen=True)
class Options:
    """What the command line of stages/benchmark.py chose."""

    results: Path
    """Where recordings are."""
    experiment: str
    workloads: tuple[str, ...]
    model_set: str
    candidates: int
    runs: Path
    """Where finished runs are, at any depth."""
    rounds: int
    """How often things that are measured side by side take their turn."""


def composed(overrides: Sequence[str]) -> Config:
    """The project's configuration with overrides."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return load(compose("config", overrides=list(overrides)))
