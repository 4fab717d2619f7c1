"""The same runs made by stand-ins and by real models, side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from colt_pipeline.analysis.compared import key
from colt_pipeline.analysis.labels import CONFIGURATION, MARKS, configurations, workload_title
from colt_pipeline.analysis.report.sections import Pipeline, Results, Section, Table
from colt_pipeline.analysis.tables.files import shown
from colt_pipeline.analysis.tidy import IDS, Tidy, read_tidy
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import NO_MODEL

_CAPTION = (
    "Runs of the same name, made by stand-ins and by the models whose names they bear. Calls, course alterations among "
    "them, and USD are sums over seeds; the best speedup is the geometric mean over seeds. Stand-ins cost nothing: "
    "their USD are what their tokens, which are estimates, would cost at list prices."
)


def with_real_models(results: Results, beside: Path) -> Results:
    """The results with a table in each section whose runs stand-ins made here and real models below `beside`, or the
    other way round.

    Args:
        results: the results of the report.
        beside: contains data/NAME of the same experiments.

    Raises:
        ConfigError: nothing below `beside` can be compared, or a file there is invalid.
    """
    sections = tuple(
        _compared(section, beside / "data" / section.name, results.pipeline) for section in results.sections
    )
    if sections == results.sections:
        raise ConfigError(
            f"no experiment has the same runs from stand-ins in one and from real models in the other of the report's "
            f"results and {beside}; name a results directory with data/EXPERIMENT, or leave out --beside"
        )
    return replace(results, sections=sections)


def _compared(section: Section, data: Path, pipeline: Pipeline) -> Section:
    if not data.is_dir():
        return section
    pair = sorted((section.tidy, read_tidy(data)), key=_has_real_models)
    if [_has_real_models(tidy) for tidy in pair] != [False, True]:
        return section
    stand_ins, real = pair
    frame = stand_ins_and_real_models(stand_ins, real)
    if frame.empty:
        return section
    table = Table(
        name="real_models",
        title="Stand-ins and real models",
        caption=_CAPTION,
        key=f"stand-ins: {key(stand_ins)}; real models: {key(real)}",
        command=f"{pipeline.command('report')} --beside",
        cells=shown(frame),
    )
    return replace(section, tables=(*section.tables, table))


def _has_real_models(tidy: Tidy) -> bool:
    return bool(set(tidy.calls["backend"]) - {*MARKS, NO_MODEL.provider})


def stand_ins_and_real_models(stand_ins: Tidy, real: Tidy) -> pd.DataFrame:
    """One row per workload and configuration that both have: number of seeds, then calls, best speedup and USD of each.

    Only runs that both have are counted.
    """
    both = stand_ins.runs[list(IDS)].merge(real.runs[list(IDS)])
    labels = configurations(real)[[*CONFIGURATION, "label"]]
    sides = {"stand-ins": _of_runs(stand_ins, "estimated_usd"), "real models": _of_runs(real, "usd")}
    rows = []
    for (workload, *configuration), own in both.groupby(["workload", *CONFIGURATION], sort=False):
        label = labels.loc[(labels[CONFIGURATION] == configuration).all(axis="columns"), "label"].iloc[0]
        row = {"workload": workload_title(str(workload)), "models": label, "seeds": len(own)}
        runs = {side: own.merge(frame, on=list(IDS)) for side, frame in sides.items()}
        row |= {f"calls, {side}": int(of_side["calls"].sum()) for side, of_side in runs.items()}
        row |= {f"speedup, {side}": np.exp(np.log(of_side["speedup"]).mean()) for side, of_side in runs.items()}
        row |= {f"USD, {side}": of_side["usd"].sum(skipna=False) for side, of_side in runs.items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _of_runs(tidy: Tidy, usd: str) -> pd.DataFrame:
    """IDS, calls, speedup and USD (empty if a price is unknown) of each run."""
    runs = tidy.runs[[*IDS, "speedup"]].assign(calls=tidy.runs["regular_calls"] + tidy.runs["course_alterations"])
    costs = tidy.calls.groupby(list(IDS))[usd].agg(lambda column: column.sum(skipna=False)).rename("usd").reset_index()
    return runs.merge(costs, on=list(IDS), how="left")
