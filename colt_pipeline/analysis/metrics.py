"""What DVC compares between commits: a few numbers per configuration, and its curve.

``dvc metrics show`` has a row per file and a column per number, so each configuration gets its own file, and all files
have the same keys.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from colt_pipeline.analysis.index import write_json
from colt_pipeline.analysis.labels import CONFIGURATION, backend_label, model_label
from colt_pipeline.analysis.searches import MEAN, comparable, searches
from colt_pipeline.analysis.tables.invocation import ALTERATION_RATE, call_counts, invocation_rates
from colt_pipeline.analysis.tidy import Tidy, write_csv

Metrics = Mapping[str, Mapping[str, Any]]
"""Name of a configuration -> its numbers."""

_TELLING = ("search", "model_set", "largest", "target", "space", "device", "measurement")
_DIGITS = 6  # significant digits, so that diffs show changes rather than rounding


def metrics_of(tidy: Tidy) -> dict[str, dict[str, Any]]:
    """The numbers of each configuration.

    Returns:
        Name (see `short_names`) -> llm (what answered), latency (measured or estimated), device, seeds, samples,
        speedup (final, over the unoptimized program: geometric means over workloads and seeds, and per workload over
        seeds), calls (including course alterations), largest_percent (of the regular calls) and
        alterations_per_call_percent (per regular call of a small model). Unknown values are omitted, as are
        percentages for sets of one model.
    """
    rows = list(_rows(tidy))
    names = short_names(pd.DataFrame([row for row, _ in rows]), _TELLING)
    return {name: numbers for name, (_, numbers) in zip(names, rows, strict=True)}


def curves(tidy: Tidy) -> pd.DataFrame:
    """Best speedup so far, geometric mean over workloads and seeds.

    Returns:
        Columns configuration (its label, what answered, and measured or estimated), sample, speedup.
    """
    parts = []
    for part, ending in comparable(tidy):
        data = searches(part)
        means = data.curves().query("workload == @MEAN")
        said = {
            name: f"{name}{ending}: {_answered(part, own)}, {own['measurement'].iloc[0]} latency"
            for name, own in data.runs.groupby("name")
        }
        parts.append(means.assign(configuration=means["configuration"].map(said)))
    return pd.concat(parts)[["configuration", "sample", "speedup"]]


def short_names(frame: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """A name for each row: the values of the fewest columns that distinguish all rows, joined by hyphens.

    A single row is named by the first column.
    """
    names = pd.Series("", index=frame.index)
    for column in columns:
        if names.duplicated().any() and frame[column].nunique() > 1:
            names = names + "-" + frame[column].astype(str)
    return [name.removeprefix("-") or str(first) for name, first in zip(names, frame[columns[0]], strict=True)]


def write_metrics(numbers: Metrics, directory: Path) -> None:
    """Write NAME.json for each configuration, creating the directory if needed."""
    for name, own in numbers.items():
        write_json(own, directory / f"{name}.json")


def write_curves(data: pd.DataFrame, path: Path) -> None:
    """Write what `curves` returned as CSV, creating the directory if needed."""
    write_csv(data, path, _DIGITS)


def rounded(number: float) -> float:
    """`value` with the number of digits used in metrics."""
    return float(f"{number:.{_DIGITS}g}")


def _rows(tidy: Tidy) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Per configuration, what distinguishes it from others, and its numbers."""
    for part, _ in comparable(tidy):
        data = searches(part)
        last = data.curves().query(f"sample == {data.checkpoints[-1]}")
        rates = invocation_rates(part).set_index("model")
        calls = call_counts(part).set_index("configuration").drop(columns="workload").sum(axis="columns")
        for name in data.names:
            own = data.runs.loc[name].reset_index()
            facts = {str(column): value for column, value in own.iloc[0].items()}
            speedups = last[last["configuration"] == name].set_index("workload")["speedup"]
            yield (
                facts,
                {"llm": _answered(part, own), "latency": facts["measurement"], "device": facts["device"]}
                | {"seeds": own["seed"].nunique(), "samples": int(own["samples"].max())}
                | {"speedup": {_key(str(workload)): rounded(value) for workload, value in speedups.items()}}
                | {"calls": int(calls[calls.index == facts["label"]].sum())}
                | _shares(part, facts, rates),
            )


def _key(workload: str) -> str:
    return "geomean" if workload == MEAN else workload


def _shares(part: Tidy, facts: dict[str, Any], rates: pd.DataFrame) -> dict[str, float]:
    """The largest model's share of calls and the course alteration rate, for sets of several models."""
    if facts["short_label"] not in rates:
        return {}
    own = rates[facts["short_label"]]
    calls = _calls(part, pd.DataFrame([facts])).query("is_largest")
    largest = {model_label(*pair) for pair in zip(calls["model"], calls["backend"], strict=True)}
    shares = {
        "largest_percent": own.reindex(sorted(largest)).sum(),
        "alterations_per_call_percent": own[ALTERATION_RATE],
    }
    return {key: rounded(value) for key, value in shares.items() if pd.notna(value)}


def _answered(part: Tidy, runs: pd.DataFrame) -> str:
    """What answered in the runs of one configuration, in words."""
    calls = _calls(part, runs)
    return " / ".join(sorted(map(backend_label, set(calls["backend"]) or set(runs["llm_backend"]))))


def _calls(part: Tidy, runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of `Tidy.calls` for the configuration of `runs`."""
    return part.calls.merge(runs[CONFIGURATION].drop_duplicates(), on=CONFIGURATION)
