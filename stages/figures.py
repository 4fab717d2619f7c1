"""Draw the figures as PNG and SVG, with the numbers behind them as CSV."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.figures.course_alterations import course_data, course_plot
from colt_pipeline.analysis.figures.curves import speedup_curves_data, speedup_curves_plot
from colt_pipeline.analysis.figures.pareto import pareto_data, pareto_plot
from colt_pipeline.analysis.figures.ranks import rank_data, rank_plot
from colt_pipeline.analysis.figures.search_curves import search_curves_data, search_curves_plot
from colt_pipeline.analysis.figures.shares import share_data, share_plot
from colt_pipeline.analysis.figures.times import time_data, time_plot
from colt_pipeline.analysis.tidy import read_tidy
from stages import run_stage
from stages.tables import CAPTIONS, MODEL_SETS, SEARCHES

FIGURES = {
    "speedup_curves": (
        speedup_curves_data,
        "Best speedup so far over the unoptimized program, as in the paper's figures 2 to 4",
        speedup_curves_plot,
        (MODEL_SETS,),
    ),
    "search_curves": (
        search_curves_data,
        "Best speedup so far over the unoptimized program",
        search_curves_plot,
        (SEARCHES,),
    ),
    "cost_against_quality": (
        pareto_data,
        "Cost of LLMs against final speedup; USD (estimated): tokens at the prices in conf/models, which nobody paid, "
        "and 4 characters a token",
        pareto_plot,
        (MODEL_SETS, SEARCHES),
    ),
    "ranks": (rank_data, "Mean rank over seeds, whatever the distance", rank_plot, (MODEL_SETS, SEARCHES)),
    "course_alterations": (
        course_data,
        "Course alterations per program of a small model, beside p^2/(1+p), what two regressions in a row give if each "
        "program is one with probability p, independently of the others; p from the same runs, by predicted scores",
        course_plot,
        (MODEL_SETS, SEARCHES),
    ),
    "model_shares": (
        share_data,
        "Share of calls between measured batches, pooled over workloads and seeds",
        share_plot,
        (MODEL_SETS, SEARCHES),
    ),
    "time_breakdown": (
        time_data,
        "Recorded seconds: LLM answers and timed runs; building and the search itself are not recorded",
        time_plot,
        (MODEL_SETS, SEARCHES),
    ),
}
"""File name -> (its numbers, what they are, its drawing, for which comparisons), in the order of the report."""


def draw_figures(data_dir: Path, out: Path, compare: str) -> None:
    """Tidy CSV files in `data_dir` -> in `out` as .png, .svg and .csv the entries of FIGURES that have numbers."""
    tidy = read_tidy(data_dir)
    for name, (data_of, what, plot, comparisons_of) in FIGURES.items():
        if compare in comparisons_of and len(data := data_of(tidy)):
            plot(data, f"{what}: {CAPTIONS[compare](tidy)}", out / name)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.figures --data results/data/cpu --out results/figures/cpu``."""
    return run_stage(draw_figures, "data", __doc__, argv, choices={"compare": tuple(CAPTIONS)})


if __name__ == "__main__":
    sys.exit(main())
