"""The paper's tables as data, beside ours.

``reference/tableN.csv`` holds the numbers of table N of COLT, arXiv 2602.01935v1, with this project's names of models
and workloads; ``reference/figures.csv`` holds those numbers of its figures that its text states. The first line of each
file names the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

import pandas as pd

from colt_pipeline.analysis.labels import CONFIGURATION, configurations, model_label, unmeasured, workload_title
from colt_pipeline.analysis.tables.invocation import call_counts, geometric_mean, invocation_rates
from colt_pipeline.analysis.tidy import Tidy
from colt_pipeline.config.spaces import TVM
from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads import PAPER

SOURCE = "COLT, arXiv 2602.01935v1"
GPU = "RTX 2080 Ti"
"""The paper's GPU (section 4.1)."""
TABLES = (1, 2, 3, 4, 5)
"""1: invocation rates; 2: sample efficiency of all of Llama-3-8B; 3 to 5: call counts (CPU, Llama-3.3-70B, GPU)."""

FIGURES = {("gpt-5.2", "cpu"): 2, ("llama-3.3-70b-instruct", "cpu"): 3, ("gpt-5.2", "gpu"): 4}
"""Largest model and target -> the figure with the speedups of the five model sets."""
GPU_TABLE = 5
"""The table of the runs on the GPU; table 1 has their rates beside those of the CPU."""

COMPARED = {1: "invocation rates in percent", **dict.fromkeys((3, 4, 5), "calls per 1000 regular ones")}
"""Table -> what its numbers are, for the tables that runs of single layers are compared with."""

RATE, COUNT = "percent", "calls per 1000 regular ones"
_COUNT_TABLES = (3, 4, 5)
_PAPER_CALLS = 1000  # regular calls per workload and model set
_ALTERATIONS = "course alterations"
_COLUMNS = ("table", "row", "column", "unit", "paper", "ours", "difference", "mark", "latency")


def paper_table(number: int) -> pd.DataFrame:
    """Table `number` of the paper, in long form.

    Returns:
        1: largest, target, model_set, quantity (a model, "course alteration rate" or the largest's total), percent;
        2: largest, model_set, samples, speedup, sample_efficiency_gain (over gpt-5-mini alone);
        3 to 5: largest, target, workload, model_set, quantity (a model, or "course alterations"), calls.

    Raises:
        ConfigError: there is no such table.
    """
    if number not in TABLES:
        raise ConfigError(f"the paper has no table {number}; choose one of {', '.join(map(str, TABLES))}")
    return _reference(f"table{number}.csv")


def paper_figure(tidy: Tidy) -> int | None:
    """The paper's figure that `tidy` repeats: several model sets under its search and in its space, in one setting."""
    runs = tidy.runs
    settings = {*zip(runs["largest"], runs["target"], strict=True)}
    if (
        set(runs["search"]) != {"paper"}
        or set(runs["space"]) != {TVM}
        or runs["model_set"].nunique() == 1
        or len(settings) > 1
    ):
        return None
    return FIGURES.get(settings.pop())


@lru_cache(maxsize=2)  # shared by the layouts of all tables
def paper_comparison(tidy: Tidy) -> pd.DataFrame:
    """Tables 1 and 3 to 5 of the paper beside our numbers, for the settings for which `tidy` has runs.

    Ours are pooled over seeds. Table 1 pools the paper's five workloads, so it is compared only if all of them are
    present. Because budgets differ, numbers of calls are scaled to the paper's 1000 regular calls.

    Returns:
        Columns table (its number), row, column (the model set; both named as in the paper), unit (RATE or COUNT),
        paper, ours, difference (ours - paper), mark (" (stand-in)" if our numbers are not those of the models that rows
        name), latency (how our searches got theirs: measured or estimated).
    """
    rows = []
    unmarked = replace(tidy, calls=tidy.calls.assign(backend=""))  # so that names are those of the paper
    for configuration in configurations(unmarked).query("models > 1").to_dict("records"):
        own = _only(unmarked, configuration)
        facts = {"column": configuration["short_label"], "mark": _mark(_only(tidy, configuration))}
        facts["latency"] = " / ".join(sorted(set(own.runs["measurement"])))
        if set(own.runs["workload"]) == set(PAPER):
            rows += [facts | row for row in _rates(own, configuration)]
        scaled = _scaled_counts(own)
        for number in _COUNT_TABLES:
            rows += [facts | row for row in _counts(scaled, configuration, number)]
    table = pd.DataFrame(rows, columns=list(_COLUMNS)).astype({"paper": "float64", "ours": "float64"})
    table["difference"] = table["ours"] - table["paper"]
    return table.sort_values("table", kind="stable", ignore_index=True)


def paper_layout(tidy: Tidy, number: int) -> pd.DataFrame:
    """Table `number` in the paper's layout, with its values and the differences beside ours.

    Returns:
        Column `row`, then three columns for each of our configurations that the paper has: its name with "ours" (marked
        if stand-ins answered, and if latencies were not measured), "paper" and "difference"; see `paper_comparison`.
        Empty if the paper has none of them.
    """
    long = paper_comparison(tidy).query(f"table == {number}")
    if long.empty:
        return long
    marks = long["mark"] + long["latency"].map(unmeasured)
    return _wide(long, ("ours", "paper", "difference")).rename(columns=_headings(long, "ours", marks))


