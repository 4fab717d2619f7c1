"""Searches compared at equal sample counts, over workloads and seeds.

Means over seeds and workloads are geometric. Searches are compared in pairs of runs with the same workload and seed;
tree searches start from the same initial programs. If a workload or seed is missing, so are all numbers, because they
could not be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from colt_pipeline.analysis.bootstrap import Array, Estimate, stratified_mean
from colt_pipeline.analysis.labels import (
    CONFIGURATION,
    WORKLOAD_TITLES,
    caption_beside_searches,
    configurations,
    display_order,
    one_or_mixed,
    workload_title,
)
from colt_pipeline.analysis.noise import comparison_floor
from colt_pipeline.analysis.tidy import IDS, Tidy
from colt_pipeline.errors import ConfigError

CHECKPOINTS = (16, 32, 64, 128)
REFERENCES = ("colt", "paper")
"""The search to compare others with: the first of these that is present."""
MEAN = "Geometric mean"

_CONDITIONS = ["target", "device", "measurement"]
"""Runs that differ in any of these are not compared."""
_KEY = ["name", "workload", "seed"]


@dataclass(frozen=True)
class Searches:
    """All runs of a comparison, by search."""

    names: list[str]
    """The reference comes first."""
    families: dict[str, str]
    """Name -> family, which determines the colour."""
    workloads: list[str]
    log_speedups: pd.DataFrame
    """Index name, workload, seed; one column per sample. A search that was exhausted keeps its last value; NaN if
    there is no valid program yet or the run has ended."""
    runs: pd.DataFrame
    """The rows of `Tidy.runs`, with the same index."""

    def curves(self) -> pd.DataFrame:
        """The numbers for a figure: the geometric mean over seeds for each workload and over workloads (MEAN).

        Returns:
            Columns workload, configuration (name of the search), family, sample, speedup, low, high (its 95 %
            interval), seeds. Samples without a mean are omitted.
        """
        parts = []
        for workload in (MEAN, *self.workloads):
            for name in self.names:
                strata = self.strata(name)
                chosen = strata if workload == MEAN else [strata[self.workloads.index(workload)]]
                numbers = dict(zip(("speedup", "low", "high"), _geometric(chosen), strict=True))
                facts = {"workload": workload, "configuration": name, "family": self.families[name]}
                seeds = min(map(len, chosen))
                parts.append(pd.DataFrame(facts | {"sample": self.log_speedups.columns} | numbers | {"seeds": seeds}))
        return pd.concat(parts).dropna(subset="speedup").reset_index(drop=True)

    def members(self, ending: str) -> pd.DataFrame:
        """The search of each run: IDS, configuration (name and `ending`), family; the reference comes first."""
        runs = self.runs.reset_index()
        runs = runs.sort_values("name", key=lambda names: names.map(self.names.index), kind="stable")
        return runs[list(IDS)].assign(configuration=runs["name"] + ending, family=runs["name"].map(self.families))

    def strata(self, name: str) -> list[Array]:
        """Per workload, the logarithms of speedups: (seeds, samples)."""
        return [self._of(name, workload).to_numpy() for workload in self.workloads]

    def pairs(self, name: str, other: str) -> list[tuple[Array, Array]]:
        """Like `strata` for two searches, restricted to the seeds that both have."""
        found = []
        for workload in self.workloads:
            one, two = self._of(name, workload), self._of(other, workload)
            seeds = one.index.intersection(two.index)
            found.append((one.loc[seeds].to_numpy(), two.loc[seeds].to_numpy()))
        return found

    def _of(self, name: str, workload: str) -> pd.DataFrame:
        rows = self.log_speedups.index
        chosen = (rows.get_level_values("name") == name) & (rows.get_level_values("workload") == workload)
        return self.log_speedups[chosen].droplevel(["name", "workload"])

    @property
    def checkpoints(self) -> list[int]:
        """Sample counts at which to compare: CHECKPOINTS, and the last."""
        last = int(self.log_speedups.columns.max())
        return [samples for samples in CHECKPOINTS if samples < last] + [last]


@lru_cache(maxsize=8)
def searches(tidy: Tidy) -> Searches:
    """The runs of `tidy` by search; a search with several model sets counts once for each.

    Raises:
        ConfigError: the runs come from several targets or devices, or are partly estimated.
    """
    for column in _CONDITIONS:
        if len(values := sorted(set(tidy.runs[column]))) > 1:
            raise ConfigError(f"searches cannot be compared across {column}s ({', '.join(values)}); separate them")
    labels = _named(configurations(tidy))
    runs = labels.merge(tidy.runs, on=CONFIGURATION).set_index(_KEY)
    speedups = labels.merge(tidy.curves, on=CONFIGURATION).pivot(index=_KEY, columns="sample", values="speedup")
    speedups = speedups.reindex(speedups.index.union(runs.index))  # a run may have no samples at all
    exhausted = (runs["stopped"] == "exhausted").reindex(speedups.index)
    return Searches(
        names=list(labels["name"]),
        families=dict(zip(labels["name"], labels["family"], strict=True)),
        workloads=display_order(tidy.runs["workload"], WORKLOAD_TITLES),
        log_speedups=speedups.mask(exhausted, speedups.ffill(axis="columns")).map(math.log),
        runs=runs,
    )


@lru_cache(maxsize=2)
def comparable(tidy: Tidy) -> tuple[tuple[Tidy, str], ...]:
    """The runs grouped by target, device and measurement, each with what distinguishes it; "" if nothing does."""
    found = []
    several = [name for name in _CONDITIONS if tidy.runs[name].nunique() > 1]
    for _, runs in tidy.runs.groupby(_CONDITIONS, sort=False):
        ending = "".join(f", {name}={runs[name].iloc[0]}" for name in several)
        own = runs[list(IDS)]
        parts = {name: getattr(tidy, name).merge(own) for name in ("curves", "calls", "turns")}
        found.append((replace(tidy, runs=runs, **parts), ending))
    return tuple(found)


def _named(labels: pd.DataFrame) -> pd.DataFrame:
    """`labels` with names, reference first: the name of the search, or the label if a search has several."""
    several = labels["search"].duplicated(keep=False)
    labels = labels.assign(
        name=labels["search"].mask(several, labels["label"]), family=labels["search"].mask(several, labels["family"])
    )
    ranks = {name: rank for rank, name in enumerate(display_order(labels["search"], REFERENCES))}
    order = pd.DataFrame({"rank": labels["search"].map(ranks), "models": -labels["models"]})
    first = order.sort_values(["rank", "models"], kind="stable").index[0]
    return labels.loc[[first, *labels.index.drop(first)]]


def search_caption(tidy: Tidy) -> str:
    """`caption` without the searches, but with what a comparison needs: the model set and the noise."""
    with_llm = configurations(tidy).query("models > 0")
    sets = (
        [one_or_mixed("model sets", [f"model_set={name}" for name in with_llm["model_set"]])] if len(with_llm) else []
    )
    floors = [comparison_floor(own, tidy.noise) for _, own in tidy.runs.groupby("workload")]
    noise = "noise floor unknown"
    if not np.isnan(floors).any():
        ends = sorted({f"×{min(floors):.2f}", f"×{max(floors):.2f}"})
        noise = f"noise floor {' to '.join(ends)} (95 % of pairs of measurements of one program differ by less)"
    return ", ".join([caption_beside_searches(tidy), *sets, noise])


def search_speedups(tidy: Tidy) -> pd.DataFrame:
    """Best speedup so far at the checkpoints.

    Returns:
        Columns workload, samples, and one per search with the geometric mean over seeds. The last rows are the means
        over workloads.
    """
    data = searches(tidy)
    rows = []
    for index, workload in enumerate([*data.workloads, MEAN]):
        part = slice(index, index + 1) if workload != MEAN else slice(None)
        means = {name: _geometric(data.strata(name)[part]).mean for name in data.names}
        for samples in data.checkpoints:
            rows.append(
                {"workload": workload_title(workload), "samples": samples}
                | {name: mean[samples - 1] for name, mean in means.items()}
            )
    return pd.DataFrame(rows)


def search_ratios(tidy: Tidy) -> pd.DataFrame:
    """Every search at the checkpoints, compared with the reference.

    Returns:
        Columns samples, search; speedup (geometric mean over workloads and seeds); reference; ratio (the reference's
        speedup / this one's, geometric mean over pairs); better (fraction of pairs in which the reference is better,
        with workloads weighted equally and ties counting half); low and high (95 % interval) for each of the three;
        pairs (runs of equal workload and seed). The reference itself has only a speedup.
    """
    data = searches(tidy)
    reference = data.names[0]
    rows = []
    for name in data.names:
        estimates = {"speedup": _geometric(data.strata(name))}
        against: dict[str, Any] = {}
        if name != reference:
            pairs = data.pairs(reference, name)
            estimates["ratio"] = _geometric([one - two for one, two in pairs])
            estimates["better"] = stratified_mean([wins(one, two) for one, two in pairs])
            against = {"reference": reference, "pairs": sum(len(one) for one, _ in pairs)}
        for samples in data.checkpoints:
            row = {"samples": samples, "search": name} | against
            for what, estimate in estimates.items():
                point = [float(values[samples - 1]) for values in estimate]
                row |= dict(zip((what, f"{what} low", f"{what} high"), point, strict=True))
            rows.append(row)
    numbers = [f"{what}{end}" for what in ("speedup", "ratio", "better") for end in ("", " low", " high")]
    columns = ["samples", "search", *numbers[:3], "reference", *numbers[3:], "pairs"]
    table = pd.DataFrame(rows, columns=columns).astype({"pairs": "Int64"})
    return table.sort_values("samples", kind="stable", ignore_index=True)


def _geometric(strata: Sequence[Array]) -> Estimate:
    return stratified_mean(strata).exp()


def wins(one: Array, two: Array) -> Array:
    """1 if `one` is better, 0 if `two` is, 1/2 if they are equal, NaN if either is missing; elementwise."""
    return np.sign(one - two) / 2 + 0.5
