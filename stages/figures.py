"""Draw the figures as PNG and SVG, with the numbers behind them as CSV."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.aggregate import read_tidy
from colt_pipeline.analysis.figures import speedup_curves_data, speedup_curves_plot
from colt_pipeline.analysis.labels import caption
from colt_pipeline.analysis.search_figure import search_curves_data, search_curves_plot
from colt_pipeline.analysis.searches import search_caption
from stages import run_stage

FIGURES = {
    "model_sets": ("speedup_curves", speedup_curves_data, caption, speedup_curves_plot),
    "searches": ("search_curves", search_curves_data, search_caption, search_curves_plot),
}
"""What is compared -> (file name, its numbers, its caption, its drawing)."""


def draw_figures(data_dir: Path, out: Path, compare: str) -> None:
    """Tidy CSV files in `data_dir` -> the figure of what is compared as .png, .svg and .csv in `out`."""
    tidy = read_tidy(data_dir)
    name, data, caption_of, plot = FIGURES[compare]
    plot(data(tidy), caption_of(tidy), out / name)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.figures --data results/data/cpu --out results/figures/cpu``."""
    return run_stage(draw_figures, "data", __doc__, argv, choices={"compare": tuple(FIGURES)})


if __name__ == "__main__":
    sys.exit(main())
