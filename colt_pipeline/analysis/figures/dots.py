"""Dot plots: a panel per workload, a row per configuration, with a mean, its interval, and the seeds' own values."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from colt_pipeline.analysis.figures.drawing import (
    COLUMNS,
    NEUTRAL,
    WIDTH,
    draw_marks_legend,
    draw_point,
    point_styles,
    row_labels,
)

DOT_COLUMNS = ("workload", "configuration", "family", "seed", "value", "low", "high", "measurement")
"""workload (the panel's title), configuration, family, seed (missing: over all seeds), value, low, high (the 95 %
interval of a mean, if known), measurement."""

_ROW, _LINE = 0.19, 0.13  # inches: a row with one line of label, and a further line
_BELOW = 0.3  # rows between a mean and the values of its seeds
_SEED: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 3, "alpha": 0.6, "markeredgewidth": 0}


def draw_dots(data: pd.DataFrame, label: str) -> Figure:
    """Draw a frame with DOT_COLUMNS; `label`, in lines that fit below a panel, says what the values are."""
    workloads, names = list(data["workload"].unique()), list(data["configuration"].unique())
    columns = min(COLUMNS, len(workloads))
    rows = -(-len(workloads) // columns)
    shown, styles = row_labels(names), point_styles(data)
    height = len(names) * (_ROW + _LINE * max(text.count("\n") for text in shown))
    figure = Figure(figsize=(WIDTH, rows * (height + 0.4) + 0.6), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flatten())
    for panel, workload in zip(panels, workloads, strict=False):
        for row in data[data["workload"] == workload].to_dict("records"):
            _draw_row(panel, row, names.index(row["configuration"]), styles[row["configuration"]])
        panel.set_title(workload)
        panel.set_yticks(range(len(names)), shown)
        panel.set_ylim(len(names) - 0.4, -0.6)
        panel.yaxis.grid(False)
        panel.xaxis.set_major_locator(MaxNLocator(4))
    for panel in panels[max(len(workloads) - columns, 0) : len(workloads)]:
        panel.set_xlabel(label)
    for panel in panels[len(workloads) :]:
        panel.set_axis_off()
    draw_marks_legend(figure, _marks(data), panels[len(workloads) :])
    return figure


def _draw_row(panel: Axes, row: dict[Any, Any], place: int, style: dict[str, Any]) -> None:
    if pd.isna(row["seed"]):
        draw_point(panel, (row["value"], place), (row["low"], row["high"]), upright=False, **style)
    else:
        panel.plot(row["value"], place + _BELOW, color=style["color"], **_SEED)


def _marks(data: pd.DataFrame) -> list[Line2D]:
    entries = [Line2D([], [], color=NEUTRAL, linestyle="", marker="s", markersize=5, label="mean over seeds")]
    if data["low"].notna().any():
        entries.append(Line2D([], [], color=NEUTRAL, linewidth=1, label="95 % interval, if known"))
    if data["seed"].notna().any():
        entries.append(Line2D([], [], color=NEUTRAL, **_SEED, label="one seed"))
    return entries
