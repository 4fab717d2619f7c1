"""What an experiment compares, as determined by its runs, and the conditions that all of them share."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd

from colt_pipeline.analysis.labels import CONFIGURATION, backend_label, samples_are_calls, space_titles, unmeasured
from colt_pipeline.analysis.noise import comparison_floor
from colt_pipeline.analysis.tidy import Tidy

Compared = Literal["model_sets", "searches"]
MODEL_SETS: Compared = "model_sets"
SEARCHES: Compared = "searches"


def compared(tidy: Tidy) -> Compared:
    """SEARCHES if there are several, else MODEL_SETS."""
    return SEARCHES if tidy.runs["search"].nunique() > 1 else MODEL_SETS


def key(tidy: Tidy) -> str:
    """The conditions of the runs in a line: what answered, how latencies were obtained, on what, in which design space,
    how often.

    It is shown below the title of every figure and table.
    """
    runs = tidy.runs
    parts = [
        ", ".join(sorted({backend_label(name) for name in (*runs["llm_backend"], *tidy.calls["backend"])})),
        " and ".join(f"{name} latency{unmeasured(name)}" for name in sorted(set(runs["measurement"]))),
        ", ".join(sorted(set(runs["device"]))),
        space_titles(runs["space"]),
        count("seed", seed_counts(tidy)),
        count("call" if samples_are_calls(runs) else "sample", runs["samples"]),
        f"warm-up {_alternatives(runs['warmup_samples'])}",
    ]
    if compared(tidy) == SEARCHES and len(tidy.calls):
        parts.append(f"model set {_alternatives(tidy.calls['model_set'])}")
    if noise := noise_range(tidy):
        parts.append(f"noise {noise}")
    return " · ".join(parts)


def seed_counts(tidy: Tidy) -> pd.Series[Any]:
    """How many seeds every configuration has on every workload."""
    return tidy.runs.groupby([*CONFIGURATION, "workload"])["seed"].nunique()


def one_seed(tidy: Tidy) -> bool:
    """Whether no configuration has several seeds on a workload; then no interval, verdict or rank is known."""
    return bool(seed_counts(tidy).max() == 1)


def count(noun: str, counts: pd.Series[Any]) -> str:
    """The lowest and the highest of the counts, such as "1 to 3 seeds"."""
    low, high = int(counts.min()), int(counts.max())
    amount = str(low) if low == high else f"{low} to {high}"
    return f"{amount} {noun}{'' if high == 1 else 's'}"


def noise_range(tidy: Tidy) -> str:
    """By how much two measurements of one program may differ, such as "×1.60 to ×1.80".

    Returns:
        The floors of the workloads (see `comparison_floor`) from the lowest to the highest; "" if one is unknown, or if
        latencies are estimates, which have no noise.
    """
    floors = [comparison_floor(own, tidy.noise) for _, own in tidy.runs.groupby("workload")]
    if np.isnan(floors).any() or max(floors) == 1:
        return ""
    return " to ".join(dict.fromkeys(f"×{floor:.2f}" for floor in (min(floors), max(floors))))


def _alternatives(values: pd.Series[Any]) -> str:
    return " or ".join(map(str, sorted(set(values))))
