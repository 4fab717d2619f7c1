"""Write the tables as CSV, Markdown and LaTeX."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.aggregate import read_tidy
from colt_pipeline.analysis.comparisons import comparisons
from colt_pipeline.analysis.labels import caption
from colt_pipeline.analysis.tables import best_latencies, call_counts, invocation_rates, speedups, write_table
from stages import run_stage

_SEE_NOISE = "(which differences exceed the noise: see comparisons)"

TABLES = {
    "invocation_rates": (
        invocation_rates,
        "Share of regular LLM calls in percent (course alteration rate: per regular call of a small model; total: with "
        "course alterations)",
    ),
    "call_counts": (call_counts, "LLM calls"),
    "speedups": (speedups, f"Speedup over the unoptimized program {_SEE_NOISE}"),
    "best_latencies": (best_latencies, f"Latency in milliseconds {_SEE_NOISE}"),
    "comparisons": (
        comparisons,
        "Best latency against the reference's (ratio: the reference's / this one; called faster or slower only beyond "
        "the noise floor: 95 % of pairs of measurements of one program differ by less)",
    ),
}
"""File name -> (function, what its numbers are)."""


def write_tables(data_dir: Path, out: Path) -> None:
    """Tidy CSV files in `data_dir` -> one table per entry of TABLES in `out`."""
    tidy = read_tidy(data_dir)
    for name, (table, title) in TABLES.items():
        write_table(table(tidy), f"{title}: {caption(tidy)}.", out, name)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.tables --data results/data/cpu --out results/tables/cpu``."""
    return run_stage(write_tables, "data", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
