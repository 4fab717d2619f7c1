"""The sentences that lead a report: what a reader can take away, each made from the numbers of an experiment.

A sentence about an experiment without runs is left out, and so is a clause about numbers that do not exist. No sentence
ranks what a single seed measured, and none calls a difference shown that its interval or the noise may explain.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from colt_pipeline.analysis.compared import count, one_seed, seed_counts
from colt_pipeline.analysis.course_alterations import persistence
from colt_pipeline.analysis.labels import (
    EVOLUTIONARY,
    PEERS,
    WORKLOAD_TITLES,
    configurations,
    display_order,
    model_label,
    samples_are_calls,
    workload_title,
)
from colt_pipeline.analysis.notes import no_effect_of_sets, random_sampling, set_by_construction
from colt_pipeline.analysis.searches import HELD_OUT, MEAN
from colt_pipeline.analysis.tables.end_to_end import Models, label, model_table
from colt_pipeline.analysis.tables.invocation import speedups
from colt_pipeline.analysis.tables.paper import GPU, paper_comparison
from colt_pipeline.analysis.tables.ratios import ratios
from colt_pipeline.analysis.tidy import Tidy
from colt_pipeline.analysis.verdicts import FASTER, SLOWER, UNCERTAIN, WITHIN_NOISE, persistence_verdict
from colt_pipeline.records import EMBEDDED

MOST = 6
"""Sentences that lead a report, at most."""

_ONE_SEED = "one seed gives no ranking"
_JUDGED = (FASTER, SLOWER, WITHIN_NOISE, UNCERTAIN)
"""Verdicts that estimates, unknown noise or a lack of runs do not prevent."""


@dataclass(frozen=True)
class Lead:
    """One of the sentences."""

    about: str
    text: str
    name: str
    """The section that it is about."""


def leads(data: Mapping[str, Tidy], models: Models) -> list[Lead]:
    """The sentences about the experiments that there are, in the order of importance.

    Args:
        data: experiment -> its runs.
        models: finished runs of whole models, see `read_models`; empty for none.
    """
    made = [Lead(about, make(data[name]), name) for name, about, make in _PAPER if name in data]
    if "gpu_measured" in data:
        made.append(Lead("On a GPU", on_gpu(data["gpu_measured"], data.get("gpu")), "gpu_measured"))
    if models:
        made.append(Lead("A whole model", whole_models(models), "whole-models"))
    made += [Lead(about, make(data[name]), name) for name, about, make in _STUDIES if name in data]
    return [lead for lead in made if lead.text][:MOST]


def final_speedups(tidy: Tidy) -> str:
    """From the lowest to the highest mean speedup of a configuration; "" if there is only one."""
    found = _range_of_means(tidy)
    if not found:
        return ""
    blind = ""
    if "estimated" in set(tidy.runs["measurement"]):
        some = "some " if tidy.runs["measurement"].nunique() > 1 else ""
        blind = f"; {some}latencies are computed, not measured"
    if no_effect_of_sets(tidy):
        blind += ", and these stand-ins cannot show an effect of model sets"
    elif EMBEDDED in set(tidy.calls["backend"]):
        blind += ", and stand-ins say nothing about the models they are named after"
    return f"After {_samples(tidy)} {found}; {_no_ranking(tidy)}{blind}."


def on_gpu(tidy: Tidy, estimated: Tidy | None) -> str:
    """Like `final_speedups`, with the device, and what `estimated`, if there is one, is not."""
    found = _range_of_means(tidy)
    if not found or set(tidy.runs["measurement"]) != {"measured"}:
        return ""
    devices = " and ".join(sorted(set(tidy.runs["device"])))
    said = f"Measured on {devices}, {found}; {_no_ranking(tidy)}"
    if estimated is None:
        return f"{said}."
    return f"{said}, and latencies for the paper's {GPU} are computed, not measured, so they show nothing about it."


def who_is_called(tidy: Tidy) -> str:
    """How often the largest set calls its largest model, and how often the paper's did; "" if there is none."""
    table, own = _paper_table_1(tidy), _largest_set(tidy)
    if not {own["largest"], f"{own['largest']} (total)"} <= {*table.index}:
        return ""
    (ours, theirs), (all_ours, all_theirs) = table.loc[own["largest"]], table.loc[f"{own['largest']} (total)"]
    backends = tidy.calls.loc[tidy.calls["model"] == own["largest"], "backend"]
    why = "; under stand-ins these shares are set by construction, for a fixed rule names the next model"
    return (
        f"In {own['label']}, {model_label(own['largest'], backends.iloc[0])} answers {ours:.1f} % of the regular calls "
        f"(the paper: {theirs:.1f} %), and {all_ours:.1f} % of all calls, course alterations included "
        f"(the paper: {all_theirs:.1f} %){why if set_by_construction(tidy) else ''}."
    )


