"""Speedup over the unoptimized program against measured samples.

For model sets, as in the paper's figures 2 to 4, with one panel per workload; for searches, with an additional large
panel for the geometric mean over workloads. Numbers are computed separately from the drawing. Files are byte-identical
if the numbers are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from colt_pipeline.analysis.figures.drawing import (
    COLUMNS,
    PANEL_HEIGHT,
    WIDTH,
    draw_legend,
    draw_panel,
    is_estimated,
    line_styles,
    save,
    speedup_label,
)
from colt_pipeline.analysis.intervals import stratified_mean
from colt_pipeline.analysis.labels import (
    CONFIGURATION,
    NOT_MEASURED,
    WORKLOAD_TITLES,
    configurations,
    display_order,
    samples_are_calls,
    with_sample_unit,
    workload_title,
)
from colt_pipeline.analysis.noise import comparison_floor
from colt_pipeline.analysis.searches import MEAN, searches
from colt_pipeline.analysis.tidy import Tidy

_TITLE_LINE = 36  # characters of a title that fit over one panel
_OF_ESTIMATES = 1.0  # the noise floor of estimates, see `comparison_floor`
_LARGE = 2
"""Rows and columns spanned by the panel of the mean over workloads."""


def speedup_curves_data(tidy: Tidy) -> pd.DataFrame:
    """Best speedup so far, over seeds.

    Returns:
        Columns workload, configuration (its label), family, sample, speedup (geometric mean over seeds), low, high
        (its 95 % interval, if known), seeds, noise_floor (of the workload, see `comparison_floor`), measurement, band
        (see `with_bands`), and see `with_sample_unit`. Samples at which some seed has no valid program yet or has
        already stopped are omitted, because a mean over fewer seeds would make the curve jump.
    """
    labels = configurations(tidy)
    names = ["workload", "label", "family"]
    curves = labels.merge(tidy.curves, on=CONFIGURATION).pivot(
        index=[*names, "seed"], columns="sample", values="speedup"
    )
    parts = []
    for key, own in curves.groupby(names, sort=False):
        numbers = dict(zip(("speedup", "low", "high"), stratified_mean([np.log(own.to_numpy())]).exp(), strict=True))
        facts = dict(zip(("workload", "configuration", "family"), key, strict=True))
        parts.append(pd.DataFrame(facts | {"sample": own.columns} | numbers | {"seeds": len(own)}))
    data = pd.concat(parts).dropna(subset="speedup")
    floors = {name: comparison_floor(own, tidy.noise) for name, own in tidy.runs.groupby("workload")}
    data["noise_floor"] = data["workload"].map(floors).astype("float64")
    kinds = tidy.runs.groupby("workload")["measurement"].unique().map(" and ".join)
    data["measurement"] = data["workload"].map(kinds)
    ranks = {name: rank for rank, name in enumerate(display_order(data["workload"], WORKLOAD_TITLES))}
    ranks |= {name: rank for rank, name in enumerate(labels["label"])}
    data = data.sort_values(
        ["workload", "configuration", "sample"],
        key=lambda column: column if column.name == "sample" else column.map(ranks),
        ignore_index=True,
    )
    return with_sample_unit(with_bands(data), tidy.runs)


def with_bands(data: pd.DataFrame) -> pd.DataFrame:
    """Add the column `band`: whether a workload's lines are drawn with their intervals.

    They are if that tells the lines apart: if, at the last sample, the interval of each is disjoint from another's.
    """
    drawn = []
    for workload, own in data.groupby("workload"):
        last = own[own["sample"] == own["sample"].max()]
        apart = (last["low"] > last["high"].min()) | (last["high"] < last["low"].max())  # False if unknown
        if apart.all():
            drawn.append(workload)
    return data.assign(band=data["workload"].isin(drawn))


def speedup_curves_plot(data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Draw what `speedup_curves_data` returned.

    Args:
        data: one line per configuration, one panel per workload.
        title: drawn above the panels.
        key: the conditions of the runs, drawn below the title.
        path_stem: path of the files to write, without .png, .svg and .csv (the numbers).
    """
    save(_draw_workloads, data, title, key, path_stem)


