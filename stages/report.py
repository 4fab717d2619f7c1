"""Write the report: one page with the figures, the tables, a tree, and where the numbers come from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.report.page import write_report
from stages import run_stage

CONSTRAINTS = Path("constraints.txt")


def report(
    results: Path, out: Path, run: Path | None = None, pipeline: Path | None = None, constraints: Path = CONSTRAINTS
) -> None:
    """What the stages of PIPELINE (default: dvc.yaml) wrote below RESULTS, and the tree of RUN -> the page OUT."""
    write_report(results, out, run, pipeline, constraints)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.report --results results --run results/runs/EXPERIMENT/... --out results/report.html``."""
    return run_stage(report, argv)


if __name__ == "__main__":
    sys.exit(main())
