"""Write the tables of whole models as CSV, Markdown and LaTeX, the numbers behind them, and what DVC compares.

``python -m stages.end_to_end --runs results/runs/end_to_end --out results/tables/end_to_end``
"""

from __future__ import annotations

import sys
from pathlib import Path

from colt_pipeline.analysis.metrics import write_metrics
from colt_pipeline.analysis.tables.end_to_end import model_metrics, read_models, write_model_tables
from stages import command


def tabulate(runs: Path, out: Path, metrics: Path | None = None) -> None:
    """Finished runs of whole models below RUNS -> tables in OUT, metrics in METRICS."""
    models = read_models(runs)
    write_model_tables(models, out)
    if metrics is not None:
        write_metrics(model_metrics(models), metrics)


main = command(tabulate)


if __name__ == "__main__":
    sys.exit(main())
