"""Draws where a run's recorded time went; numbers from `analysis.recorded_times`."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from colt_pipeline.analysis.figures.drawing import WIDTH, draw_legend, save
from colt_pipeline.analysis.recorded_times import LLM, RUNS

_LOOKS = {LLM: ("#0173b2", ""), RUNS: ("#de8f05", "//")}


def time_plot(data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Draw what `time_data` returned, one bar per configuration; see `drawing.save`."""
    save(_draw, data, title, key, path_stem)


def _draw(data: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(WIDTH, 0.3 * len(data) + 0.8), layout="constrained")
    panel = figure.subplots()
    left = pd.Series(0.0, index=data.index)
    for part, (colour, hatch) in _LOOKS.items():
        panel.barh(data["configuration"], data[part].fillna(0), left=left, color=colour, hatch=hatch, label=part)
        left = left + data[part].fillna(0)
    panel.invert_yaxis()
    panel.set_xlabel("Seconds per run")
    draw_legend(figure, (), [panel], None)
    return figure
