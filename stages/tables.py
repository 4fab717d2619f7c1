"""Write the tables of an experiment as CSV, Markdown and LaTeX, and the findings they support.

``python -m stages.tables --data results/data/cpu --out results/tables/cpu``
"""

from __future__ import annotations

import sys
from pathlib import Path

from colt_pipeline.analysis.report.findings import findings_of, write_findings
from colt_pipeline.analysis.tables.catalogue import write_tables
from colt_pipeline.analysis.tidy import read_tidy
from stages import command


def tabulate(data: Path, out: Path) -> None:
    """Tidy CSV files in DATA -> tables and the findings drawn from them in OUT."""
    tidy = read_tidy(data)
    write_findings(findings_of(tidy, write_tables(tidy, out)), out)


main = command(tabulate)


if __name__ == "__main__":
    sys.exit(main())