def search_curves_data(tidy: Tidy) -> pd.DataFrame:
    """See `Searches.curves`; also measurement and band (see `with_bands`)."""
    data = searches(tidy)
    curves = with_bands(data.curves().assign(measurement=data.runs["measurement"].iloc[0]))
    return with_sample_unit(curves, data.runs)


def search_curves_plot(data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Draw what `search_curves_data` returned.

    Args:
        data: one line per search.
        title: drawn above the panels.
        key: the conditions of the runs, drawn below the title.
        path_stem: path of the files to write, without .png, .svg and .csv (the numbers).
    """
    save(_draw_searches, data, title, key, path_stem)


def _draw_workloads(data: pd.DataFrame) -> Figure:
    workloads = list(data["workload"].unique())
    columns = min(COLUMNS, max(len(workloads), 1))
    rows = -(-len(workloads) // columns) or 1
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * rows + 0.4), layout="constrained")
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flatten())
    styles = line_styles(data)
    for panel, workload in zip(axes, workloads, strict=False):
        own = data[data["workload"] == workload]
        draw_panel(panel, own, styles)
        panel.set_title(_panel_title(workload, own["noise_floor"].iloc[0]))
    for panel in axes[len(workloads) :]:
        panel.set_axis_off()
    for panel in axes[: len(workloads) : columns]:
        panel.set_ylabel(speedup_label(data, lines=2))
    for panel in axes[max(len(workloads) - columns, 0) : len(workloads)]:
        panel.set_xlabel(_samples_label(data))
    draw_legend(figure, axes[len(workloads) :], axes[: len(workloads)], _legend_title(data))
    return figure


def _samples_label(data: pd.DataFrame) -> str:
    if samples_are_calls(data):
        return "Samples (regular LLM calls)"
    return "Samples" if is_estimated(data) else "Measured samples"


def _legend_title(data: pd.DataFrame) -> str:
    """What a line is, and a band if there is one."""
    if data["seeds"].max() == 1:
        return "one seed"
    mean = "geometric mean over seeds"
    return f"{mean}; bands, where lines end apart: 95 % intervals" if data["band"].any() else mean


def _panel_title(workload: str, floor: float) -> str:
    title = workload_title(workload)
    if _is_noise(floor):
        remark = f"(noise ×{floor:.2f})"
    elif floor == _OF_ESTIMATES:
        remark = NOT_MEASURED
    else:
        return title
    return (" " if len(title) + len(remark) < _TITLE_LINE else "\n").join((title, remark))


def _is_noise(floor: float) -> bool:
    """False for an unknown floor (NaN) and for that of estimates, which have no noise."""
    return floor > _OF_ESTIMATES


def _draw_searches(data: pd.DataFrame) -> Figure:
    workloads = [name for name in data["workload"].unique() if name != MEAN]
    rows = max(_LARGE, -(-(len(workloads) + _LARGE**2) // COLUMNS))
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * rows + 0.4), layout="constrained")
    grid = figure.add_gridspec(rows, COLUMNS)
    large: Axes = figure.add_subplot(grid[:_LARGE, :_LARGE])
    panels = {MEAN: large} | dict(zip(workloads, _small_panels(figure, grid), strict=False))
    styles = line_styles(data)
    for workload, panel in panels.items():
        own = data[data["workload"] == workload]
        if len(own):
            draw_panel(panel, own, styles)
        panel.set_title("Geometric mean over workloads" if workload == MEAN else workload_title(workload))
    large.set_ylabel(speedup_label(data))
    large.set_xlabel(_samples_label(data))
    draw_legend(figure, (), list(panels.values()), _legend_title(data))
    return figure


def _small_panels(figure: Figure, grid: GridSpec) -> Iterator[Axes]:
    """The panels to the right of and below the large panel, row by row."""
    for row, column in product(range(grid.nrows), range(grid.ncols)):
        if row >= _LARGE or column >= _LARGE:
            yield figure.add_subplot(grid[row, column])
