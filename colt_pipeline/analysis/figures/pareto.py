"""What a configuration spends on LLMs versus what it finds, and the Pareto front of both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from colt_pipeline.analysis.figures.drawing import (
    PANEL_HEIGHT,
    WIDTH,
    draw_legend,
    draw_point,
    point_styles,
    save,
    speedup_label,
)
from colt_pipeline.analysis.intervals import stratified_mean
from colt_pipeline.analysis.searches import comparable, searches
from colt_pipeline.analysis.tidy import IDS, Tidy
from colt_pipeline.records import RANDOM

CALLS, PAID, ESTIMATED = "LLM calls", "USD (paid)", "USD (estimated)"
"""Kinds of cost: calls including course alterations; USD at recorded prices; or, if unpaid, at configured prices."""

_COLUMNS = ("configuration", "family", "cost", "amount", "speedup", "low", "high", "seeds", "measurement", "front")


def pareto_data(tidy: Tidy) -> pd.DataFrame:
    """Cost and quality of every configuration.

    Returns:
        Columns configuration, family, cost (CALLS, and PAID or ESTIMATED), amount (sum over workloads of the mean over
        seeds), speedup (geometric mean over workloads and seeds), low, high (its 95 % interval, if known), seeds,
        measurement, front (see `on_front`; with one seed, nothing is on it). Random answers and searches without LLM
        cost nothing. Empty if no LLM is called or there is only one configuration; amounts in USD are omitted if a
        model has no price.
    """
    rows = []
    for part, ending in comparable(tidy):
        data = searches(part)
        spent = part.calls.assign(total=part.calls["regular_calls"] + part.calls["course_alterations"])
        paid = bool(spent["usd"].notna().any())
        spent["dollars"] = spent["usd"].fillna(spent["estimated_usd"])
        spent.loc[spent["backend"] == RANDOM, ["total", "dollars"]] = 0
        sums = spent.groupby(list(IDS))[["total", "dollars"]].sum(skipna=False).reset_index()
        runs = data.members(ending).merge(sums, on=list(IDS), how="left", indicator=True)
        runs.loc[runs["_merge"] == "left_only", ["total", "dollars"]] = 0
        for column, cost in (("total", CALLS), ("dollars", PAID if paid else ESTIMATED)):
            means = runs.groupby(["configuration", "workload"])[column].mean()
            amounts = means.groupby("configuration").sum(min_count=len(data.workloads))
            found = []
            for name in data.names:
                strata = [rows[:, -1:] for rows in data.strata(name)]
                speedup, low, high = (float(values[0]) for values in stratified_mean(strata).exp())
                facts = {"configuration": name + ending, "family": data.families[name], "cost": cost}
                numbers = {"amount": amounts[name + ending], "speedup": speedup, "low": low, "high": high}
                origin = {"seeds": min(map(len, strata)), "measurement": data.runs["measurement"].iloc[0]}
                found.append(facts | numbers | origin)
            own = pd.DataFrame(found).dropna(subset=["amount", "speedup"])
            if len(own) > 1 and own["amount"].max() > 0:
                front = own["seeds"].min() > 1 and on_front(own["amount"].tolist(), own["speedup"].tolist())
                rows.append(own.assign(front=front))
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=list(_COLUMNS))


def on_front(costs: Sequence[float], qualities: Sequence[float]) -> list[bool]:
    """For each point, whether no other is at least as good in both respects and better in one."""
    points = np.array([costs, [-quality for quality in qualities]]).T
    return [
        not ((points <= point).all(axis=1) & (points < point).any(axis=1)).any()  # lower is better in both columns
        for point in points
    ]


def pareto_plot(data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Draw what `pareto_data` returned: one panel per kind of cost, a front ringed and joined; see `drawing.save`."""
    save(_draw, data, title, key, path_stem)


def _draw(data: pd.DataFrame) -> Figure:
    costs = list(data["cost"].unique())
    figure = Figure(figsize=(WIDTH, 1.5 * PANEL_HEIGHT + 0.4), layout="constrained")
    panels: list[Axes] = list(figure.subplots(1, len(costs), squeeze=False, sharey=True).flatten())
    styles = point_styles(data)
    for panel, cost in zip(panels, costs, strict=True):
        own = data[data["cost"] == cost]
        for row in own.to_dict("records"):
            name, at = str(row["configuration"]), (row["amount"], row["speedup"])
            draw_point(panel, at, (row["low"], row["high"]), upright=True, label=name, **styles[name])
        front = own[own["front"]].sort_values("amount")
        line: dict[str, Any] = {
            "color": "0.4",
            "linewidth": 0.8,
            "linestyle": "--",
            "zorder": 0,
            "drawstyle": "steps-post",
        }
        line |= {"marker": "o", "markersize": 12, "markerfacecolor": "none", "markeredgecolor": "0.4"}
        if len(front):
            panel.plot(front["amount"], front["speedup"], label="Pareto front", **line)
        panel.set_xlabel(f"{cost}, one seed of all workloads")
        panel.set_xlim(-0.05 * own["amount"].max(), 1.1 * own["amount"].max())
        panel.set_ylim(0, 1.1 * float(data[["speedup", "high"]].to_numpy(dtype=float, na_value=0.0).max()))
    panels[0].set_ylabel(f"{speedup_label(data, lines=2)},\ngeometric mean over workloads")
    title = "one seed" if data["seeds"].max() == 1 else "geometric mean over seeds"
    draw_legend(figure, (), panels, f"{title}; bar: 95 % interval" if data["low"].notna().any() else title)
    return figure