def alterations(tidy: Tidy) -> str:
    """How often the largest set alters the course, beside the paper, and whether its regressions persist."""
    own, table = _largest_set(tidy), _paper_table_1(tidy)
    if "course alteration rate" not in table.index:
        return ""
    ours, theirs = table.loc["course alteration rate"]
    said = f"{own['label']} alters the course after {ours:.1f} % of the small models' calls (the paper: {theirs:.1f} %)"
    shares = persistence(tidy)
    for row in shares[shares["configuration"].isin([own["label"], own["title"]])].to_dict("records"):
        points = [_percent(row[f"difference{end}"]) for end in ("", " low", " high")]
        said += (
            "; after a regression (a program predicted to be slower than its parent) "
            f"{_percent(row['after a regression'])} % of the programs regress again, otherwise "
            f"{_percent(row['otherwise'])} % do (difference {points[0]} points, 95 % interval {points[1]} to "
            f"{points[2]}); {_persistence_verdict(tidy, row)}"
        )
    return f"{said}."


def whole_models(models: Models) -> str:
    """Seconds before and after tuning, and the speedup of like by like: sum of kernels by sum of kernels."""
    first = models[0]
    before = f"{_number(first['unoptimized_secs'])} s ({first['unoptimized_how']})"
    after = " and ".join(f"{_number(model['tuned_secs'])} s with {label(model)}" for model in models)
    how = " and ".join(dict.fromkeys(model["tuned_how"] for model in models))
    like = " and ".join(map(_number, model_table(models)["like-for-like speedup"]))
    few = f"; {_ONE_SEED}" if len(models) > 1 and len({model["seed"] for model in models}) == 1 else ""
    mark = "" if {model["measurement"] for model in models} == {"measured"} else " (not measured)"
    return (
        f"{workload_title(first['model'])} takes {before} unoptimized{mark}, and {after} ({how}); compared like for "
        f"like, it becomes {like} times as fast{few}."
    )


def against_peers(tidy: Tidy) -> str:
    """COLT+ at each number of samples beside whichever search of others at fair settings is best by then."""
    table = ratios(tidy)
    named = {name for search in PEERS for name in _names(tidy, search)}
    table = table[table["configuration"].isin(named)].dropna(subset="ratio")
    worst = {group: rows.loc[rows.groupby("samples")["ratio"].idxmin()] for group, rows in table.groupby("workloads")}
    if MEAN not in worst:
        return ""
    best = _records(worst[MEAN])
    parts = [
        f"{_ratio(row, interval='95 % interval ' * first)}{' as fast' * first} after {row['samples']}"
        for row, first in zip(best, [True, *[False] * len(best)], strict=False)
    ]
    peers, ours = _listed(table["configuration"].unique()), best[0]["reference"]
    held_out = "".join(
        f"; without the workloads it was tuned on {_ratio(row, interval='')} after {row['samples']}"
        for row in _records(worst[HELD_OUT].tail(1) if HELD_OUT in worst else table[:0])
    )
    return (
        f"Compared with the best of {peers} at each number of samples, the programs of {ours} run {_listed(parts)}"
        f"{held_out}."
    )


