"""What the numbers show, as a table of findings, and what they do not show, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from colt_pipeline.analysis.compared import count, noise_range, one_seed, seed_counts
from colt_pipeline.analysis.course_alterations import AFTER
from colt_pipeline.analysis.index import read_json, write_json
from colt_pipeline.analysis.labels import CONFIGURATION, backend_label, samples_are_calls
from colt_pipeline.analysis.notes import held_out, no_effect_of_sets, random_sampling
from colt_pipeline.analysis.searches import HELD_OUT, MEAN, comparable, searches
from colt_pipeline.analysis.tidy import Tidy
from colt_pipeline.analysis.verdicts import ESTIMATED, NOT_PERSISTENT, ONE_SEED, persistence_verdict
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import EMBEDDED, RANDOM
from colt_pipeline.serialization import typed

FINDINGS = "findings.json"

PAPER_SAMPLES, PAPER_SEEDS = 1000, 10
"""Samples per run and repetitions per configuration in the paper."""

REASONING_B = 3.0
"""Billions of parameters below which a model cannot be expected to reason about programs."""

_UNJUDGED = (ESTIMATED, ONE_SEED)


@dataclass(frozen=True)
class Finding:
    """A row of the table of findings, as shown to readers."""

    question: str
    value: str
    interval: str
    """95 %; "" if unknown."""
    basis: str
    """How many pairs of runs, or programs."""
    conclusion: str


@dataclass(frozen=True)
class Findings:
    """The findings of an experiment."""

    findings: list[Finding]
    limits: list[str]


def findings_of(tidy: Tidy, tables: Mapping[str, pd.DataFrame]) -> Findings:
    """What `tidy` shows, according to the `tables` that `write_tables` made from it, and what it does not show."""
    found = comparison_findings(tidy, tables["ratios"]) + persistence_findings(tidy, tables["persistence"])
    return Findings(found, limits(tidy))


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


def comparison_findings(tidy: Tidy, ratios: pd.DataFrame) -> list[Finding]:
    """The reference against every other configuration after all samples, from the table of ratios.

    Those that nothing is concluded about, for the same reason, are one row.
    """
    workloads = {
        (data.reference + ending, group): len(names)
        for data, ending in ((searches(part), ending) for part, ending in comparable(tidy))
        for group, names in data.groups.items()
    }
    last = ratios[ratios["samples"] == ratios.groupby("configuration")["samples"].transform("max")]
    compared = last[last["reference"].notna()]
    unjudged = compared["verdict"].isin(_UNJUDGED)
    rows = compared[~unjudged].to_dict("records")
    found = [_comparison(row, workloads[row["reference"], row["workloads"]]) for row in rows]
    for _, own in compared[unjudged & (compared["workloads"] == MEAN)].groupby(["verdict", "reference"], sort=False):
        row = own.to_dict("records")[0]
        members = last["configuration"].isin({row["reference"], *own["configuration"]}) & (last["workloads"] == MEAN)
        found.append(_unjudged(last.loc[members, "speedup"], row, workloads[row["reference"], MEAN]))
    return found


def persistence_findings(tidy: Tidy, persistence: pd.DataFrame) -> list[Finding]:
    """Whether programs of small models regress more often after a regression, from the table of persistence, in a row.

    Of several configurations, those are named whose intervals show something.
    """
    rows = persistence.to_dict("records")
    if not rows:
        return []
    seeds, estimated = int(seed_counts(tidy).max()), "estimated" in set(tidy.runs["measurement"])
    verdicts = [
        persistence_verdict(row["difference low"], row["difference high"], seeds=seeds, estimated=estimated)
        for row in rows
    ]
    if len(rows) == 1:
        return [_persistence(rows[0], verdicts[0])]
    differences = [100 * row["difference"] for row in rows]
    shown = [
        f"{row['configuration']}: {said}" for row, said in zip(rows, verdicts, strict=True) if said != NOT_PERSISTENT
    ]
    after, otherwise = (sum(row[f"{kind}: programs"] for row in rows) for kind in AFTER)
    return [
        Finding(
            f"Do regressions persist? {len(rows)} configurations",
            f"{min(differences):+.1f} to {max(differences):+.1f} points",
            "",
            f"{after} programs after a regression, {otherwise} otherwise",
            "; ".join(shown) if shown else NOT_PERSISTENT,
        )
    ]


def limits(tidy: Tidy) -> list[str]:
    """What the runs of `tidy` cannot show."""
    runs = tidy.runs
    found = []
    if EMBEDDED in set(tidy.calls["backend"]):
        found.append(
            "Nothing about the language models whose names appear: a small program answered for each of them, more or "
            "less skilful by the parameter count. What is shown is the search, and the pipeline around it."
        )
        found.append(
            "Nothing about which models LLMs would choose: stand-ins name the next model by a fixed rule, so shares of "
            "calls are set by construction."
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
    if one_seed(tidy):
        found.append("No ranking: with one seed the spread between seeds is unknown, so speedups have no interval.")
    else:
        seeds = count("seed", seed_counts(tidy))
        found.append(
            f"No fine ranking: {seeds} per workload leave wide intervals; the paper has {PAPER_SEEDS}. "
            "Intervals of means assume that seeds are independent and workloads equally noisy. Each holds by itself: "
            "where nothing differs, one in 20 is expected to show a difference."
        )
    if len(runs[CONFIGURATION].drop_duplicates()) > 1:
        found.append("Nothing about margins in shares of pairs: a run wins its pair however small the difference.")
    samples, unit = int(runs["samples"].max()), "calls" if samples_are_calls(runs) else "samples"
    if samples < PAPER_SAMPLES:
        found.append(
            f"Nothing about long searches: runs end after {samples} {unit}, the paper's after {PAPER_SAMPLES} calls."
        )
    if ends := noise_range(tidy):
        which = ", depending on the workload" if " to " in ends else ""
        found.append(
            f"No small difference: 95 % of pairs of measurements of one program differ by less than {ends}{which}. For "
            "a mean over n pairs of runs, the logarithm of this noise floor is divided by √n."
        )
    notes = (random_sampling, no_effect_of_sets, held_out)
    return found + [said for note in notes if (said := note(tidy))]


def backends(tidy: Tidy) -> list[str]:
    """What answered, in words."""
    return sorted(map(backend_label, {*tidy.runs["llm_backend"], *tidy.calls["backend"]}))


def _comparison(row: Mapping[Any, Any], workloads: int) -> Finding:
    where = " on held-out workloads" if row["workloads"] == HELD_OUT else ""
    question = f"{row['reference']} against {row['configuration']}, final speedup{where}"
    if pd.isna(row["ratio"]):
        return Finding(question, "", "", _pairs(row, workloads), row["verdict"])
    interval = "" if pd.isna(row["ratio low"]) else f"{row['ratio low']:.2f} to {row['ratio high']:.2f}"
    basis = f"{_pairs(row, workloads)}, {100 * row['better']:.0f} % won"
    return Finding(question, f"{row['ratio']:.2f}", interval, basis, row["verdict"])


def _unjudged(speedups: pd.Series[float], row: Mapping[Any, Any], workloads: int) -> Finding:
    ends = dict.fromkeys(f"{end:.2f}" for end in (speedups.min(), speedups.max()))
    others = len(speedups) - 1
    question = f"{row['reference']} and {_count(others, 'other')}, final speedups"
    return Finding(question, " to ".join(ends), "", _pairs(row, workloads), row["verdict"])


def _persistence(row: Mapping[Any, Any], conclusion: str) -> Finding:
    value, low, high = (f"{100 * row[f'difference{end}']:+.1f}" for end in ("", " low", " high"))
    after, otherwise = (f"{100 * row[kind]:.0f} % of {row[f'{kind}: programs']}" for kind in AFTER)
    return Finding(
        f"{row['configuration']}: do regressions persist?",
        f"{value} points",
        f"{low} to {high}",
        f"{after} programs after a regression, {otherwise} otherwise",
        conclusion,
    )


def _pairs(row: Mapping[Any, Any], workloads: int) -> str:
    pairs, seeds = row["pairs"], row["seeds"]
    if not pairs or pairs != workloads * seeds:
        return _count(pairs, "pair")
    return f"{_count(pairs, 'pair')}, {_count(workloads, 'workload')} x {_count(seeds, 'seed')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
