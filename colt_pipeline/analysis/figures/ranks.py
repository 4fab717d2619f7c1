"""How configurations rank, per workload, over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from colt_pipeline.analysis.figures.dots import DOT_COLUMNS, draw_dots
from colt_pipeline.analysis.figures.drawing import save, speedup_name
from colt_pipeline.analysis.intervals import stratified_mean
from colt_pipeline.analysis.labels import workload_title
from colt_pipeline.analysis.searches import comparable, searches
from colt_pipeline.analysis.tidy import Tidy

ALL = "All workloads"
_TICKS = 8  # that fit below a panel


def rank_data(tidy: Tidy) -> pd.DataFrame:
    """Mean rank by final speedup: 1 is the fastest; ties share the mean of their ranks.

    Returns:
        DOT_COLUMNS: the mean over the seeds that all configurations have, for ALL and each workload, with its 95 %
        interval within the possible ranks; where that is unknown, also every seed's rank. Ranks do not show how far
        apart two configurations are. Empty with a single configuration, and where there is one seed, which ranks noise.
    """
    rows = []
    for part, ending in comparable(tidy):
        data = searches(part)
        finals = data.log_speedups.iloc[:, -1].unstack("name")[data.names].dropna()
        ranks = finals.rank(axis="columns", ascending=False)
        own = {name: ranks.xs(name, level="workload") for name in ranks.index.unique("workload")}
        groups = {workload_title(name): [own[name]] for name in data.workloads if name in own}
        if len(groups) == len(data.workloads) > 1:
            groups = {ALL: list(own.values())} | groups
        for title, strata in groups.items() if len(data.names) > 1 else ():
            if min(map(len, strata)) == 1:
                continue
            mean, low, high = stratified_mean([seeds.to_numpy() for seeds in strata])
            low, high = np.maximum(low, 1), np.minimum(high, len(data.names))
            of_seeds = pd.concat(strata, keys=range(len(strata)))  # per stratum and seed
            origin = data.runs["measurement"].iloc[0]
            for name, *numbers in zip(data.names, mean, low, high, strict=True):
                facts = [title, name + ending, data.families[name]]
                rows.append([*facts, None, *numbers, origin])
                if np.isnan(numbers[1]):
                    seeds = of_seeds[name].unstack(0).mean(axis="columns", skipna=False).dropna()
                    rows += [[*facts, seed, rank, np.nan, np.nan, origin] for seed, rank in seeds.items()]
    return pd.DataFrame(rows, columns=list(DOT_COLUMNS)).astype({"seed": "Int64"})


def rank_plot(data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Draw what `rank_data` returned; see `drawing.save`."""
    save(_draw, data, title, key, path_stem)


def _draw(data: pd.DataFrame) -> Figure:
    figure = draw_dots(data, f"Mean rank by\n{speedup_name(data)} (1: fastest)")
    last = data["configuration"].nunique()
    for panel in figure.axes:
        panel.set_xlim(0.5, last + 0.5)
        panel.xaxis.set_major_locator(MultipleLocator(-(-last // _TICKS)))
    return figure
