"""Statistics of every configuration (a search or a model set) that a single lucky run cannot decide.

Quantities, all of whole runs, all better when higher:

- share of the best speedup: final speedup / the best of any run of the same workload; its geometric mean over
  workloads and seeds. The best is taken as given: that it is itself one of the runs does not widen the interval.
- area under the curve: the mean over samples of ln(best speedup so far) / ln(best speedup of any run of the workload).
  1 means the best program from the first sample on, 0 the unoptimized program throughout (it counts until a faster one
  is found). Unlike the final speedup, it distinguishes early from late success.
- sample efficiency: final speedup / samples, as in the paper; its geometric mean.
- paired speedup ratio: the configuration's final speedup / the other's, for runs of the same workload and seed; its
  geometric mean.
- paired ratio, confirmed: the same of the speedups of those programs that were measured again in turn at a run's end,
  if all runs did so. A search's own best is the luckiest of its measurements, too.
- probability of improvement: the fraction of pairs of runs of the same workload and seed in which the configuration
  ends faster than the other; ties count half, workloads have equal weight.

Intervals treat the seeds of a workload as a sample of all seeds, see `intervals`; each seed's measurements are part of
that variation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from colt_pipeline.analysis.intervals import Array, Estimate, repeated, stratified_mean, stratified_share
from colt_pipeline.analysis.searches import Searches, comparable, searches, wins
from colt_pipeline.analysis.tidy import Tidy

SHARE = "share of the best speedup"
AREA = "area under the curve"
EFFICIENCY = "sample efficiency"
RATIO = "paired speedup ratio"
CONFIRMED_RATIO = "paired ratio, confirmed"
IMPROVEMENT = "probability of improvement"

KNOWN, FEW, EQUAL = "95 %", "unknown: too few seeds", "unknown: no seed differs from another"
MISSING = "unknown: a run is missing or found nothing"
"""What is known about an interval."""

_COLUMNS = ("quantity", "configuration", "over", "value", "low", "high", "interval", "runs")


def statistics(tidy: Tidy) -> pd.DataFrame:
    """All quantities for all configurations, and, with several seeds, for each pair of them that can be compared.

    Returns:
        Columns quantity (see above), configuration, over (the one it is compared with; only for pairs), value, low and
        high (its 95 % interval), interval (KNOWN, FEW, EQUAL or MISSING), runs (for pairs of configurations, pairs of
        runs). A value is missing if a workload is, or if a run found nothing; the area under the curve needs
        no valid program.
    """
    rows = [row for part, ending in comparable(tidy) for row in _rows(searches(part), ending)]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    order = {name: rank for rank, name in enumerate((SHARE, AREA, EFFICIENCY, RATIO, CONFIRMED_RATIO, IMPROVEMENT))}
    return table.sort_values("quantity", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def area_under_curve(log_speedups: Array, log_best: Array) -> Array:
    """The area under the curve of each run.

    Args:
        log_speedups: (runs, samples), ln of the best speedup so far; NaN before the first valid program, and after the
            last sample of a run that is shorter than others.
        log_best: (runs,), ln of the best speedup of any run of the same workload.

    Returns:
        (runs,), NaN for shorter runs, and if nothing was faster than the unoptimized program.
    """
    found = np.maximum.accumulate(~np.isnan(log_speedups), axis=1)
    reached = np.where(found, np.maximum(log_speedups, 0.0), 0.0)  # the maximum of NaN and 0 is NaN
    area: Array = reached.mean(axis=1) / np.where(log_best > 0, log_best, np.nan)
    return area


def _rows(data: Searches, ending: str) -> Iterator[dict[str, Any]]:
    numbers = _numbers(data)
    for name in data.names:
        facts = {"configuration": name + ending}
        shares, areas, efficiencies = (_strata(numbers[quantity], name, data.workloads) for quantity in numbers)
        yield _row(facts | {"quantity": SHARE}, stratified_mean(shares).exp(), shares)
        yield _row(facts | {"quantity": AREA}, stratified_mean(areas), areas)
        yield _row(facts | {"quantity": EFFICIENCY}, stratified_mean(efficiencies).exp(), efficiencies)
    if data.runs.index.get_level_values("seed").nunique() == 1:
        return  # pairs of one seed would be taken for a ranking
    confirmed = data.confirmed()
    for name, other in combinations(data.names, 2):
        finals = [(one[:, -1:], two[:, -1:]) for one, two in data.pairs(name, other)]
        facts = {"configuration": name + ending, "over": other + ending}
        ratios = [one - two for one, two in finals]
        yield _row(facts | {"quantity": RATIO}, stratified_mean(ratios).exp(), ratios)
        if confirmed is not None:
            ratios = [one - two for one, two in confirmed.pairs(name, other)]
            yield _row(facts | {"quantity": CONFIRMED_RATIO}, stratified_mean(ratios).exp(), ratios)
        won = [wins(one, two) for one, two in finals]
        yield _row(facts | {"quantity": IMPROVEMENT}, stratified_share(won), won)


def _numbers(data: Searches) -> pd.DataFrame:
    """Per run (index name, workload, seed): ln of the share of the best speedup, area, and ln of the efficiency."""
    curves = data.log_speedups
    best_of = curves.groupby("workload").max().max(axis="columns")
    best = best_of.reindex(curves.index.get_level_values("workload")).to_numpy()
    final = curves.iloc[:, -1]
    return pd.DataFrame(
        {
            SHARE: final - best,
            AREA: area_under_curve(curves.to_numpy(), best),
            EFFICIENCY: final - np.log(data.runs["samples"].where(data.runs["samples"] > 0)),
        }
    )


def _strata(numbers: pd.Series[Any], name: str, workloads: Sequence[str]) -> list[Array]:
    """Per workload, the numbers of a configuration: (seeds, 1)."""
    own = {key: group.to_numpy()[:, None] for key, group in numbers.groupby(["name", "workload"])}
    return [own.get((name, workload), np.empty((0, 1))) for workload in workloads]


def _row(facts: dict[str, str], estimate: Estimate, strata: Sequence[Array]) -> dict[str, Any]:
    value, low, high = (float(points[0]) for points in estimate)
    unknown = MISSING if np.isnan(value) else EQUAL if repeated(strata) else FEW
    interval = unknown if np.isnan(low) else KNOWN
    return facts | {"value": value, "low": low, "high": high, "interval": interval, "runs": sum(map(len, strata))}
