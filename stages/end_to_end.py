"""Write the tables of whole models as CSV, Markdown and LaTeX, and the numbers behind them.

``python -m stages.end_to_end --runs results/runs/end_to_end --out results/tables/end_to_end``
"""

from __future__ import annotations

import sys
from pathlib import Path

from colt_pipeline.analysis.tables.end_to_end import read_models, write_model_tables
from stages import command


def tabulate(runs: Path, out: Path) -> None:
    """Finished runs of whole models below RUNS -> tables in OUT."""
    write_model_tables(read_models(runs), out)


main = command(tabulate)


if __name__ == "__main__":
    sys.exit(main())
