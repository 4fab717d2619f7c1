"""The figures of an experiment, their captions and their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from colt_pipeline.analysis.compared import MODEL_SETS, SEARCHES, Compared, compared, key
from colt_pipeline.analysis.course_alterations import persistence
from colt_pipeline.analysis.figures.curves import (
    search_curves_data,
    search_curves_plot,
    speedup_curves_data,
    speedup_curves_plot,
)
from colt_pipeline.analysis.figures.finals import final_data, final_plot
from colt_pipeline.analysis.figures.pareto import pareto_data, pareto_plot
from colt_pipeline.analysis.figures.persistence import persistence_plot
from colt_pipeline.analysis.figures.ranks import rank_data, rank_plot
from colt_pipeline.analysis.figures.shares import share_data, share_plot
from colt_pipeline.analysis.figures.times import time_plot
from colt_pipeline.analysis.index import Entry, write_index
from colt_pipeline.analysis.notes import (
    Note,
    held_out,
    no_effect_of_sets,
    noise,
    random_sampling,
    set_by_construction,
    several_spaces,
    with_notes,
)
from colt_pipeline.analysis.recorded_times import time_data
from colt_pipeline.analysis.tables.paper import paper_figure
from colt_pipeline.analysis.tidy import Tidy


@dataclass(frozen=True)
class Figure:
    """A figure that can be drawn for an experiment."""

    data: Callable[[Tidy], pd.DataFrame]
    """Its numbers."""
    title: str
    what: str
    """What the numbers are; the beginning of the caption."""
    plot: Callable[[pd.DataFrame, str, str, Path], None]
    """Draws numbers, title and key to a path without suffix."""
    compared: tuple[Compared, ...] = (MODEL_SETS, SEARCHES)
    """The kinds of experiments it applies to."""
    notes: tuple[Note, ...] = ()
    """What must be known beside the numbers, in sentences that follow in the caption; "" where it does not apply."""
    repeats: bool = False
    """Whether it repeats the paper's figure of the experiment, see `paper_figure`."""


FIGURES = {
    "speedup_curves": Figure(
        speedup_curves_data,
        "Best speedup so far",
        "Best speedup over the unoptimized program so far, per workload; with several seeds their geometric mean.",
        speedup_curves_plot,
        (MODEL_SETS,),
        (noise, several_spaces, no_effect_of_sets),
        repeats=True,
    ),
    "search_curves": Figure(
        search_curves_data,
        "Best speedup so far",
        "Best speedup over the unoptimized program so far, geometric mean over seeds.",
        search_curves_plot,
        (SEARCHES,),
        (noise, several_spaces, random_sampling, held_out),
    ),
    "final_speedups": Figure(
        final_data,
        "Final speedups",
        "Best speedup over the unoptimized program after the last sample: geometric mean over seeds, its 95 % interval "
        "(Student's t, none with fewer than three runs), and every seed's own value.",
        final_plot,
        notes=(several_spaces, no_effect_of_sets, random_sampling, held_out),
    ),
    "cost_against_quality": Figure(
        pareto_data,
        "Cost of LLMs against final speedup",
        "USD (estimated): tokens at the prices in conf/models, which nobody paid, with 4 characters a token.",
        pareto_plot,
        notes=(several_spaces, no_effect_of_sets, random_sampling),
    ),
    "ranks": Figure(
        rank_data,
        "Mean rank by final speedup",
        "1 is the fastest; ranks do not show distances. Bars: 95 % intervals; where one is unknown, the seeds' ranks.",
        rank_plot,
        notes=(no_effect_of_sets, random_sampling),
    ),
    "persistence": Figure(
        persistence,
        "Do regressions persist?",
        "Of the programs that small models made below another one by a small model, the share predicted to be slower "
        "than their parent: where the one above was such a regression, and where it was not.",
        persistence_plot,
    ),
    "model_shares": Figure(
        share_data,
        "Who is called when",
        "Share of calls between measured batches, pooled over workloads and seeds.",
        share_plot,
        notes=(set_by_construction,),
    ),
    "time_breakdown": Figure(
        time_data,
        "Recorded seconds",
        "LLM answers and timed runs; building and the search itself are not recorded.",
        time_plot,
    ),
}
"""File name -> figure, in the order of the report."""


def draw_figures(tidy: Tidy, out: Path) -> None:
    """Draw the figures that apply to `tidy`, except those without numbers, and write their index."""
    kind, common, number = compared(tidy), key(tidy), paper_figure(tidy)
    entries = []
    for name, figure in FIGURES.items():
        if kind in figure.compared and len(data := figure.data(tidy)):
            title = figure.title
            if figure.repeats and number is not None:
                title = f"Figure {number} of the paper, repeated: {title[0].lower()}{title[1:]}"
            figure.plot(data, title, common, out / name)
            entries.append(Entry(name, title, with_notes(figure.what, figure.notes, tidy), common))
    write_index(entries, out)
