"""Configurations at equal sample counts: their speedups, and the reference compared with each other one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from colt_pipeline.analysis.intervals import Array, Estimate, stratified_mean, stratified_share
from colt_pipeline.analysis.labels import configurations, workload_title
from colt_pipeline.analysis.searches import Searches, comparable, searches, wins
from colt_pipeline.analysis.tidy import Tidy
from colt_pipeline.analysis.verdicts import verdict

_ENDS = ("", " low", " high")
_COLUMNS = (
    "workloads",
    "samples",
    "configuration",
    *(f"speedup{end}" for end in _ENDS),
    "reference",
    "verdict",
    *(f"ratio{end}" for end in _ENDS),
    "noise floor",
    *(f"better{end}" for end in _ENDS),
    "pairs",
    "seeds",
)


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


@lru_cache(maxsize=2)  # shared by the sentences of a report
def ratios(tidy: Tidy) -> pd.DataFrame:
    """The reference (see `Searches.reference`) at the checkpoints, compared with every other configuration.

    Returns:
        A cached frame that must not be modified. Columns workloads (what is averaged, see `Searches.groups`), samples,
        configuration; speedup (geometric mean over workloads and seeds); reference; verdict (on the reference, see
        `verdicts`); ratio (the reference's speedup / this one's, geometric mean over pairs); noise floor (of the ratio,
        see `mean_floor`); better (fraction of pairs in which the reference is better, with workloads weighted equally
        and ties counting half); pairs (runs of equal workload and seed); seeds (the fewest pairs of a workload); low
        and high (95 % interval, empty if unknown) for speedup, ratio and better. The reference itself has only a
        speedup. Empty with a single configuration.
    """
    parts = comparable(tidy) if len(configurations(tidy)) > 1 else ()
    rows = [row for part, ending in parts for row in _rows(searches(part), ending, part.noise)]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"pairs": "Int64", "seeds": "Int64"})


def _rows(data: Searches, ending: str, noise: pd.DataFrame) -> Iterator[dict[str, Any]]:
    for group, workloads in data.groups.items():
        for samples in data.checkpoints:
            for name in data.names:
                facts = {"workloads": group, "samples": samples, "configuration": name + ending}
                speedup = stratified_mean(_at(samples, data.strata(name, workloads))).exp()
                yield facts | _numbers("speedup", speedup) | _against(data, name, ending, workloads, samples, noise)


def _against(
    data: Searches, name: str, ending: str, workloads: Sequence[str], samples: int, noise: pd.DataFrame
) -> dict[str, Any]:
    """The columns that compare the reference with `name`; none for the reference itself."""
    if name == data.reference:
        return {}
    pairs = [_at(samples, pair) for pair in data.pairs(data.reference, name, workloads)]
    logs = [one - two for one, two in pairs]
    ratio = _numbers("ratio", stratified_mean(logs).exp())
    better = _numbers("better", stratified_share([wins(one, two) for one, two in pairs]))
    floor, seeds = data.noise_floor(logs, workloads, noise), min(map(len, logs))
    estimated = data.runs["measurement"].iloc[0] == "estimated"
    return (
        ratio
        | better
        | {
            "reference": data.reference + ending,
            "verdict": verdict(*ratio.values(), floor=floor, seeds=seeds, estimated=estimated),
            "noise floor": floor,
            "pairs": sum(map(len, logs)),
            "seeds": seeds,
        }
    )


def _at(samples: int, rows: Sequence[Array]) -> list[Array]:
    """The column of each array for that many samples, of shape (rows, 1)."""
    return [own[:, [samples - 1]] for own in rows]


def _numbers(what: str, estimate: Estimate) -> dict[str, float]:
    """The only point of an estimate, by column."""
    return {f"{what}{end}": float(values[0]) for end, values in zip(_ENDS, estimate, strict=True)}
