"""The single large model and the other configurations, workload by workload: whose programs are faster."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from colt_pipeline.analysis.intervals import Array, stratified_mean
from colt_pipeline.analysis.labels import configurations, unmeasured, workload_title
from colt_pipeline.analysis.noise import comparison_floor, mean_floor
from colt_pipeline.analysis.searches import Searches, comparable, searches
from colt_pipeline.analysis.tidy import Tidy
from colt_pipeline.analysis.verdicts import verdict

_COLUMNS = (
    "workload",
    "configuration",
    "measurement",
    "latency (ms)",
    "reference",
    "verdict",
    "ratio",
    "ratio low",
    "ratio high",
    "noise floor",
    "seeds",
)


def comparisons(tidy: Tidy) -> pd.DataFrame:
    """The best latency of every configuration, compared with the reference, see `Searches.reference`.

    Returns:
        One row per workload and configuration with runs: workload, configuration, measurement, latency (ms) (geometric
        mean over its seeds), reference, verdict (on the reference, see `verdicts`), ratio (this latency / the
        reference's, geometric mean over the seeds that both have) and its 95 % interval (ratio low, ratio high; empty
        if unknown), noise floor (of the ratio, see `mean_floor`), seeds (those that both have). The reference itself
        has only a latency. Empty with a single configuration.
    """
    parts = comparable(tidy, across_spaces=True) if len(configurations(tidy)) > 1 else ()
    rows = [row for part, ending in parts for row in _rows(searches(part), ending, part.noise)]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"seeds": "Int64"})


def _rows(data: Searches, ending: str, noise: pd.DataFrame) -> Iterator[dict[str, Any]]:
    labels = data.runs["label"].groupby("name").first() + ending
    measurement = data.runs["measurement"].iloc[0]
    for workload in data.workloads:
        floor = comparison_floor(data.runs.query("workload == @workload").reset_index(), noise)
        base = _log_secs(data, workload, data.reference)
        for name in data.names:
            own = _log_secs(data, workload, name)
            if own.empty:
                continue
            row: dict[str, Any] = {"workload": workload_title(workload), "configuration": labels[name]}
            row |= {"measurement": f"{measurement}{unmeasured(measurement)}"}
            row |= {"latency (ms)": 1e3 * math.exp(own.mean(skipna=False))}
            if name != data.reference:
                row |= {"reference": labels[data.reference]} | _against(own, base, floor, measurement == "estimated")
            yield row


def _against(own: pd.Series[float], base: pd.Series[float], pair_floor: float, estimated: bool) -> dict[str, Any]:
    """The numbers of a comparison, from ln of the best latencies and the noise floor of a pair of them."""
    seeds = own.index.intersection(base.index)  # different seeds start from different programs
    logs: Array = np.array((own - base)[seeds], dtype=float)[:, None]
    ratio, low, high = (float(values[0]) for values in stratified_mean([logs]).exp())
    floor = mean_floor([pair_floor] * len(seeds))
    return {
        "verdict": verdict(ratio, low, high, floor=floor, seeds=len(seeds), estimated=estimated),
        "ratio": ratio,
        "ratio low": low,
        "ratio high": high,
        "noise floor": floor,
        "seeds": len(seeds),
    }


def _log_secs(data: Searches, workload: str, name: str) -> pd.Series[float]:
    """Seed -> ln of the best latency in seconds, NaN if none was found."""
    runs = data.runs.reset_index()
    own = runs[(runs["workload"] == workload) & (runs["name"] == name)].set_index("seed")
    return own["best_secs"].astype(float).map(math.log)
