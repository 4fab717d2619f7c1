"""Write the report: one page with the figures, the tables, a tree, and where the numbers come from; and its short form.

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
) -> None:
    """What the stages of PIPELINE (default: dvc.yaml) wrote below RESULTS, and the tree of RUN -> the page OUT.

    README: a file in RESULTS for its short form, in Markdown.
    """
    write_report(results, out, run, pipeline, constraints, readme)


main = command(report)


if __name__ == "__main__":
    sys.exit(main())
