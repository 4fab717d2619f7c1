"""Write the tables of an experiment as CSV, Markdown and LaTeX, what they show, and what DVC compares.

``python -m stages.tables --data results/data/cpu --out results/tables/cpu``
"""

from __future__ import annotations

import sys
from pathlib import Path

from colt_pipeline.analysis.metrics import curves, metrics_of, write_curves, write_metrics
from colt_pipeline.analysis.report.findings import findings_of, write_findings
from colt_pipeline.analysis.tables.catalogue import write_tables
from colt_pipeline.analysis.tidy import read_tidy
from stages import command


def tabulate(data: Path, out: Path, metrics: Path | None = None, plot: Path | None = None) -> None:
    """Tidy CSV files in DATA -> tables, and findings made from them, in OUT; metrics in METRICS, curves as PLOT."""
    tidy = read_tidy(data)
    write_findings(findings_of(tidy, write_tables(tidy, out)), out)
    if metrics is not None:
        write_metrics(metrics_of(tidy), metrics)
    if plot is not None:
        write_curves(curves(tidy), plot)


main = command(tabulate)


if __name__ == "__main__":
    sys.exit(main())
