"""What the numbers show and what they do not, in sentences that are made from the numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from colt_pipeline.analysis.figures.course_alterations import course_data
from colt_pipeline.analysis.labels import STAND_IN, backend_label, one_or_mixed
from colt_pipeline.analysis.noise import comparison_floor
from colt_pipeline.analysis.searches import searches
from colt_pipeline.analysis.tables.comparisons import comparisons
from colt_pipeline.analysis.tables.statistics import IMPROVEMENT, KNOWN, statistics
from colt_pipeline.analysis.tidy import Tidy
from colt_pipeline.records import RANDOM

PAPER_SAMPLES, PAPER_SEEDS = 1000, 10
"""What the paper spends on a run, and how often it repeats one."""

REASONING_B = 3.0
"""Billions of parameters below which nobody expects a model to reason about a program."""

_FEW_SEEDS = 5


def search_findings(tidy: Tidy) -> list[str]:
    """How often the reference, the first of `Searches.names`, ends ahead of each other search."""
    table = statistics(tidy)
    reference = searches(tidy).names[0]
    rows = table[(table["quantity"] == IMPROVEMENT) & (table["configuration"] == reference)]
    return [_improvement(row) for _, row in rows.iterrows()]


def model_set_findings(tidy: Tidy) -> list[str]:
    """Which differences between model sets exceed the noise."""
    table = comparisons(tidy)
    compared = table[table["verdict"].notna() & (table["verdict"] != "reference")]
    if compared.empty:
        return []
    counts = compared["verdict"].value_counts().sort_index()
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    findings = [f"Of {len(compared)} best latencies held against the reference's of the same workload: {said}."]
    beyond = compared[compared["verdict"].isin(["faster", "slower"])]
    for row in beyond.to_dict("records"):
        findings.append(
            f"{row['workload']}: {row['configuration']} is {row['verdict']} than {row['reference']} "
            f"(ratio {row['ratio']:.2f}, noise floor ×{row['noise floor']:.2f})."
        )
    return findings


def course_findings(tidy: Tidy) -> list[str]:
    """Whether course alterations are more or fewer than chance gives, by configuration."""
    return [_course(row) for _, row in course_data(tidy).query("alterations > 0").iterrows()]


def limits(tidy: Tidy) -> list[str]:
    """What the runs of `tidy` cannot show."""
    runs = tidy.runs
    found = []
    if STAND_IN in set(tidy.calls["backend"]):
        found.append(
            "Nothing about the language models whose names appear: a small program answered for each of them, more or "
            "less skilful by the parameter count. What is shown is the search, and the pipeline around it."
        )
    sizes = tidy.calls.loc[~tidy.calls["backend"].isin([STAND_IN, RANDOM]), "parameters_b"]
    if len(sizes) and sizes.max() < REASONING_B:
        found.append(
            f"Nothing about what language models know of schedules: these have at most {sizes.max():g} billion "
            "parameters. What is shown is that the whole path has run with a real one."
        )
    if "estimated" in set(runs["measurement"]):
        found.append("Nothing about hardware where latencies are estimated: no kernel ran.")
    found.append(
        f"Nothing about other machines: {one_or_mixed('devices', runs['device'])} is all that was used. A speedup is "
        "over the unoptimized program of that machine, and is not comparable with another's."
    )
    seeds = int(runs.groupby(["search", "model_set", "largest", "target", "workload"])["seed"].nunique().max())
    if seeds == 1:
        found.append("No ranking: with one seed nobody knows how far another seed would lie, so no interval is given.")
    elif seeds < _FEW_SEEDS:
        narrow = 1 - ((seeds - 1) / seeds) ** 0.5
        found.append(
            f"No fine ranking: {seeds} seeds make intervals too narrow by about {_percent(narrow)}, "
            f"and a share of pairs near 0 or 1 rests on few pairs. The paper repeats each run {PAPER_SEEDS} times."
        )
    samples = int(runs["samples"].max())
    if samples < PAPER_SAMPLES:
        found.append(
            f"Nothing about long searches: runs end after {samples} samples, the paper's after {PAPER_SAMPLES}."
        )
    floors = [comparison_floor(own, tidy.noise) for _, own in runs.groupby("workload")]
    if pd.notna(floors).all() and max(floors) > 1:
        found.append(
            f"No small difference of two latencies: repeated measurements of one program differ by up to "
            f"×{min(floors):.2f} to ×{max(floors):.2f}, by workload, in 95 % of pairs. A pair of runs counts as won by "
            "whatever difference."
        )
    return found


def backends(tidy: Tidy) -> list[str]:
    """Who answered, in words."""
    return sorted(map(backend_label, {*tidy.runs["llm_backend"], *tidy.calls["backend"]}))


def _improvement(row: pd.Series[Any]) -> str:
    if pd.isna(row["value"]):
        return f"{row['configuration']} cannot be held against {row['over']}: {row['interval'].partition(': ')[2]}."
    known = row["interval"] == KNOWN
    interval = f"95 % interval {_percent(row['low'])} to {_percent(row['high'])}" if known else row["interval"]
    return (
        f"{row['configuration']} ends faster than {row['over']} in {_percent(row['value'])} of {row['runs']} pairs of "
        f"runs of one workload and seed ({interval})."
    )


def _course(row: pd.Series[Any]) -> str:
    apart = row["coin low"] > row["high"] or row["coin high"] < row["low"]
    return (
        f"{row['configuration']} altered the course after {row['alterations']} of {row['children']} programs of small "
        f"models ({_percent(row['rate'])}, 95 % interval {_percent(row['low'])} to {_percent(row['high'])}); two "
        f"regressions in a row by chance give {_percent(row['coin'])}: "
        f"{'the intervals lie apart' if apart else 'nothing that could be told from chance'}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
