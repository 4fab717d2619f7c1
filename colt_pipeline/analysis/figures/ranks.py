"""How configurations rank, per workload, over seeds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from colt_pipeline.analysis.figures.drawing import WIDTH, draw_legend, draw_point, draw_title, point_styles, save
from colt_pipeline.analysis.intervals import stratified_mean
from colt_pipeline.analysis.labels import workload_title
from colt_pipeline.analysis.searches import comparable, searches
from colt_pipeline.analysis.tidy import Tidy

ALL = "All workloads"

_COLUMNS = ("workload", "configuration", "family", "rank", "low", "high", "seeds")


def rank_data(tidy: Tidy) -> pd.DataFrame:
    """Mean rank by final speedup: 1 is the fastest; ties share the mean of their ranks.

    Returns:
        Columns workload (its title, or ALL), configuration, family, rank (mean over the seeds that all configurations
        have), low, high (its 95 % interval; missing with one seed), seeds. Ranks do not show how far apart two
        configurations are. Empty with a single configuration.
    """
    rows = []
    for part, ending in comparable(tidy):
        data = searches(part)
        finals = data.log_speedups.iloc[:, -1].unstack("name")[data.names].dropna()
        ranks = finals.rank(axis="columns", ascending=False)
        strata = {name: own.to_numpy() for name, own in ranks.groupby("workload")}
        groups = {workload_title(name): [strata[name]] for name in data.workloads if name in strata}
        if len(groups) == len(data.workloads) > 1:
            groups[ALL] = list(strata.values())
        for title, chosen in groups.items() if len(data.names) > 1 else ():
            for name, *numbers in zip(data.names, *stratified_mean(chosen), strict=True):
                facts = {"workload": title, "configuration": name + ending, "family": data.families[name]}
                rows.append(
                    facts | dict(zip(("rank", "low", "high"), numbers, strict=True)) | {"seeds": min(map(len, chosen))}
                )
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def rank_plot(data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Draw what `rank_data` returned, one band per workload; see `drawing.save`."""
    save(_draw, data, title, key, path_stem)


def _draw(data: pd.DataFrame, title: str, key: str) -> Figure:
    workloads, names = list(data["workload"].unique()), list(data["configuration"].unique())
    figure = Figure(figsize=(WIDTH, 0.14 * len(workloads) * (len(names) + 1) + 1.4), layout="constrained")
    draw_title(figure, title, key)
    panel, styles = figure.subplots(), point_styles(data)
    for row in data.to_dict("records"):
        name = str(row["configuration"])
        place = workloads.index(row["workload"]) + (names.index(name) + 1) / (len(names) + 1) - 0.5
        draw_point(panel, (row["rank"], place), (row["low"], row["high"]), upright=False, label=name, **styles[name])
    for index in range(1, len(workloads)):
        panel.axhline(index - 0.5, color="0.6", linewidth=0.6)
    panel.set_yticks(range(len(workloads)), workloads)
    panel.set_ylim(len(workloads) - 0.5, -0.5)
    panel.yaxis.grid(False)
    panel.xaxis.set_major_locator(MultipleLocator(1))
    panel.set_xlabel("Mean rank by final speedup (1: fastest)")
    several = data["seeds"].max() > 1
    draw_legend(figure, (), [panel], "bar: 95 % interval over seeds" if several else "one seed: no interval")
    return figure
