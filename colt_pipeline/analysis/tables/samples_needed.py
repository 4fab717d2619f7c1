"""How many samples a search needs to come close to the best known program; a run that never does is censored."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from colt_pipeline.analysis.labels import EVOLUTIONARY, FAIR_EVOLUTIONARY, search_title, workload_title
from colt_pipeline.analysis.searches import MEAN, Searches, searches
from colt_pipeline.analysis.tidy import IDS, Tidy

REACHED = 0.9
"""Fraction of the best known speed."""

_TURNED = {"": "", "<": ">", ">": "<"}


@dataclass(frozen=True)
class Bound:
    """A positive number, or a bound that it lies above or below."""

    value: float
    side: str = ""
    """``>``, ``<``, or "" for the number itself."""

    def over(self, other: Bound) -> Bound | None:
        """This number / `other`; None if the bounds do not determine it."""
        side = _common([self.side, _TURNED[other.side]])
        return None if side is None else Bound(self.value / other.value, side)

    def text(self, digits: int) -> str:
        return f"{self.side}{self.value:.{digits}f}"


def median(numbers: Sequence[Bound]) -> Bound | None:
    """The (upper) median of numbers and lower bounds; None if there are none.

    A lower bound counts as larger than any number. If the median is one, it is only known to exceed the lowest of them.
    """
    if not numbers:
        return None
    middle = statistics.median_high(math.inf if number.side else number.value for number in numbers)
    return Bound(min(n.value for n in numbers if n.side), ">") if middle == math.inf else Bound(middle)


def geometric_mean(numbers: Sequence[Bound | None]) -> Bound | None:
    """The geometric mean; None if a number is missing, or if lower and upper bounds leave it undetermined."""
    known = [number for number in numbers if number is not None]
    side = _common([number.side for number in known])
    if side is None or not known or len(known) < len(numbers):
        return None
    return Bound(statistics.geometric_mean(number.value for number in known), side)


def samples_to_reach(tidy: Tidy) -> pd.DataFrame:
    """Measured samples until a search has a program of at least REACHED times the workload's best known speed.

    Returns:
        Columns workload, best (ms) (the lowest latency in any run of any search), search, reached (in how many runs,
        such as "2/3"), samples (`median` over seeds), and ratio (those of TVM's own search in the same design space /
        these; above 1 if this search needs fewer). The last rows give each search's geometric mean of the ratio over
        workloads.
    """
    data = searches(tidy)
    curves = tidy.curves.merge(data.runs.reset_index()[[*IDS, "name"]], on=list(IDS))
    base_of = _bases(data)
    rows = []
    ratios: dict[str, list[Bound | None]] = {name: [] for name in data.names}
    for workload in data.workloads:
        own_curves = curves[curves["workload"] == workload]
        best_secs = float(own_curves["best_secs"].min())
        needed = {name: _needed(own_curves[own_curves["name"] == name], best_secs / REACHED) for name in data.names}
        medians = {name: median(numbers) for name, numbers in needed.items()}
        for name, own in medians.items():
            base = medians.get(base_of[name])
            ratio = base.over(own) if base and own else None
            ratios[name].append(ratio)
            row = {"workload": workload_title(workload), "best (ms)": 1e3 * best_secs, "search": name}
            row |= {"reached": f"{sum(not n.side for n in needed[name])}/{len(needed[name])}"}
            rows.append(row | {"samples": own and own.text(0), "ratio": ratio and ratio.text(2)})
    for name, numbers in ratios.items():
        mean = geometric_mean(numbers)
        rows.append({"workload": MEAN, "search": name, "ratio": mean and mean.text(2)})
    return pd.DataFrame(rows)


def needed_by(tidy: Tidy) -> str:
    """What the ratio is relative to; "" without TVM's own search."""
    own = _own_of_tvm(tidy.runs)
    return f"Ratio: the samples that {search_title(own)} needs / these." if own in set(tidy.runs["search"]) else ""


def _own_of_tvm(runs: pd.DataFrame) -> str:
    return EVOLUTIONARY if EVOLUTIONARY in set(runs["search"]) else FAIR_EVOLUTIONARY


def _bases(data: Searches) -> dict[str, str]:
    """The name of each search -> that of TVM's own in the same design space, "" if there is none.

    That is TVM's with its defaults, or with fair settings where those are the only ones.
    """
    spaces = data.runs["space"].groupby("name").first()
    own = _own_of_tvm(data.runs)
    tvm = data.runs.loc[data.runs["search"] == own, "space"].groupby("name").first()
    names = {space: str(name) for name, space in tvm.items()}
    return {str(name): names.get(space, "") for name, space in spaces.items()}


def _needed(curves: pd.DataFrame, latency_secs: float) -> list[Bound]:
    """Per seed, the first sample with at most this latency, or the length of the run as a lower bound."""
    found = []
    for _, run in curves.groupby("seed"):
        reached = run.loc[run["best_secs"] <= latency_secs, "sample"]
        found.append(Bound(reached.min()) if len(reached) else Bound(run["sample"].max(), ">"))
    return found


def _common(sides: Sequence[str]) -> str | None:
    """The side of a value that increases with all of its factors, given their sides; None if undetermined."""
    distinct = {*sides} - {""}
    return None if len(distinct) > 1 else "".join(distinct)
