"""Collect features and latencies of the programs that runs have measured, one file per workload."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline import stack
from stages import run_stage

stack.require()

from colt_pipeline.prediction.experience import collect_experience  # noqa: E402


def collect(runs: Path, out: Path) -> None:
    """Run directories below RUNS -> one file per workload in OUT."""
    collect_experience(runs, out)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.pretraining --runs results/runs/cpu --out results/pretraining``."""
    return run_stage(collect, argv)


if __name__ == "__main__":
    sys.exit(main())
