"""Write the tables of whole models as CSV, Markdown and LaTeX, and the numbers behind them for the report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.tables.end_to_end import TABLES, model_caption, read_models
from colt_pipeline.analysis.tables.invocation import write_table
from colt_pipeline.records import canonical_json
from stages import run_stage

FILE = "models.jsonl"


def write_tables(runs_dir: Path, out: Path) -> None:
    """Finished runs of whole models below `runs_dir` -> `FILE` and one table per entry of TABLES in `out`."""
    models = read_models(runs_dir)
    out.mkdir(parents=True, exist_ok=True)
    (out / FILE).write_text("".join(canonical_json(model) + "\n" for model in models))
    for name, (table, title) in TABLES.items():
        write_table(table(models), f"{title}: {model_caption(models)}.", out, name)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.end_to_end --runs results/runs/end_to_end --out results/tables/end_to_end``."""
    return run_stage(write_tables, "runs", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
