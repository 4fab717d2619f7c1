"""Draws whether regressions persist; numbers from `analysis.course_alterations`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from colt_pipeline.analysis.figures.drawing import WIDTH, draw_legend, draw_point, draw_title, point_styles, save


def persistence_plot(data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Draw what `persistence` returned, one row per configuration; see `drawing.save`."""
    save(_draw, data, title, key, path_stem)


def _draw(data: pd.DataFrame, title: str, key: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 0.4 * len(data) + 1.5), layout="constrained")
    draw_title(figure, title, key)
    panel, styles = figure.subplots(), point_styles(data)
    for place, row in enumerate(data.to_dict("records")):
        look = styles[str(row["configuration"])]
        for after, below in (("after a regression", -0.12), ("otherwise", 0.12)):
            ends = (100 * row[f"{after} low"], 100 * row[f"{after} high"])
            filled = {} if below < 0 else {"markerfacecolor": "white"}
            draw_point(panel, (100 * row[after], place + below), ends, upright=False, **look | filled, label=after)
    panel.set_yticks(range(len(data)), list(data["configuration"]))
    panel.set_ylim(len(data) - 0.4, -0.6)
    panel.yaxis.grid(False)
    panel.set_xlim(0, 100)
    panel.set_xlabel("Percent of programs that regress")
    draw_legend(figure, (), [panel], "bar: 95 % interval")
    return figure
