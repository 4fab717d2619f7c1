"""Collect finished runs and the noise of their devices into five tidy CSV files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.tidy import aggregate, write_tidy
from stages import run_stage


def collect(runs: Path, out: Path, recordings: Path | None = None) -> None:
    """Run directories below RUNS -> CSV files in OUT; without RECORDINGS no difference is called an improvement."""
    write_tidy(aggregate(runs, recordings), out)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.aggregate --runs results/runs/cpu --recordings results/recordings --out results/data/cpu``."""
    return run_stage(collect, argv)


if __name__ == "__main__":
    sys.exit(main())
