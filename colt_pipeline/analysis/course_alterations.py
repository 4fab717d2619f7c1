"""How often the course was altered, beside what chance alone gives.

A rule that fires at the second regression in a row and then starts anew fires, if a child is a regression with
probability p independently of all others, at a share r of the children with r = p (p - r): a regression is preceded by
one that did not fire. So r = p^2 / (1 + p).
"""

from __future__ import annotations

import math

import pandas as pd

from colt_pipeline.analysis.searches import comparable, searches
from colt_pipeline.analysis.tidy import IDS, Tidy

_Z = 1.959963984540054  # of the normal distribution at 97.5 %
_COUNTS = ["children", "regressions", "alterations"]
_COLUMNS = (
    "configuration",
    "family",
    *_COUNTS,
    "rate",
    "low",
    "high",
    "regression",
    "coin",
    "coin low",
    "coin high",
)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share after Wilson (1927); NaN without trials."""
    if not trials:
        return math.nan, math.nan
    share, weight = hits / trials, _Z**2 / trials
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def coin_rate(regression: float) -> float:
    """How often a rule fires at the second regression in a row if regressions are independent, see above."""
    return regression**2 / (1 + regression)


def course_data(tidy: Tidy) -> pd.DataFrame:
    """Course alterations of every configuration in which small models made programs; pooled over workloads and seeds.

    Returns:
        Columns configuration, family, children (programs that small models made), regressions (those predicted to be
        slower than their parent), alterations, rate (alterations / children), low, high (its 95 % interval, as if
        children were independent), regression (regressions / children), coin (`coin_rate` of it), coin low, coin high
        (from the 95 % interval of the regression probability).
    """
    rows = []
    for part, ending in comparable(tidy):
        data = searches(part)
        calls = data.members(ending).merge(part.calls, on=list(IDS))
        for name in data.names:
            own = calls[calls["configuration"] == name + ending]
            made, regressed = own.loc[~own["is_largest"], ["children", "regressions"]].sum()
            if not made:
                continue
            altered = int(own["course_alterations"].sum())
            coin = dict(zip(("coin low", "coin high"), map(coin_rate, wilson(regressed, made)), strict=True))
            rows.append(
                {"configuration": name + ending, "family": data.families[name]}
                | dict(zip(_COUNTS, (int(made), int(regressed), altered), strict=True))
                | {"rate": altered / made, "regression": regressed / made, "coin": coin_rate(regressed / made)}
                | dict(zip(("low", "high"), wilson(altered, int(made)), strict=True))
                | coin
            )
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def course_table(tidy: Tidy) -> pd.DataFrame:
    """`course_data` without what only a figure needs."""
    return course_data(tidy).drop(columns="family")