def paper_beside(measured: Tidy, estimated: Tidy, number: int) -> pd.DataFrame:
    """Table `number` from measured runs, from runs with estimated latencies and in the paper, side by side.

    Returns:
        Column `row`, then three columns for each configuration: its name with "measured" and "not measured" (both
        marked if stand-ins answered), and "paper"; see `paper_comparison`.
    """
    ours = {"measured": measured, "not measured": estimated}
    keys = ["row", "column", "paper"]
    parts = {name: paper_comparison(tidy).query(f"table == {number}") for name, tidy in ours.items()}
    renamed = [part[[*keys, "ours"]].rename(columns={"ours": name}) for name, part in parts.items()]
    long = pd.concat(renamed).groupby(keys, sort=False, dropna=False).first().reset_index()
    marked = [_headings(part, name, part["mark"]) for name, part in parts.items()]
    return _wide(long, (*ours, "paper")).rename(columns=marked[0] | marked[1])


def _headings(long: pd.DataFrame, part: str, marks: pd.Series[str]) -> dict[str, str]:
    """The headings of `_wide` for one part -> with a mark behind each."""
    return {f"{label} {part}": f"{label} {part}{mark}" for label, mark in zip(long["column"], marks, strict=True)}


def _wide(long: pd.DataFrame, parts: Sequence[str]) -> pd.DataFrame:
    """A table's rows, with the columns `parts` of `long` side by side for each of the table's columns."""
    labels = sorted(set(long["column"]))
    wide = long.pivot(index="row", columns="column", values=list(parts)).reindex(long["row"].unique())
    wide = wide[[(part, label) for label in labels for part in parts]]
    wide.columns = pd.Index([f"{label} {part}" for label in labels for part in parts])
    return wide.reset_index()


def paper_speedups(tidy: Tidy) -> pd.DataFrame:
    """The speedups that the paper's text states, beside ours.

    Returns:
        Columns figure, workload, configuration (our label), measurement (of ours), paper samples, paper, our samples
        (the same number, or the last that all runs have), ours (geometric mean over seeds), difference. Empty if the
        paper states none for `tidy`.
    """
    rows = []
    for configuration in configurations(tidy).to_dict("records"):
        own = _only(tidy, configuration)
        for row in _setting(_reference("figures.csv"), configuration).to_dict("records"):
            curves = own.curves[own.curves["workload"] == row["workload"]]
            if curves.empty:
                continue
            samples = min(row["samples"], int(curves.groupby("seed")["sample"].max().min()))
            ours = geometric_mean(curves.loc[curves["sample"] == samples, "speedup"])
            measurement = " / ".join(f"{name}{unmeasured(name)}" for name in sorted(set(own.runs["measurement"])))
            rows.append(
                {"figure": row["figure"], "workload": workload_title(row["workload"])}
                | {"configuration": configuration["label"], "measurement": measurement}
                | {"paper samples": row["samples"], "paper": row["speedup"]}
                | {"our samples": samples, "ours": ours, "difference": ours - row["speedup"]}
            )
    return pd.DataFrame(rows)


@cache
def _reference(name: str) -> pd.DataFrame:
    text = {"largest": "str", "target": "str", "workload": "str", "model_set": "str", "quantity": "str"}
    with (files(__package__) / "reference" / name).open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#", dtype=text)


def _rates(own: Tidy, configuration: dict[Any, Any]) -> list[dict[str, Any]]:
    table = invocation_rates(own).set_index("model").iloc[:, 0]
    ours = table.set_axis(table.index.str.lower())
    return [
        {"table": 1, "row": quantity, "unit": RATE, "paper": percent, "ours": ours.get(quantity)}
        for quantity, percent in _setting(paper_table(1), configuration)[["quantity", "percent"]].to_numpy()
    ]


def _scaled_counts(own: Tidy) -> pd.DataFrame:
    """One configuration's calls per _PAPER_CALLS regular ones: workloads x models, and course alterations."""
    counts = call_counts(own).set_index("workload").drop(columns="configuration").astype("float64")
    return counts.mul(_PAPER_CALLS / counts.drop(columns=_ALTERATIONS).sum(axis="columns"), axis="index")


def _counts(scaled: pd.DataFrame, configuration: dict[Any, Any], number: int) -> list[dict[str, Any]]:
    rows = []
    for row in _setting(paper_table(number), configuration).to_dict("records"):
        title = workload_title(row["workload"])
        if title in scaled.index:
            name, ours = f"{title}, {row['quantity']}", scaled.loc[title].get(row["quantity"])
            rows.append({"table": number, "row": name, "unit": COUNT, "paper": row["calls"], "ours": ours})
    return rows


def _setting(paper: pd.DataFrame, configuration: dict[Any, Any]) -> pd.DataFrame:
    """The rows for a configuration's setting."""
    return _matching(paper, configuration, ["largest", "target", "model_set"])


def _only(tidy: Tidy, configuration: dict[Any, Any]) -> Tidy:
    """The runs of one configuration."""
    frames = {
        name: _matching(getattr(tidy, name), configuration, CONFIGURATION) for name in ("runs", "curves", "calls")
    }
    return replace(tidy, **frames)


def _matching(frame: pd.DataFrame, facts: dict[Any, Any], columns: list[str]) -> pd.DataFrame:
    """The rows whose `columns` equal `facts`."""
    return frame[(frame[columns] == pd.Series(facts)[columns]).all(axis="columns")]


def _mark(tidy: Tidy) -> str:
    """What follows "ours": " (stand-in)", or "" if the models themselves answered."""
    return "".join(model_label("", backend) for backend in sorted(set(tidy.calls["backend"])))
