"""Which figures there are of an experiment, what they say, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from colt_pipeline.analysis.compared import MODEL_SETS, SEARCHES, Compared, common_caption, compared
from colt_pipeline.analysis.course_alterations import course_data
from colt_pipeline.analysis.figures.course_alterations import course_plot
from colt_pipeline.analysis.figures.curves import (
    search_curves_data,
    search_curves_plot,
    speedup_curves_data,
    speedup_curves_plot,
)
from colt_pipeline.analysis.figures.pareto import pareto_data, pareto_plot
from colt_pipeline.analysis.figures.ranks import rank_data, rank_plot
from colt_pipeline.analysis.figures.shares import share_data, share_plot
from colt_pipeline.analysis.figures.times import time_plot
from colt_pipeline.analysis.index import Entry, write_index
from colt_pipeline.analysis.recorded_times import time_data
from colt_pipeline.analysis.tidy import Tidy


@dataclass(frozen=True)
class Figure:
    """A figure that can be drawn of an experiment."""

    data: Callable[[Tidy], pd.DataFrame]
    """Its numbers."""
    what: str
    """What they are; begins its caption."""
    plot: Callable[[pd.DataFrame, str, Path], None]
    """Draws numbers and caption to a path without suffix."""
    compared: tuple[Compared, ...] = (MODEL_SETS, SEARCHES)
    """The experiments that it is about."""


FIGURES = {
    "speedup_curves": Figure(
        speedup_curves_data,
        "Best speedup so far over the unoptimized program, as in the paper's figures 2 to 4",
        speedup_curves_plot,
        (MODEL_SETS,),
    ),
    "search_curves": Figure(
        search_curves_data,
        "Best speedup so far over the unoptimized program",
        search_curves_plot,
        (SEARCHES,),
    ),
    "cost_against_quality": Figure(
        pareto_data,
        "Cost of LLMs against final speedup; USD (estimated): tokens at the prices in conf/models, which nobody paid, "
        "and 4 characters a token",
        pareto_plot,
    ),
    "ranks": Figure(rank_data, "Mean rank over seeds, whatever the distance", rank_plot),
    "course_alterations": Figure(
        course_data,
        "Course alterations per program of a small model, beside p^2/(1+p), what two regressions in a row give if each "
        "program is one with probability p, independently of the others; p from the same runs, by predicted scores",
        course_plot,
    ),
    "model_shares": Figure(
        share_data,
        "Share of calls between measured batches, pooled over workloads and seeds",
        share_plot,
    ),
    "time_breakdown": Figure(
        time_data,
        "Recorded seconds: LLM answers and timed runs; building and the search itself are not recorded",
        time_plot,
    ),
}
"""File name -> figure, in the order of the report."""


def draw_figures(tidy: Tidy, out: Path) -> None:
    """Draw the figures about what `tidy` compares, with their index; those without numbers are left out."""
    kind, common = compared(tidy), common_caption(tidy)
    entries = []
    for name, figure in FIGURES.items():
        if kind in figure.compared and len(data := figure.data(tidy)):
            caption = f"{figure.what}: {common}"
            figure.plot(data, caption, out / name)
            entries.append(Entry(name, f"{caption}."))
    write_index(entries, out)
