"""Searches compared at equal sample counts, over workloads and seeds.

Means over seeds and workloads are geometric. Searches are compared in pairs of runs with the same workload and seed;
tree searches start from the same initial programs. If a workload is missing, or one of its runs found nothing, so are
all numbers, because they could not be compared; a seed that only one of two searches has is in no pair.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from colt_pipeline.analysis.intervals import Array, stratified_mean
from colt_pipeline.analysis.labels import (
    CONFIGURATION,
    REFERENCE_SET,
    SEARCH_TITLES,
    WORKLOAD_TITLES,
    configurations,
    display_order,
    space_ending,
)
from colt_pipeline.analysis.noise import comparison_floor, mean_floor
from colt_pipeline.analysis.tidy import CONFIRMED, IDS, SPACE, Tidy, all_confirmed
from colt_pipeline.errors import ConfigError

CHECKPOINTS = (8, 16, 32, 64, 128, 256)
MEAN = "Geometric mean"
HELD_OUT = "Geometric mean, held out"
_FIRST_TUNED_ON = ("llama3_8b_attention", "flux_conv")
_WITH_DRAFTS_TUNED_ON = (*_FIRST_TUNED_ON, "batched_matmul_nt", "depthwise_conv")
TUNED_ON = {"colt": _FIRST_TUNED_ON, "colt_plus": _WITH_DRAFTS_TUNED_ON, "drafts_alone": _WITH_DRAFTS_TUNED_ON}
"""Search of this project -> the workloads by whose results its settings were chosen."""

_CONDITIONS = ["target", "device", "measurement"]
"""Runs that differ in any of these are not compared."""
_KEY = ["name", "workload", "seed"]


def tuned_on(names: Iterable[str]) -> set[str]:
    """The workloads that the searches of these names were tuned on."""
    return {workload for name in {*names} & {*TUNED_ON} for workload in TUNED_ON[name]}


@dataclass(frozen=True)
class Searches:
    """All runs of a comparison, by search."""

    names: list[str]
    """In display order."""
    reference: str
    """The one to compare others with: the first search in display order, or the single large model."""
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
            interval, if known), seeds. Samples without a mean are omitted.
        """
        parts = []
        for workload in (MEAN, *self.workloads):
            for name in self.names:
                strata = self.strata(name)
                chosen = strata if workload == MEAN else [strata[self.workloads.index(workload)]]
                numbers = dict(zip(("speedup", "low", "high"), stratified_mean(chosen).exp(), strict=True))
                facts = {"workload": workload, "configuration": name, "family": self.families[name]}
                seeds = min(map(len, chosen))
                parts.append(pd.DataFrame(facts | {"sample": self.log_speedups.columns} | numbers | {"seeds": seeds}))
        return pd.concat(parts).dropna(subset="speedup").reset_index(drop=True)

    def members(self, ending: str) -> pd.DataFrame:
        """The search of each run, in display order: IDS, configuration (name and `ending`), family."""
        runs = self.runs.reset_index()
        runs = runs.sort_values("name", key=lambda names: names.map(self.names.index), kind="stable")
        return runs[list(IDS)].assign(configuration=runs["name"] + ending, family=runs["name"].map(self.families))

    @property
    def groups(self) -> dict[str, list[str]]:
        """The means over workloads: MEAN over all of them and, if a search was tuned on some of them, HELD_OUT."""
        tuned = tuned_on(self.runs["search"])
        held_out = [name for name in self.workloads if name not in tuned]
        return {MEAN: self.workloads} | ({HELD_OUT: held_out} if 0 < len(held_out) < len(self.workloads) else {})

    def strata(self, name: str, workloads: Sequence[str] | None = None) -> list[Array]:
        """Per workload (None = all), the logarithms of speedups: (seeds, samples)."""
        return [self._of(name, workload).to_numpy() for workload in workloads or self.workloads]

    def pairs(self, name: str, other: str, workloads: Sequence[str] | None = None) -> list[tuple[Array, Array]]:
        """Like `strata` for two searches, restricted to the seeds that both have."""
        found = []
        for workload in workloads or self.workloads:
            one, two = self._of(name, workload), self._of(other, workload)
            seeds = one.index.intersection(two.index)
            found.append((one.loc[seeds].to_numpy(), two.loc[seeds].to_numpy()))
        return found

    def confirmed(self) -> Searches | None:
        """These runs with a single number each, the speedup of the program that was confirmed; None if one has none."""
        if not all_confirmed(self.runs):
            return None
        speedups = self.runs["baseline_secs"] / self.runs[CONFIRMED]
        return replace(self, log_speedups=speedups.map(math.log).to_frame())

    def _of(self, name: str, workload: str) -> pd.DataFrame:
        rows = self.log_speedups.index
        chosen = (rows.get_level_values("name") == name) & (rows.get_level_values("workload") == workload)
        return self.log_speedups[chosen].droplevel(["name", "workload"])

    def noise_floor(self, pairs: Sequence[Array], workloads: Sequence[str], noise: pd.DataFrame) -> float:
        """The ratio that the mean over workloads of the means of `pairs` must exceed, see `mean_floor`.

        Args:
            pairs: per workload, as many rows as pairs of runs.
            workloads: their names.
            noise: `Tidy.noise`.
        """
        runs = self.runs.reset_index()
        floors = [comparison_floor(runs[runs["workload"] == name], noise) for name in workloads]
        return mean_floor([mean_floor([floor] * len(own)) for floor, own in zip(floors, pairs, strict=True)])

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
        reference=_reference(labels),
        families=dict(zip(labels["name"], labels["family"], strict=True)),
        workloads=display_order(tidy.runs["workload"], WORKLOAD_TITLES),
        log_speedups=speedups.mask(exhausted, speedups.ffill(axis="columns")).map(math.log),
        runs=runs,
    )


