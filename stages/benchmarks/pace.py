"""Seconds per sample of the searches of a comparison, from the ``timing.json`` of its live runs.

Confirmations, which all searches end with alike, are not counted. A run that was interrupted says only how long its
last part took, so compare searches in one go. Replays leave no times.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.labels import SEARCH_TITLES, WORKLOAD_TITLES, display_order
from colt_pipeline.errors import ConfigError
from colt_pipeline.runs.layout import SUMMARY, TIMING
from stages.benchmarks import Row, command_line, write_rows

ALL = "geometric mean"


def rows(runs: Path) -> list[Row]:
    """One row per workload and search, with medians over seeds; then each search's mean over the workloads.

    Raises:
        ConfigError: no run has times.
    """
    found: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for path in sorted(runs.glob(f"*/*/{TIMING}")):
        summary, laps = (json.loads((path.parent / name).read_text()) for name in (SUMMARY, TIMING))
        samples = summary["samples"]
        found[summary["workload"], summary["search"]].append((laps["total"] / samples, laps["measure"] / samples))
    if not found:
        raise ConfigError(f"no run below {runs} has a {TIMING}: replays measure no time, so there must be live runs")
    workloads = display_order([workload for workload, _ in found], WORKLOAD_TITLES)
    searches = display_order([search for _, search in found], SEARCH_TITLES)
    table = [_row(w, s, found[w, s]) for w in workloads for s in searches if (w, s) in found]
    for search in searches:
        own = [statistics.median(total for total, _ in found[w, search]) for w in workloads if (w, search) in found]
        if len(own) == len(workloads):
            table.append(
                {"workload": ALL, "search": search, "secs_per_sample": round(statistics.geometric_mean(own), 3)}
            )
    return table


def _row(workload: str, search: str, per_sample: Sequence[tuple[float, float]]) -> Row:
    total, measuring = (statistics.median(column) for column in zip(*per_sample, strict=True))
    return {
        "workload": workload,
        "search": search,
        "secs_per_sample": round(total, 3),
        "measuring": round(measuring, 3),
        "runs": len(per_sample),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.pace --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("results/runs/anytime"), help="runs of a comparison")
    given = parser.parse_args(argv)
    return write_rows(lambda: rows(given.runs), given.out / "pace.csv")


if __name__ == "__main__":
    sys.exit(main())
