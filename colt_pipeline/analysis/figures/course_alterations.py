"""How often the course was altered, beside what chance alone gives; the numbers are `analysis.course_alterations`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from colt_pipeline.analysis.figures.drawing import WIDTH, draw_caption, draw_legend, draw_point, point_styles, save


def course_plot(data: pd.DataFrame, caption: str, path_stem: Path) -> None:
    """Draw what `course_data` returned, a line of the page per configuration; see `drawing.save`."""
    save(_draw, data, caption, path_stem)


def _draw(data: pd.DataFrame, caption: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 0.4 * len(data) + 1.5), layout="constrained")
    draw_caption(figure, caption)
    panel, styles = figure.subplots(), point_styles(data)
    chance = {"color": "0.35", "marker": "|", "markeredgewidth": 1.5, "label": "independent regressions"}
    labels = []
    for place, row in enumerate(data.to_dict("records")):
        name = str(row["configuration"])
        look = styles[name] | {"label": "course alterations"}
        draw_point(panel, (100 * row["rate"], place), (100 * row["low"], 100 * row["high"]), upright=False, **look)
        at, ends = (100 * row["coin"], place + 0.25), (100 * row["coin low"], 100 * row["coin high"])
        draw_point(panel, at, ends, upright=False, **chance)
        labels.append(f"{name}\n{row['alterations']} of {row['children']}")
    panel.set_yticks(range(len(data)), labels)
    panel.set_ylim(len(data) - 0.4, -0.5)
    panel.yaxis.grid(False)
    panel.set_xlim(left=0)
    panel.set_xlabel("Percent of the programs that small models made")
    draw_legend(figure, (), [panel], "bar: 95 % interval")
    return figure