@lru_cache(maxsize=4)
def comparable(tidy: Tidy, across_spaces: bool = False) -> tuple[tuple[Tidy, str], ...]:
    """The runs grouped by target, device, measurement and design space, each with what distinguishes it.

    That is "" if nothing does.

    Args:
        tidy: the runs.
        across_spaces: compare those in different spaces, too. Their latencies compare, but not their speedups: with
            vector math, the unoptimized program is faster.
    """
    found = []
    several = [name for name in _CONDITIONS if tidy.runs[name].nunique() > 1]
    spaces = [SPACE] if tidy.runs[SPACE].nunique() > 1 and not across_spaces else []
    for _, runs in tidy.runs.groupby([*_CONDITIONS, *spaces], sort=False):
        ending = "".join(f", {name}={runs[name].iloc[0]}" for name in several)
        ending += "".join(space_ending(runs[name].iloc[0]) for name in spaces)
        own = runs[list(IDS)]
        parts = {name: getattr(tidy, name).merge(own) for name in ("curves", "calls", "turns")}
        found.append((replace(tidy, runs=runs, **parts), ending))
    return tuple(found)


def _named(labels: pd.DataFrame) -> pd.DataFrame:
    """`labels` in display order with names: the title of the search, or the label if that says more.

    It does if a search has several configurations in a space, or if the only one is a single model.
    """
    alone = (len(labels) == 1) & (labels["models"] == 1)
    labelled = labels.duplicated(["search", SPACE], keep=False) | alone
    labels = labels.assign(
        name=labels["title"].mask(labelled, labels["label"]), family=labels["search"].mask(labelled, labels["family"])
    )
    ranks = {name: rank for rank, name in enumerate(display_order(labels["search"], SEARCH_TITLES))}
    return labels.sort_values("search", key=lambda names: names.map(ranks), kind="stable", ignore_index=True)


def _reference(labels: pd.DataFrame) -> str:
    """The name of the configuration to compare others with."""
    large = labels.loc[labels["model_set"] == REFERENCE_SET, "name"]
    alone = labels["search"].nunique() == 1 and len(large) > 0
    return str(large.iloc[0] if alone else labels["name"].iloc[0])


def wins(one: Array, two: Array) -> Array:
    """1 if `one` is better, 0 if `two` is, 1/2 if they are equal, NaN if either is missing; elementwise."""
    return np.sign(one - two) / 2 + 0.5
