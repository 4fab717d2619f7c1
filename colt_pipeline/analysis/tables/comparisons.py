"""Which configurations found faster programs than the single large model, by more than the machine's noise."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from colt_pipeline.analysis.labels import (
    CONFIGURATION,
    WORKLOAD_TITLES,
    configurations,
    display_order,
    unmeasured,
    workload_title,
)
from colt_pipeline.analysis.noise import comparison_floor
from colt_pipeline.analysis.tidy import Tidy

REFERENCE_SET = "large"

_COLUMNS = (
    "workload",
    "configuration",
    "measurement",
    "latency (ms)",
    "reference",
    "ratio",
    "noise floor",
    "verdict",
)


def comparisons(tidy: Tidy) -> pd.DataFrame:
    """The best latency of every configuration compared with its reference, the single large model; see `_references`.

    Returns:
        One row per workload and configuration with runs: workload, configuration, measurement, latency (ms) (mean over
        seeds), reference (a configuration), ratio (the reference's latency / this one's, means over the seeds that both
        have), noise floor (see `comparison_floor`) and verdict (see `verdict`; "reference" for the reference itself).
        Without a ratio there is no verdict.
    """
    labels = configurations(tidy)
    references = _references(labels)
    runs = labels.merge(tidy.runs, on=CONFIGURATION)
    rows = []
    for workload in display_order(runs["workload"], WORKLOAD_TITLES):
        of_workload = runs[runs["workload"] == workload]
        for label, own in of_workload.groupby("label", sort=False):
            reference = references[str(label)]
            base = of_workload[of_workload["label"] == reference]
            row = _row(own, base, tidy.noise)
            if label == reference:
                row["verdict"] = "reference"
            rows.append(row | {"workload": workload_title(workload), "configuration": label, "reference": reference})
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def verdict(ratio: float, floor: float) -> str | None:
    """What can be concluded from a latency that is 1 / `ratio` of the reference's.

    Returns:
        "faster" or "slower" beyond the floor; otherwise "within noise", or "equal" if the floor is 1 (no noise);
        "noise unknown" without a floor (NaN), and None without a ratio (NaN).
    """
    if math.isnan(ratio):
        return None
    if math.isnan(floor):
        return "noise unknown"
    if ratio > floor:
        return "faster"
    if 1 / ratio > floor:
        return "slower"
    return "equal" if floor == 1 else "within noise"


def _row(own: pd.DataFrame, base: pd.DataFrame, noise: pd.DataFrame) -> dict[str, Any]:
    seeds = set(own["seed"]) & set(base["seed"])  # different seeds start from different programs
    pair = [runs[runs["seed"].isin(seeds)] for runs in (own, base)]
    mine, theirs = (_mean_secs(runs) for runs in pair)
    ratio, floor = theirs / mine, comparison_floor(pd.concat(pair), noise)
    return {
        "measurement": " / ".join(f"{name}{unmeasured(name)}" for name in sorted(set(own["measurement"]))),
        "latency (ms)": 1e3 * _mean_secs(own),
        "ratio": ratio,
        "noise floor": floor,
        "verdict": verdict(ratio, floor),
    }


def _mean_secs(runs: pd.DataFrame) -> float:
    """NaN if there are no runs or one of them found nothing, because a mean over fewer seeds is not comparable."""
    return float(runs["best_secs"].mean(skipna=False))


def _references(labels: pd.DataFrame) -> dict[str, str]:
    """Label of a configuration -> label of its reference, which always has the same target.

    The reference, also of searches without LLM, is the single large model, preferably under the same search and with
    the same largest model. If there is no large model, it is the target's first configuration.
    """
    references = {}
    for row in labels.to_dict("records"):
        same_target = [other for other in labels.to_dict("records") if other["target"] == row["target"]]
        large = [other for other in same_target if other["model_set"] == REFERENCE_SET] or same_target[:1]
        differences = [(other["search"] != row["search"], other["largest"] != row["largest"]) for other in large]
        references[row["label"]] = large[differences.index(min(differences))]["label"]
    return references
