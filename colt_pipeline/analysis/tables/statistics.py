"""Every configuration (a search, or a model set) by numbers that a single lucky run cannot decide.

Quantities, all of whole runs, all better when higher:

- share of the best speedup: final speedup / the best of any run of the same workload; its interquartile mean over
  workloads and seeds. A share, for speedups of different workloads differ so much that their middle half would be a
  choice of workloads.
- area under the curve: the mean over samples of ln(best speedup so far) / ln(best speedup of any run for the workload).
  1 is the best program from the first sample on, 0 the unoptimized one to the end, which counts until a faster one is
  found. It tells early success from late, which a final speedup does not.
- sample efficiency: final speedup / samples, the paper's; its geometric mean.
- paired speedup ratio: the configuration's final speedup / the other's, of runs of one workload and seed; its geometric
  mean.
- probability of improvement: the share of pairs of runs of one workload and seed in which the configuration ends faster
  than the other; equal counts half, workloads have equal weight.

Intervals resample seeds within each workload, see `bootstrap`. They say nothing of the noise of measurements, and where
every pair agrees the interval of a probability is a single point, however few the pairs are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from colt_pipeline.analysis.bootstrap import Array, Estimate, stratified_interquartile_mean, stratified_mean
from colt_pipeline.analysis.searches import Searches, comparable, searches, wins
from colt_pipeline.analysis.tidy import Tidy

SHARE = "share of the best speedup"
AREA = "area under the curve"
EFFICIENCY = "sample efficiency"
RATIO = "paired speedup ratio"
IMPROVEMENT = "probability of improvement"

KNOWN, ONE_SEED, MISSING = "95 %", "unknown: one seed", "unknown: runs are missing"
"""What is said of an interval."""

_COLUMNS = ("quantity", "configuration", "over", "value", "low", "high", "interval", "runs")


def statistics(tidy: Tidy) -> pd.DataFrame:
    """All quantities of all configurations, and of each pair of them that can be compared.

    Returns:
        Columns quantity (see above), configuration, over (the one that it is compared with; of pairs only),
        value, low and high (its 95 % interval), interval (KNOWN, ONE_SEED or MISSING), runs (of two configurations:
        pairs of runs). A value is missing where a workload or a seed is, or a run found nothing; the area under the
        curve needs no valid program.
    """
    rows = [row for part, ending in comparable(tidy) for row in _rows(searches(part), ending)]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    order = {name: rank for rank, name in enumerate((SHARE, AREA, EFFICIENCY, RATIO, IMPROVEMENT))}
    return table.sort_values("quantity", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def area_under_curve(log_speedups: Array, log_best: Array) -> Array:
    """Per run the area under the curve.

    Args:
        log_speedups: (runs, samples): ln of the best speedup so far; NaN before the first valid program, and after the
            last sample of a run that is shorter than others.
        log_best: (runs,): ln of the best speedup of any run of the same workload.

    Returns:
        (runs,): NaN for the shorter ones, and if nothing was faster than the unoptimized program.
    """
    found = np.maximum.accumulate(~np.isnan(log_speedups), axis=1)
    reached = np.where(found, np.maximum(log_speedups, 0.0), 0.0)  # of NaN and 0 the maximum is NaN
    area: Array = reached.mean(axis=1) / np.where(log_best > 0, log_best, np.nan)
    return area


def _rows(data: Searches, ending: str) -> Iterator[dict[str, Any]]:
    numbers = _numbers(data)
    for name in data.names:
        facts = {"configuration": name + ending}
        shares, areas, efficiencies = (_strata(numbers[quantity], name, data.workloads) for quantity in numbers)
        yield _row(facts | {"quantity": SHARE}, stratified_interquartile_mean(shares), shares)
        yield _row(facts | {"quantity": AREA}, stratified_mean(areas), areas)
        yield _row(facts | {"quantity": EFFICIENCY}, stratified_mean(efficiencies).exp(), efficiencies)
    for name, other in combinations(data.names, 2):
        finals = [(one[:, -1:], two[:, -1:]) for one, two in data.pairs(name, other)]
        facts = {"configuration": name + ending, "over": other + ending}
        ratios = [one - two for one, two in finals]
        yield _row(facts | {"quantity": RATIO}, stratified_mean(ratios).exp(), ratios)
        won = [wins(one, two) for one, two in finals]
        yield _row(facts | {"quantity": IMPROVEMENT}, stratified_mean(won), won)


def _numbers(data: Searches) -> pd.DataFrame:
    """Per run (index name, workload, seed): its share of the best speedup, its area, and ln of its efficiency."""
    curves = data.log_speedups
    best_of = curves.groupby("workload").max().max(axis="columns")
    best = best_of.reindex(curves.index.get_level_values("workload")).to_numpy()
    final = curves.iloc[:, -1]
    return pd.DataFrame(
        {
            SHARE: np.exp(final - best),
            AREA: area_under_curve(curves.to_numpy(), best),
            EFFICIENCY: final - np.log(data.runs["samples"]),
        }
    )


def _strata(numbers: pd.Series[Any], name: str, workloads: Sequence[str]) -> list[Array]:
    """Per workload the numbers of a configuration: (seeds, 1)."""
    own = {key: group.to_numpy()[:, None] for key, group in numbers.groupby(["name", "workload"])}
    return [own.get((name, workload), np.empty((0, 1))) for workload in workloads]


def _row(facts: dict[str, str], estimate: Estimate, strata: Sequence[Array]) -> dict[str, Any]:
    value, low, high = (float(points[0]) for points in estimate)
    interval = KNOWN if not np.isnan(low) else MISSING if np.isnan(value) else ONE_SEED
    return facts | {"value": value, "low": low, "high": high, "interval": interval, "runs": sum(map(len, strata))}
