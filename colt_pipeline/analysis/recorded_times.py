"""Where a run's recorded time went: LLM answers and timed kernel runs. Nothing else is recorded."""

from __future__ import annotations

import pandas as pd

from colt_pipeline.analysis.searches import comparable, searches
from colt_pipeline.analysis.tidy import IDS, Tidy

LLM, RUNS = "LLM answers (s)", "timed runs (s)"


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
            timed = own["timed_secs"].where(own["measurement"] == "measured")
            means = {LLM: own["llm"].fillna(0).mean(), RUNS: timed.mean(skipna=False)}
            rows.append({"configuration": name, "runs": len(own)} | means)
    return pd.DataFrame(rows).dropna(how="all", subset=[LLM, RUNS])


def time_data(tidy: Tidy) -> pd.DataFrame:
    """`recorded_times` if LLMs took time; with stand-ins there is nothing to compare."""
    table = recorded_times(tidy)
    return table if table[LLM].max() > 0 else table.head(0)
