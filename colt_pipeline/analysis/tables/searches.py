"""Searches at equal sample counts: their speedups, and each compared with the reference."""

from __future__ import annotations

from typing import Any

import pandas as pd

from colt_pipeline.analysis.intervals import stratified_mean, stratified_share
from colt_pipeline.analysis.labels import workload_title
from colt_pipeline.analysis.searches import searches, wins
from colt_pipeline.analysis.tidy import Tidy


def search_speedups(tidy: Tidy) -> pd.DataFrame:
    """Best speedup so far at the checkpoints.

    Returns:
        Columns workload, samples, and one per search with the geometric mean over seeds. The last rows are the means
        over workloads, see `Searches.groups`.
    """
    data = searches(tidy)
    rows = []
    for title, chosen in ({workload_title(name): [name] for name in data.workloads} | data.groups).items():
        means = {name: stratified_mean(data.strata(name, chosen)).exp().mean for name in data.names}
        for samples in data.checkpoints:
            numbers = {name: mean[samples - 1] for name, mean in means.items()}
            rows.append({"workload": title, "samples": samples} | numbers)
    return pd.DataFrame(rows)


def search_ratios(tidy: Tidy) -> pd.DataFrame:
    """Every search at the checkpoints, compared with the reference.

    Returns:
        Columns workloads (what is averaged, see `Searches.groups`), samples, search; speedup (geometric mean over
        workloads and seeds); reference; ratio (the reference's speedup / this one's, geometric mean over pairs);
        better (fraction of pairs in which the reference is better, with workloads weighted equally and ties counting
        half); low and high (95 % interval, if known) for each of the three; noise floor (of the ratio, see
        `mean_floor`); pairs (runs of equal workload and seed). The reference itself has only a speedup.
    """
    data = searches(tidy)
    rows = []
    for group, workloads in data.groups.items():
        for samples in data.checkpoints:
            for name in data.names:
                estimates = {"speedup": stratified_mean(data.strata(name, workloads)).exp()}
                against: dict[str, Any] = {}
                if name != data.reference:
                    pairs = data.pairs(data.reference, name, workloads)
                    ratios = [one - two for one, two in pairs]
                    estimates["ratio"] = stratified_mean(ratios).exp()
                    estimates["better"] = stratified_share([wins(one, two) for one, two in pairs])
                    against = {"reference": data.reference, "pairs": sum(map(len, ratios))}
                    against["noise floor"] = data.noise_floor(ratios, workloads, tidy.noise)
                row = {"workloads": group, "samples": samples, "search": name} | against
                for what, estimate in estimates.items():
                    point = [float(values[samples - 1]) for values in estimate]
                    row |= dict(zip((what, f"{what} low", f"{what} high"), point, strict=True))
                rows.append(row)
    numbers = [f"{what}{end}" for what in ("speedup", "ratio", "better") for end in ("", " low", " high")]
    columns = ["workloads", "samples", "search", *numbers[:3], "reference", *numbers[3:], "noise floor", "pairs"]
    return pd.DataFrame(rows, columns=columns).astype({"pairs": "Int64"})
