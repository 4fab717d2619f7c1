"""Course alterations beside chance, and whether regressions persist.

A rule that alters the course at a regression whose nearest ancestor by a small model regressed when it was made
(``path_birth``) fires, if each program regresses with probability p, independently, at p times the share of programs
below such an ancestor. Rules that score what is above again (``path``, ``path_reset``) have no such number, because
these scores are not recorded. A rule that counts regressions in call order fires at the second in a row and then starts
over: for a fraction r = p (p - r) of the programs, since it needs a regression preceded by one that did not fire, so
r = p^2 / (1 + p).

Whether small models regress persistently, which is why the paper alters the course, is a direct comparison: how often a
program regresses below a regression, and how often otherwise. If both are alike, an alteration is a coin toss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from colt_pipeline.analysis.intervals import Share, difference, share
from colt_pipeline.analysis.journals import AFTER_REGRESSION, AFTER_RISE, PREDICTED, REGRESSED
from colt_pipeline.analysis.searches import comparable, searches
from colt_pipeline.analysis.tidy import IDS, Tidy

_RULE = ["configuration", "rule", "programs", "regressions", "alterations", "rate", "rate low", "rate high", "chance"]
AFTER = {"after a regression": AFTER_REGRESSION, "otherwise": AFTER_RISE}
"""Columns of `persistence` -> fields of a run."""
_ENDS = ("", " low", " high")
_PERSISTENCE = (
    "configuration",
    "family",
    *(f"difference{end}" for end in _ENDS),
    *(f"{after}{end}" for after in AFTER for end in (": programs", *_ENDS)),
)


def alterations_and_chance(tidy: Tidy) -> pd.DataFrame:
    """Course alterations of every configuration with programs by small models, pooled over workloads and seeds.

    Returns:
        Columns configuration, rule (``search.course_alteration``), programs (by small models, pruned ones included; of
        runs with a journal those that were made while the cost model predicted, because no rule fires before),
        regressions (those predicted to be slower than their parent), alterations, rate (alterations / programs), rate
        low, rate high (its 95 % interval), and chance (the rate if regressions were independent, see above). Other
        rules have no such rate. A rule that never fires has no interval.
    """
    rows = []
    for name, _, runs in _configurations(tidy):
        programs = int(runs[PREDICTED].fillna(runs["children"]).sum())
        regressions = int(runs[PREDICTED + REGRESSED].fillna(runs["regressions"]).sum())
        if programs:
            rule, altered = " or ".join(sorted(set(runs["course_rule"]) - {""})), int(runs["altered"].sum())
            chance = _chance(rule, regressions / programs, runs[AFTER_REGRESSION].sum(skipna=False) / programs)
            rate = Share(0.0, math.nan, math.nan) if rule == "never" else share(altered, programs)
            row = [name, rule, programs, regressions, altered, *rate, chance]
            rows.append(dict(zip(_RULE, row, strict=True)))
    return pd.DataFrame(rows, columns=_RULE)


def persistence(tidy: Tidy) -> pd.DataFrame:
    """How often programs by small models regress after a regression and otherwise, pooled over workloads and seeds.

    Returns:
        Columns configuration, family; for programs whose nearest ancestor by a small model was a regression ("after a
        regression") and for those whose nearest was not ("otherwise"): their number ("...: programs"), the share of
        them that regresses, and its 95 % interval ("... low", "... high"); before these the difference of the shares
        with its interval. Configurations without one of the two kinds, or without journals, are omitted.
    """
    rows = []
    for name, family, runs in _configurations(tidy):
        counts = {after: runs[[field, field + REGRESSED]].sum(skipna=False) for after, field in AFTER.items()}
        if not all(programs > 0 for programs, _ in counts.values()):  # not even NaN
            continue
        shares = [share(int(regressed), int(programs)) for programs, regressed in counts.values()]
        parts = [[int(programs), *own] for (programs, _), own in zip(counts.values(), shares, strict=True)]
        rows.append([name, family, *difference(*shares), *parts[0], *parts[1]])
    return pd.DataFrame(rows, columns=list(_PERSISTENCE))


def persistence_table(tidy: Tidy) -> pd.DataFrame:
    """`persistence` without the column that only the figure needs."""
    return persistence(tidy).drop(columns="family")


def _chance(rule: str, regression: float, after_regression: float) -> float:
    """The rate of alterations if each program regresses with probability `regression`; NaN if the rule has none."""
    match rule:
        case "path_birth":
            return regression * after_regression
        case "streak":
            return regression**2 / (1 + regression)
        case _:
            return math.nan


def _configurations(tidy: Tidy) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Each configuration's name and family, and its runs with the counts of small models and of alterations."""
    for part, ending in comparable(tidy):
        data = searches(part)
        small = part.calls[~part.calls["is_largest"]].groupby(list(IDS))[["children", "regressions"]].sum()
        altered = part.calls.groupby(list(IDS))["course_alterations"].sum().rename("altered")
        counts = part.runs.merge(small.reset_index(), on=list(IDS)).merge(altered.reset_index(), on=list(IDS))
        for name, own in data.members(ending).merge(counts, on=list(IDS)).groupby("configuration", sort=False):
            yield str(name), str(own["family"].iloc[0]), own