def against_tvm(tidy: Tidy) -> str:
    """COLT+ beside TVM's own search after the last sample, and until when that search is random sampling."""
    compared = _against(tidy, EVOLUTIONARY)
    return compared and f"{compared}. {random_sampling(tidy)}".strip()


def against_random(tidy: Tidy) -> str:
    """COLT+ beside the same search with random answers."""
    compared = _against(tidy, "random_proposer")
    stands = EMBEDDED in set(tidy.calls["backend"])
    what = "stand-ins' answers add to it, not what an LLM's would" if stands else "answers add to it"
    return compared and f"{compared}; the latter is the same search with random answers, so this is what {what}."


def on_unseen(tidy: Tidy) -> str:
    """COLT+ beside every other search on workloads that it was not tuned on."""
    rows = [row for row in _last(tidy, MEAN) if not math.isnan(row["ratio"])]
    if not rows:
        return ""
    workloads = _listed(map(workload_title, display_order(tidy.runs["workload"], WORKLOAD_TITLES)))
    parts = [f"{_times(row, interval='95 % interval ' * (row is rows[0]))}" for row in rows]
    return f"On {workloads}, after {_samples(tidy)}, the programs of {rows[0]['reference']} run {_listed(parts)}."


def beyond_noise(tidy: Tidy) -> str:
    """Which differences from the reference exceed both their interval and the noise, if known."""
    rows = [row for row in _last(tidy, MEAN) if row["verdict"] in _JUDGED and not math.isnan(row["ratio low"])]
    if not rows:
        return ""
    said = f"Of {len(rows)} comparison{'' if len(rows) == 1 else 's'} of mean speedups after the last sample,"
    shown = [f"the programs of {row['reference']} run {_times(row, interval='')}" for row in rows if _beyond(row)]
    if not shown:
        return f"{said} none shows a difference beyond its 95 % interval and the noise."
    amount = "one shows" if len(shown) == 1 else f"{len(shown)} show"
    others = "The others show none; at" if len(shown) < len(rows) else "At"
    return (
        f"{said} {amount} a difference beyond its 95 % interval and the noise: {_listed(shown)}. {others} 95 %, "
        "one in twenty may differ by chance."
    )


_PAPER: tuple[tuple[str, str, Callable[[Tidy], str]], ...] = (
    ("cpu", "The paper's experiment", final_speedups),
    ("cpu", "Who is called", who_is_called),
    ("cpu", "Course alterations", alterations),
)
_STUDIES: tuple[tuple[str, str, Callable[[Tidy], str]], ...] = (
    ("anytime", "Against fair peers", against_peers),
    ("search", "Against TVM's own search", against_tvm),
    ("search", "What answers add", against_random),
    ("unseen", "Unseen workloads", on_unseen),
    ("controls", "Parts of COLT+", beyond_noise),
)
"""Experiment, what a sentence is about, and what makes it from the experiment's runs."""


def _range_of_means(tidy: Tidy) -> str:
    """The lowest and the highest mean over workloads; "" if fewer than two configurations have one."""
    means = speedups(tidy).set_index("workload").iloc[-1].dropna().astype("float64")
    if len(means) < 2:
        return ""
    workloads = sorted(set(tidy.runs["workload"]))
    where = f"in the geometric mean over {len(workloads)} workloads"
    if len(workloads) == 1:
        where = f"on {workload_title(workloads[0])}"
    mark = " (stand-ins)" if EMBEDDED in set(tidy.calls["backend"]) else ""
    return (
        f"the best programs of {len(means)} configurations{mark} run {_number(means.min())} to {_number(means.max())} "
        f"times as fast as the unoptimized ones, {where}"
    )


