"""Draw the figures as PNG and SVG, with the numbers behind them as CSV."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.aggregate import read_tidy
from colt_pipeline.analysis.figures import speedup_curves_data, speedup_curves_plot
from colt_pipeline.analysis.labels import caption
from stages import run_stage


def draw_figures(data_dir: Path, out: Path) -> None:
    """Tidy CSV files in `data_dir` -> speedup_curves.png, .svg and .csv in `out`."""
    tidy = read_tidy(data_dir)
    speedup_curves_plot(speedup_curves_data(tidy), caption(tidy), out / "speedup_curves")


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.figures --data results/data/cpu --out results/figures/cpu``."""
    return run_stage(draw_figures, "data", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
