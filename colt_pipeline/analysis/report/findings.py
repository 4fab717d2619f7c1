"""What the numbers show and do not show, in sentences generated from the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from colt_pipeline.analysis.compared import SEARCHES, compared, key, noise_range
from colt_pipeline.analysis.index import read_json, write_json
from colt_pipeline.analysis.labels import backend_label
from colt_pipeline.analysis.tables.statistics import IMPROVEMENT, KNOWN
from colt_pipeline.analysis.tidy import Tidy
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import EMBEDDED, RANDOM, typed

FINDINGS = "findings.json"

PAPER_SAMPLES, PAPER_SEEDS = 1000, 10
"""Samples per run and repetitions per configuration in the paper."""

REASONING_B = 3.0
"""Billions of parameters below which a model cannot be expected to reason about programs."""

_FEW_SEEDS = 5


@dataclass(frozen=True)
class Findings:
    """The findings of an experiment."""

    caption: str
    """What all its runs have in common."""
    findings: list[str]
    limits: list[str]


def findings_of(tidy: Tidy, tables: Mapping[str, pd.DataFrame]) -> Findings:
    """What `tidy` shows, according to the `tables` that `write_tables` made from it, and what it does not show."""
    if compared(tidy) == SEARCHES:
        found = search_findings(tables["statistics"])
    else:
        found = model_set_findings(tables["comparisons"])
    return Findings(key(tidy), found, limits(tidy))


def write_findings(findings: Findings, directory: Path) -> None:
    """Write FINDINGS, creating the directory if needed."""
    write_json(asdict(findings), directory / FINDINGS)


def read_findings(directory: Path, command: str) -> Findings:
    """Read what `write_findings` wrote; errors name `command` as the way to remake it.

    Raises:
        ConfigError: it is missing or invalid.
    """
    try:
        return typed(Findings, read_json(directory / FINDINGS, command))
    except ValueError as error:
        raise ConfigError(
            f"{directory / FINDINGS} does not contain findings ({error}); make it with: {command}"
        ) from error


def search_findings(statistics: pd.DataFrame) -> list[str]:
    """How often the reference, which comes first, beats each other search."""
    pairs = statistics[statistics["quantity"] == IMPROVEMENT]
    of_reference = pairs["configuration"].isin(pairs["configuration"].head(1))
    return [_improvement(row) for _, row in pairs[of_reference].iterrows()]


def model_set_findings(comparisons: pd.DataFrame) -> list[str]:
    """Which differences between model sets exceed the noise; none of estimates, which no device has confirmed."""
    verdicts = comparisons["verdict"]
    estimated = comparisons["noise floor"] == 1  # an estimate repeats exactly
    held = comparisons[verdicts.notna() & (verdicts != "reference") & ~estimated]
    if held.empty:
        return []
    counts = held["verdict"].value_counts().sort_index()
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    references = " or ".join(held["reference"].unique())
    findings = [f"Of {len(held)} best latencies compared with that of {references} on the same workload: {said}."]
    beyond = held[held["verdict"].isin(["faster", "slower"])]
    for row in beyond.to_dict("records"):
        findings.append(
            f"{row['workload']}: {row['configuration']} is {row['verdict']} than {row['reference']} "
            f"({row['ratio']:.2f} times its speed, noise floor ×{row['noise floor']:.2f})."
        )
    return findings


def limits(tidy: Tidy) -> list[str]:
    """What the runs of `tidy` cannot show."""
    runs = tidy.runs
    found = []
    if EMBEDDED in set(tidy.calls["backend"]):
        found.append(
            "Nothing about the language models whose names appear: a small program answered for each of them, more or "
            "less skilful by the parameter count. What is shown is the search, and the pipeline around it."
        )
    sizes = tidy.calls.loc[~tidy.calls["backend"].isin([EMBEDDED, RANDOM]), "parameters_b"]
    if len(sizes) and sizes.max() < REASONING_B:
        found.append(
            f"Nothing about what language models know of schedules: these have at most {sizes.max():g} billion "
            "parameters. What is shown is that the whole path has run with a real one."
        )
    if "estimated" in set(runs["measurement"]):
        found.append("Nothing about hardware where latencies are estimated: no kernel ran.")
    found.append(
        f"Nothing about other machines: {', '.join(sorted(set(runs['device'])))} is all that was used. A speedup is "
        "over the unoptimized program of that machine, and is not comparable with another's."
    )
    seeds = int(runs.groupby(["search", "model_set", "largest", "target", "workload"])["seed"].nunique().max())
    if seeds == 1:
        found.append("No ranking: with one seed the spread between seeds is unknown, so no interval is given.")
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
    if ends := noise_range(tidy):
        found.append(
            f"No small difference between two latencies: 95 % of pairs of measurements of one program differ by less "
            f"than {ends}, depending on the workload. A pair of runs counts as a win however small the difference."
        )
    return found


def backends(tidy: Tidy) -> list[str]:
    """What answered, in words."""
    return sorted(map(backend_label, {*tidy.runs["llm_backend"], *tidy.calls["backend"]}))


def _improvement(row: pd.Series[Any]) -> str:
    if pd.isna(row["value"]):
        return f"{row['configuration']} cannot be compared with {row['over']}: {row['interval'].partition(': ')[2]}."
    known = row["interval"] == KNOWN
    interval = f"95 % interval {_percent(row['low'])} to {_percent(row['high'])}" if known else row["interval"]
    return (
        f"{row['configuration']} ends faster than {row['over']} in {_percent(row['value'])} of {row['runs']} pairs of "
        f"runs of one workload and seed ({interval})."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
