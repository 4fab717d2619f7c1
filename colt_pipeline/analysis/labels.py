"""Names as shown to readers, and the sentence that states where the numbers come from."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from colt_pipeline.records import EMBEDDED, RANDOM

if TYPE_CHECKING:  # pandas takes a while, and commands that need names only should not wait for it
    import pandas as pd

    from colt_pipeline.analysis.tidy import Tidy

CONFIGURATION = ["target", "search", "model_set", "largest"]
"""The columns that identify a configuration; its runs differ only in workload and seed."""

WORKLOAD_TITLES = {
    "llama3_8b_attention": "Llama-3-8B attention",
    "deepseek_r1_moe": "DeepSeek-R1 MoE",
    "flux_attention": "FLUX attention",
    "flux_conv": "FLUX convolution",
    "llama4_scout_mlp": "Llama-4-Scout MLP",
    "batched_matmul_nt": "Batched matmul",
    "depthwise_conv": "Depthwise convolution",
}
MODEL_SETS = ("small", "large", "2", "4", "8")

_BACKENDS = {EMBEDDED: "stand-in LLMs", RANDOM: "random answers", "none": "no LLM"}
_MARKS = {EMBEDDED: " (stand-in)", RANDOM: " (random)"}
NOT_MEASURED = "(not measured)"
"""Marks a latency that was computed."""


def workload_title(workload: str) -> str:
    """The title of a workload; a user's own workload keeps its name."""
    return WORKLOAD_TITLES.get(workload, workload)


def display_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Distinct `names`: first those in `known`, in its order, then the others by name."""
    rank = {name: index for index, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (rank.get(name, len(rank)), name))


def model_label(model: str, backend: str) -> str:
    """The model's name; a stand-in or a random draw is never shown as the model itself."""
    return model + _MARKS.get(backend, "")


def backend_label(backend: str) -> str:
    """What answered, in words; stand-ins are identified as such."""
    return _BACKENDS.get(backend, f"LLMs via {backend}")


def unmeasured(measurement: str) -> str:
    """What follows a latency, or the word for its source: NOT_MEASURED if it was not measured."""
    return "" if measurement == "measured" else f" {NOT_MEASURED}"


@lru_cache(maxsize=32)  # used by every table and figure, by some for parts of the runs
def configurations(tidy: Tidy) -> pd.DataFrame:
    """One row per configuration, in display order.

    Returns:
        A cached frame that must not be modified, with CONFIGURATION, models (number of LLMs used), label ("COLT (8
        models)", "gpt-5-mini (stand-in)"), short_label ("COLT(8)") and family (the model set, or the search if it has
        no LLM), which determines the colour. Both labels end with whatever distinguishes configurations of the same
        name.
    """
    frame = tidy.runs[CONFIGURATION].drop_duplicates()
    rank = {name: index for index, name in enumerate(display_order(frame["model_set"], MODEL_SETS))}
    frame = frame.sort_values(
        ["model_set", "search", "largest", "target"],
        key=lambda column: column.map(rank) if column.name == "model_set" else column,
        ignore_index=True,
    )
    calls = [_calls_of(tidy, row) for row in frame.to_dict("records")]
    frame["models"] = [own["model"].nunique() for own in calls]
    frame["family"] = frame["model_set"].where(frame["models"] > 0, frame["search"])
    names = [_names(row, own) for row, own in zip(frame.to_dict("records"), calls, strict=True)]
    frame["label"], frame["short_label"] = ([pair[index] for pair in names] for index in (0, 1))
    endings = [_differences(row, frame, own) for row, own in zip(frame.to_dict("records"), calls, strict=True)]
    frame["label"], frame["short_label"] = frame["label"] + endings, frame["short_label"] + endings
    return frame


def caption(tidy: Tidy) -> str:
    """Backend, measurement, search, seeds, samples and device of all runs; differing values are shown as mixed."""
    names = one_or_mixed("searches", [f"search={name}" for name in tidy.runs["search"]])
    return _caption(tidy, f"{names} with ")


def caption_beside_searches(tidy: Tidy) -> str:
    """Like `caption`, without the searches, which are shown next to the numbers."""
    return _caption(tidy, "")


def _caption(tidy: Tidy, named: str) -> str:
    runs = tidy.runs
    backends = sorted({*runs["llm_backend"], *tidy.calls["backend"]})
    seeds = runs.groupby([*CONFIGURATION, "workload"])["seed"].nunique()
    parts = [
        one_or_mixed("LLM backends", map(backend_label, backends)),
        one_or_mixed("measurements", [f"{name} latency{unmeasured(name)}" for name in runs["measurement"]]),
        named + one_or_mixed("warm-ups", [f"warmup_samples={count}" for count in runs["warmup_samples"]]),
        _count("seed", seeds),
        _count("sample", runs["samples"]),
        one_or_mixed("devices", [f"device {name}" for name in runs["device"]]),
    ]
    return ", ".join(parts)


def _names(row: dict[Any, Any], calls: pd.DataFrame) -> tuple[str, str]:
    """Label and short label, without what distinguishes the configuration from others of the same name."""
    models = calls["model"].unique()
    if len(models) == 0:
        return row["search"], row["search"]
    if len(models) == 1:
        label = _label_of(calls)
        return label, label
    name = row["model_set"]
    if name == str(len(models)):
        return f"COLT ({name} models)", f"COLT({name})"
    return f"COLT ({name}, {len(models)} models)", f"COLT({name})"


def _calls_of(tidy: Tidy, row: dict[Any, Any]) -> pd.DataFrame:
    return tidy.calls[(tidy.calls[CONFIGURATION] == [row[key] for key in CONFIGURATION]).all(axis="columns")]


def _differences(row: dict[Any, Any], frame: pd.DataFrame, calls: pd.DataFrame) -> str:
    """Target and search if the comparison mixes them; model set and largest model if the name is ambiguous."""
    twins = frame[frame["label"] == row["label"]]
    parts = []
    if frame["target"].nunique() > 1:
        parts.append(f"target={row['target']}")
    if frame.loc[frame["models"] > 0, "search"].nunique() > 1 and row["models"] > 0:
        parts.append(f"search={row['search']}")
    if twins["model_set"].nunique() > 1:
        parts.append(f"model_set={row['model_set']}")
    if twins["largest"].nunique() > 1:
        parts.append(f"largest={_label_of(calls[calls['is_largest']]) or row['largest']}")
    return "".join(f", {part}" for part in parts)


def _label_of(calls: pd.DataFrame) -> str:
    """The label of the only model in `calls`, which may have answered through several backends."""
    pairs = calls[["model", "backend"]].drop_duplicates().sort_values("backend")
    return " / ".join(model_label(model, backend) for model, backend in pairs.itertuples(index=False))


def one_or_mixed(plural: str, values: Iterable[str]) -> str:
    """The value if there is only one; several are shown as mixed."""
    distinct = sorted(set(values))
    return distinct[0] if len(distinct) == 1 else f"mixed {plural} ({', '.join(distinct)})"


def _count(noun: str, counts: pd.Series[Any]) -> str:
    low, high = int(counts.min()), int(counts.max())
    amount = str(low) if low == high else f"{low} to {high}"
    return f"{amount} {noun}{'' if high == 1 else 's'}"
