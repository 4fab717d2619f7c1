"""Collect finished runs and their devices' measurement noise into five tidy CSV files.

``python -m stages.aggregate --runs results/runs/cpu --noise results/noise --out results/data/cpu``
"""

from __future__ import annotations

import sys
from pathlib import Path

from colt_pipeline.analysis.tidy import aggregate, write_tidy
from stages import command


def collect(runs: Path, out: Path, noise: Path | None = None, whole_seeds: bool = False) -> None:
    """Run directories below RUNS -> CSV files in OUT; without NOISE, no difference counts as an improvement.

    With --whole-seeds, seeds that lack a finished run are left out: what a limit of the budget has cut stays balanced.
    """
    write_tidy(aggregate(runs, noise, whole_seeds), out)


main = command(collect)


if __name__ == "__main__":
    sys.exit(main())