def _no_ranking(tidy: Tidy) -> str:
    if one_seed(tidy):
        return _ONE_SEED
    seeds = count("seed", seed_counts(tidy))
    return f"{seeds} give no ranking" if seed_counts(tidy).min() == 1 else seeds


def _largest_set(tidy: Tidy) -> dict[str, Any]:
    """The configuration with the most models."""
    rows = configurations(tidy).to_dict("records")
    return {str(name): value for name, value in max(rows, key=lambda row: row["models"]).items()}


def _paper_table_1(tidy: Tidy) -> pd.DataFrame:
    """Ours and the paper's percentages in its table 1, for the configuration with the most models."""
    as_in_paper = replace(tidy, calls=tidy.calls.assign(backend=""))
    table = paper_comparison(tidy)
    own: pd.DataFrame = table[(table["table"] == 1) & (table["column"] == _largest_set(as_in_paper)["short_label"])]
    return own.set_index("row")[["ours", "paper"]].dropna()


def _persistence_verdict(tidy: Tidy, row: Mapping[Any, Any]) -> str:
    seeds, estimated = int(seed_counts(tidy).max()), "estimated" in set(tidy.runs["measurement"])
    return persistence_verdict(row["difference low"], row["difference high"], seeds=seeds, estimated=estimated)


def _against(tidy: Tidy, search: str) -> str:
    """The reference, which is COLT+, beside `search`: over all workloads, and over those that it was not tuned on.

    Returns:
        The beginning of a sentence; "" if they cannot be compared.
    """
    ends = [
        row for group in (MEAN, HELD_OUT) for row in _last(tidy, group) if row["configuration"] in _names(tidy, search)
    ]
    rows = [row for row in ends if not math.isnan(row["ratio"])]
    if not rows:
        return ""
    first, *held_out = rows
    return (
        f"After {_samples(tidy)} the programs of {first['reference']} run "
        f"{_times(first, interval='95 % interval ')}"
        + "".join(f", without the workloads it was tuned on {_ratio(row, interval='')}" for row in held_out)
    )


def _last(tidy: Tidy, group: str) -> list[dict[str, Any]]:
    """The rows of `ratios` about a group of workloads after the last sample."""
    table = ratios(tidy)
    last = table[(table["workloads"] == group) & (table["samples"] == table["samples"].max())]
    return _records(last)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _names(tidy: Tidy, search: str) -> set[str]:
    """How `ratios` may name a search."""
    own = configurations(tidy).query("search == @search")
    return {*own["title"], *own["label"]}


def _times(row: Mapping[str, Any], *, interval: str) -> str:
    """How many times as fast as another configuration's the reference's programs are."""
    name = row["configuration"]
    return f"{_ratio(row, interval=interval)} as fast as those of {'the ' * name.startswith('random ')}{name}"


def _ratio(row: Mapping[str, Any], *, interval: str) -> str:
    """The ratio and its interval, after the word for it, with what stands against calling it a difference."""
    known = [] if math.isnan(row["ratio low"]) else [f"{interval}{row['ratio low']:.2f} to {row['ratio high']:.2f}"]
    against = [] if _beyond(row) else [row["verdict"]]
    return f"{row['ratio']:.2f} times ({', '.join(known + against)})"


def _beyond(row: Mapping[str, Any]) -> bool:
    return row["verdict"] in (FASTER, SLOWER)


def _samples(tidy: Tidy) -> str:
    """How long the runs are, as the text says it."""
    return f"{tidy.curves['sample'].max()} {'calls' if samples_are_calls(tidy.runs) else 'samples'}"


def _listed(parts: Iterable[str]) -> str:
    *most, last = parts
    if any("," in part for part in [*most, last]):
        return "; ".join([*most[:-1], f"{most[-1]}; and {last}"]) if most else last
    return f"{', '.join(most)} and {last}" if most else last


def _number(value: float) -> str:
    """Three significant digits, or all those before the point."""
    return f"{value:.0f}" if value >= 100 else f"{value:#.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}".replace("-", "−")
