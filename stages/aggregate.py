"""Collect finished runs and the noise of their devices into five tidy CSV files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.tidy import aggregate, write_tidy
from stages import run_stage


def collect(runs_dir: Path, out: Path, recordings: Path | None = None, models: Path | None = None) -> None:
    """Run directories below `runs_dir`, noise and times in `recordings`, prices in `models` -> CSV files in `out`."""
    write_tidy(aggregate(runs_dir, recordings, models), out)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.aggregate --runs results/runs/cpu --recordings results/recordings --out results/data/cpu``."""
    also = {
        "recordings": "directory of recordings, for noise and times; without it no difference is called an improvement",
        "models": "directory of a file per model with its price (conf/models); without it no cost is estimated",
    }
    return run_stage(collect, "runs", __doc__, argv, also)


if __name__ == "__main__":
    sys.exit(main())
