"""Write the report, one page with figures, tables, a search tree and where numbers come from, and its short form.

``python -m stages.report --results results --run results/runs/EXPERIMENT/... --out results/report.html``
"""

from __future__ import annotations

import sys
from pathlib import Path

from colt_pipeline.analysis.report.files import write_report
from stages import command

CONSTRAINTS = Path("constraints.txt")


def report(
    results: Path,
    out: Path,
    run: Path | None = None,
    pipeline: Path | None = None,
    constraints: Path = CONSTRAINTS,
    readme: Path | None = None,
    beside: Path | None = None,
) -> None:
    """The results of PIPELINE (default: dvc.yaml) below RESULTS, and the tree of RUN -> the page OUT.

    README is a Markdown file in RESULTS for its short form. BESIDE is another results directory: where real models made
    runs in one and stand-ins made the same runs in the other, a table compares them.
    """
    write_report(results, out, run, pipeline, constraints, readme, beside)


main = command(report)


if __name__ == "__main__":
    sys.exit(main())
