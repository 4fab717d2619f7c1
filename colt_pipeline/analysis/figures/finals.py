"""Final speedups of every configuration, with their intervals and every seed's own value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from colt_pipeline.analysis.figures.dots import DOT_COLUMNS, draw_dots
from colt_pipeline.analysis.figures.drawing import save, speedup_label
from colt_pipeline.analysis.intervals import stratified_mean
from colt_pipeline.analysis.labels import workload_title
from colt_pipeline.analysis.searches import comparable, searches
from colt_pipeline.analysis.tidy import Tidy


def final_data(tidy: Tidy) -> pd.DataFrame:
    """Speedup at the last sample.

    Returns:
        DOT_COLUMNS: the geometric mean over seeds, and every seed's value, for the means over workloads (see
        `Searches.groups`) and each workload; a seed's value over workloads is missing if it is for one of them. Empty
        with one seed.
    """
    rows = []
    for part, ending in comparable(tidy):
        data = searches(part)
        finals = data.log_speedups.iloc[:, -1]
        groups = {title: own for title, own in data.groups.items() if len(own) > 1}
        groups |= {workload_title(name): [name] for name in data.workloads}
        if data.runs.index.get_level_values("seed").nunique() == 1:
            continue
        for title, workloads in groups.items():
            for name in data.names:
                strata = [own[:, -1:] for own in data.strata(name, workloads)]
                numbers = [float(values[0]) for values in stratified_mean(strata).exp()]
                seeds = np.exp(
                    finals.loc[name].unstack("workload").reindex(columns=workloads).mean(axis=1, skipna=False)
                )
                facts = [title, name + ending, data.families[name]]
                origin = data.runs["measurement"].iloc[0]
                rows.append([*facts, None, *numbers, origin])
                rows += [[*facts, seed, value, np.nan, np.nan, origin] for seed, value in seeds.items()]
    frame = pd.DataFrame(rows, columns=list(DOT_COLUMNS)).astype({"seed": "Int64"})
    return frame.dropna(subset="value", ignore_index=True)


def final_plot(data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Draw what `final_data` returned; see `drawing.save`."""
    save(_draw, data, title, key, path_stem)


def _draw(data: pd.DataFrame) -> Figure:
    return draw_dots(data, speedup_label(data, lines=2))
