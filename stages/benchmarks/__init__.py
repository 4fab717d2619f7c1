"""One module per benchmark; each has ``rows(options)``, and stages/benchmark.py lists them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Row = dict[str, object]


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
