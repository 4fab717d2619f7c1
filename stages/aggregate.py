"""Collect finished runs into runs.csv, curves.csv and calls.csv."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.aggregate import aggregate, write_tidy
from stages import run_stage


def collect(runs_dir: Path, out: Path) -> None:
    """Run directories below `runs_dir` -> tidy CSV files in `out`."""
    write_tidy(aggregate(runs_dir), out)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.aggregate --runs results/runs/cpu --out results/data/cpu``."""
    return run_stage(collect, "runs", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
