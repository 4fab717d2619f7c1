"""Where the recorded time of a run went: answers of LLMs and timed runs of kernels. Nothing else is recorded."""

from __future__ import annotations

import pandas as pd

from colt_pipeline.analysis.searches import comparable, searches
from colt_pipeline.analysis.tidy import IDS, Tidy

LLM, RUNS = "LLM answers (s)", "timed runs (s)"


def recorded_times(tidy: Tidy) -> pd.DataFrame:
    """Seconds per run, mean over workloads and seeds.

    Returns:
        Columns configuration, runs, LLM (wall-clock of all its answers; 0 for stand-ins, which answer at once) and
        RUNS (of its samples on the device, those among them that it took from another run's measurements too). Empty
        where neither is recorded. Estimated latencies have no timed runs.
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
    """`recorded_times` where LLMs took time: beside stand-ins nothing is to be compared."""
    table = recorded_times(tidy)
    return table if table[LLM].max() > 0 else table.head(0)
