"""Collect features and latencies of the programs measured by runs, one file per workload.

``python -m stages.pretraining --runs results/runs/cpu --out results/pretraining/tvm``
"""

from __future__ import annotations

import sys
from pathlib import Path

from colt_pipeline import stack
from stages import command

stack.require()

from colt_pipeline.prediction.experience import collect_experience  # noqa: E402


def collect(runs: Path, out: Path) -> None:
    """Run directories below RUNS -> one file per workload in OUT."""
    collect_experience(runs, out)


main = command(collect)


if __name__ == "__main__":
    sys.exit(main())
