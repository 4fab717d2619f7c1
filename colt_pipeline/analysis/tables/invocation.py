"""The paper's tables from tidy frames.

Invocation rate: a model's regular calls / all regular calls.
Course alteration rate: course alterations / regular calls of the small models (all but the largest of the set).
Largest (total): (its regular calls + course alterations) / (all regular calls + course alterations).
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from colt_pipeline.analysis.labels import (
    CONFIGURATION,
    WORKLOAD_TITLES,
    configurations,
    display_order,
    model_label,
    space_ending,
    workload_title,
)
from colt_pipeline.analysis.searches import MEAN
from colt_pipeline.analysis.tidy import SPACE, Tidy

ALTERATION_RATE = "Course alteration rate"


def invocation_rates(tidy: Tidy) -> pd.DataFrame:
    """Table 1: how often each model was called, in percent, pooled over workloads and seeds.

    Returns:
        Column `model` (the models, then ALTERATION_RATE, then the totals of the largest models), and one column per
        model set with more than one model; models outside a set have no value there.
    """
    calls = _labelled_calls(tidy)
    calls = calls[calls["models"] > 1]
    models = _models(calls)
    totals = [f"{name} (total)" for name in models if name in set(calls.loc[calls["is_largest"], "name"])]
    table = pd.DataFrame(index=pd.Index([*models, ALTERATION_RATE, *totals], name="model"))
    for label, own in calls.groupby("short_label", sort=False):
        by_model = own.groupby("name")["regular_calls"].sum()
        regular, altered = int(own["regular_calls"].sum()), int(own["course_alterations"].sum())
        of_small = int(own.loc[~own["is_largest"], "regular_calls"].sum())
        rates = {str(name): _percent(count, regular) for name, count in by_model.items()}
        rates[ALTERATION_RATE] = _percent(altered, of_small)
        for largest in own.loc[own["is_largest"], "name"].unique():
            rates[f"{largest} (total)"] = _percent(by_model[largest] + altered, regular + altered)
        table[label] = pd.Series(rates)
    return table.reset_index()


def call_counts(tidy: Tidy) -> pd.DataFrame:
    """Table 3: LLM calls per workload and model set, summed over seeds.

    Returns:
        Columns workload, configuration, one per model (regular calls; empty outside its sets), course alterations.
    """
    calls = _labelled_calls(tidy)
    rows = []
    for workload in _workloads(tidy):
        own_workload = calls[calls["workload"] == workload]
        for label, own in own_workload.groupby("label", sort=False):
            rows.append(
                {"workload": workload_title(workload), "configuration": label}
                | own.groupby("name")["regular_calls"].sum().to_dict()
                | {"course alterations": own["course_alterations"].sum()}
            )
    counts = [*_models(calls), "course alterations"]
    return pd.DataFrame(rows, columns=["workload", "configuration", *counts]).astype(dict.fromkeys(counts, "Int64"))


def speedups(tidy: Tidy) -> pd.DataFrame:
    """Final speedup over the unoptimized program (geometric mean over seeds), and the geometric mean over workloads.

    Returns:
        Column `workload` and one column per configuration. A cell is empty if a run is missing or found nothing valid,
        and so is the geometric mean below it, because a mean over fewer workloads would not be comparable.
    """
    table = _per_workload(tidy, "speedup")
    means = table.apply(geometric_mean)
    return _titled(pd.concat([table, means.to_frame(MEAN).T]))


def best_latencies(tidy: Tidy) -> pd.DataFrame:
    """Latency of the unoptimized program and the best one found, in milliseconds (geometric mean over seeds).

    Returns:
        Columns workload, unoptimized (one per target and design space if there are several), and one per configuration.
    """
    best = _per_workload(tidy, "best_secs")
    targets, spaces = (tidy.runs[name].nunique() > 1 for name in ("target", SPACE))
    names = [
        "unoptimized" + (f", target={target}" if targets else "") + (space_ending(space) if spaces else "")
        for target, space in zip(tidy.runs["target"], tidy.runs[SPACE], strict=True)
    ]
    before = tidy.runs.assign(name=names).pivot_table("baseline_secs", "workload", "name", geometric_mean)
    return _titled(1e3 * pd.concat([before.loc[best.index], best], axis="columns"))


def geometric_mean(values: pd.Series[Any]) -> float:
    """NaN if a value is missing, because a mean over fewer would not be comparable."""
    return math.exp(values.astype(float).map(math.log).mean(skipna=False))


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else math.nan


def _labelled_calls(tidy: Tidy) -> pd.DataFrame:
    """Calls in display order of their configurations, with `configurations` and the model's displayed `name`."""
    calls = configurations(tidy).merge(tidy.calls, on=CONFIGURATION, how="inner")
    return calls.assign(name=[model_label(*pair) for pair in zip(calls["model"], calls["backend"], strict=True)])


def _models(calls: pd.DataFrame) -> list[str]:
    """Displayed names, the model with the most parameters first."""
    return list(calls.sort_values(["parameters_b", "name"], ascending=[False, True])["name"].unique())


def _workloads(tidy: Tidy) -> list[str]:
    return display_order(tidy.runs["workload"], WORKLOAD_TITLES)


def _per_workload(tidy: Tidy, field: str) -> pd.DataFrame:
    """Geometric mean of `field` over seeds: workloads x configuration labels, both in display order."""
    labels = configurations(tidy)
    cells = labels.merge(tidy.runs, on=CONFIGURATION).groupby(["workload", "label"])[field].agg(geometric_mean)
    return cells.unstack("label").reindex(index=_workloads(tidy), columns=labels["label"])


def _titled(table: pd.DataFrame) -> pd.DataFrame:
    titles = [workload_title(str(workload)) for workload in table.index]
    table = table.reset_index(drop=True)
    table.columns.name = None
    table.insert(0, "workload", titles)
    return table
