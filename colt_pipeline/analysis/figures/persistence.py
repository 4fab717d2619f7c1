"""Draws whether regressions persist; numbers from `analysis.course_alterations`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from colt_pipeline.analysis.figures.drawing import (
    NEUTRAL,
    WIDTH,
    draw_marks_legend,
    draw_point,
    point_styles,
    row_labels,
    save,
)

_FACES = {"after a regression": "", "otherwise": "white"}
"""Which programs -> what fills their markers; "": the configuration's colour."""


def persistence_plot(data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Draw what `persistence` returned, one row per configuration; see `drawing.save`."""
    save(_draw, data, title, key, path_stem)


def _draw(data: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(WIDTH, 0.4 * len(data) + 1.0), layout="constrained")
    panel, styles = figure.subplots(), point_styles(data)
    for place, row in enumerate(data.to_dict("records")):
        look = styles[str(row["configuration"])]
        for (after, face), below in zip(_FACES.items(), (-0.14, 0.14), strict=True):
            ends = (100 * row[f"{after} low"], 100 * row[f"{after} high"])
            filled = {"markerfacecolor": face or look["color"]}
            draw_point(panel, (100 * row[after], place + below), ends, upright=False, **look | filled)
    panel.set_yticks(range(len(data)), row_labels(data["configuration"].tolist()))
    panel.set_ylim(len(data) - 0.4, -0.6)
    panel.yaxis.grid(False)
    panel.set_xlim(0, 100)
    panel.set_xlabel("Percent of programs that regress")
    marker: dict[str, Any] = {"color": NEUTRAL, "linestyle": "", "marker": "o", "markersize": 6}
    entries = [Line2D([], [], **marker, markerfacecolor=face or NEUTRAL, label=after) for after, face in _FACES.items()]
    draw_marks_legend(figure, [*entries, Line2D([], [], color=NEUTRAL, linewidth=1, label="95 % interval")])
    return figure
