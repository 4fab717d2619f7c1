"""Where a run's recorded time went: LLM answers and timed kernel runs. Nothing else is recorded."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from colt_pipeline.analysis.figures.drawing import WIDTH, draw_caption, draw_legend, save
from colt_pipeline.analysis.searches import comparable, searches
from colt_pipeline.analysis.tidy import IDS, Tidy

LLM, RUNS = "LLM answers (s)", "timed runs (s)"
_LOOKS = {LLM: ("#0173b2", ""), RUNS: ("#de8f05", "//")}


def recorded_times(tidy: Tidy) -> pd.DataFrame:
    """Seconds per run, mean over workloads and seeds.

    Returns:
        Columns configuration, runs, LLM (wall-clock time of all answers; 0 for stand-ins, which answer instantly) and
        RUNS (of all samples on the device, including those reused from another run's measurements). Empty if neither
        is recorded. Estimated latencies have no timed runs.
    """
    rows = []
    for part, ending in comparable(tidy):
        members = searches(part).members(ending)
        waited = part.calls.groupby(list(IDS))["llm_secs"].sum().rename("llm").reset_index()
        runs = members.merge(part.runs, on=list(IDS)).merge(waited, on=list(IDS), how="left")
        for name, own in runs.groupby("configuration", sort=False):
            means = {LLM: own["llm"].fillna(0).mean(), RUNS: own["timed_secs"].mean(skipna=False)}
            rows.append({"configuration": name, "runs": len(own)} | means)
    return pd.DataFrame(rows).dropna(how="all", subset=[LLM, RUNS])


def time_data(tidy: Tidy) -> pd.DataFrame:
    """`recorded_times` if LLMs took time; with stand-ins there is nothing to compare."""
    table = recorded_times(tidy)
    return table if table[LLM].max() > 0 else table.head(0)


def time_plot(data: pd.DataFrame, caption: str, path_stem: Path) -> None:
    """Draw what `time_data` returned, one bar per configuration; see `drawing.save`."""
    save(_draw, data, caption, path_stem)


def _draw(data: pd.DataFrame, caption: str) -> Figure:
    figure = Figure(figsize=(WIDTH, 0.3 * len(data) + 1.2), layout="constrained")
    draw_caption(figure, caption)
    panel = figure.subplots()
    left = pd.Series(0.0, index=data.index)
    for part, (colour, hatch) in _LOOKS.items():
        panel.barh(data["configuration"], data[part].fillna(0), left=left, color=colour, hatch=hatch, label=part)
        left = left + data[part].fillna(0)
    panel.invert_yaxis()
    panel.set_xlabel("Seconds per run")
    draw_legend(figure, (), [panel], None)
    return figure
