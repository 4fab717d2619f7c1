"""Searches at equal samples: the geometric mean over workloads in a large panel, each workload in a small one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from colt_pipeline.analysis.figures.drawing import (
    COLUMNS,
    PANEL_HEIGHT,
    WIDTH,
    draw_caption,
    draw_legend,
    draw_panel,
    line_styles,
    save,
    seeds_title,
)
from colt_pipeline.analysis.labels import workload_title
from colt_pipeline.analysis.searches import MEAN, searches
from colt_pipeline.analysis.tidy import Tidy

_LARGE = 2
"""Rows and columns of the large panel."""


def search_curves_data(tidy: Tidy) -> pd.DataFrame:
    """See `Searches.curves`."""
    return searches(tidy).curves()


def search_curves_plot(data: pd.DataFrame, caption: str, path_stem: Path) -> None:
    """Draw what `search_curves_data` returned.

    Args:
        data: One line per search; with several seeds a band of its 95 % interval.
        caption: Backend, measurement and so on; drawn above the panels.
        path_stem: Written are this path with .png, .svg and .csv (the numbers) appended.
    """
    save(_draw, data, caption, path_stem)


def _draw(data: pd.DataFrame, caption: str) -> Figure:
    workloads = [name for name in data["workload"].unique() if name != MEAN]
    rows = max(_LARGE, -(-(len(workloads) + _LARGE**2) // COLUMNS))
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * rows + 0.8), layout="constrained")
    grid = figure.add_gridspec(rows, COLUMNS)
    draw_caption(figure, caption)
    large: Axes = figure.add_subplot(grid[:_LARGE, :_LARGE])
    panels = {MEAN: large} | dict(zip(workloads, _small_panels(figure, grid), strict=False))
    styles = line_styles(data)
    for workload, panel in panels.items():
        own = data[data["workload"] == workload]
        if len(own):
            draw_panel(panel, own, styles, ("low", "high"))
        panel.set_title("Geometric mean over workloads" if workload == MEAN else workload_title(workload))
    large.set_ylabel("Speedup over unoptimized program")
    large.set_xlabel("Measured samples")
    title = seeds_title(data, "geometric mean")
    draw_legend(figure, (), list(panels.values()), title)
    return figure


def _small_panels(figure: Figure, grid: GridSpec) -> Iterator[Axes]:
    """The places beside and below the large panel, row by row."""
    for row, column in product(range(grid.nrows), range(grid.ncols)):
        if row >= _LARGE or column >= _LARGE:
            yield figure.add_subplot(grid[row, column])
