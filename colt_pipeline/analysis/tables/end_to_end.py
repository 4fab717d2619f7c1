"""A whole model tuned with several model sets: the paper's table 2 beside ours, and the kernels of the model.

Sample efficiency is speedup / samples; its gain is relative to the single small model. The speedup is that of the
summary, which may compare a sum over kernels with a model measured whole; beside it stands one of two alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pandas as pd
from msgspec import Meta

from colt_pipeline.analysis.index import Entry
from colt_pipeline.analysis.labels import (
    MARKS,
    MODEL_SETS,
    backend_label,
    display_order,
    model_label,
    search_title,
    space_ending,
    unmeasured,
)
from colt_pipeline.analysis.metrics import rounded, short_names
from colt_pipeline.analysis.tables.files import write_files
from colt_pipeline.analysis.tables.paper import SOURCE, paper_table
from colt_pipeline.config.spaces import space_name, space_title
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import MeasurementKind
from colt_pipeline.runs.layout import WHOLE_MODEL
from colt_pipeline.runs.rundir import read_json
from colt_pipeline.serialization import Count, Seconds, canonical_json, typed

MODELS = "models.jsonl"
"""The numbers behind the tables: one line per finished run of a whole model."""

Models = Sequence[dict[str, Any]]


class _Task(TypedDict):
    task: str
    shape: str
    weight: Count
    flop: Count
    samples: Count
    unoptimized_secs: Seconds
    best_secs: Seconds


class _Summary(TypedDict):
    model: str
    shape: dict[str, int]
    search: str
    model_set: str
    largest: str | None
    models: list[str]
    llm_backend: str
    measurement: MeasurementKind
    device: str
    seed: int
    samples: Annotated[int, Meta(ge=1)]
    unoptimized_secs: Seconds
    unoptimized_how: str
    tuned_secs: Seconds
    tuned_how: str
    tuned_sum_secs: Seconds
    speedup: Annotated[float, Meta(gt=0, le=1e300)]
    tasks: list[_Task]


class Model(_Summary, total=False):
    """What the tables read of a summary."""

    space: list[str]


def read_models(runs_dir: Path) -> list[dict[str, Any]]:
    """The finished runs of whole models below `runs_dir`, the small model first.

    Raises:
        RunDirError: one is unreadable.
        ConfigError: there is none, one lacks a field, or two have the same model set, largest model, search, space and
            seed.
    """
    models: dict[tuple[str, ...], dict[str, Any]] = {}
    for path in sorted(runs_dir.rglob(WHOLE_MODEL)):
        try:
            model = read_json(path)
            typed(Model, model)
            names = ("model", "search", "model_set", "largest", "seed")
            key = (*(str(model[name]) for name in names), _space(model))
        except ValueError as error:
            raise ConfigError(f"{path} is not the summary of a whole model ({error}); run tune_model again") from error
        if key in models:
            raise ConfigError(f"{runs_dir} holds two runs of {', '.join(key)}; pass their experiments separately")
        models[key] = model
    if not models:
        raise ConfigError(f"{runs_dir} holds no finished run of a whole model (one with a {WHOLE_MODEL})")
    order = display_order((model["model_set"] for model in models.values()), MODEL_SETS)
    return sorted(models.values(), key=lambda model: order.index(model["model_set"]))


def model_table(models: Models) -> pd.DataFrame:
    """Table 2: one row per configuration.

    Returns:
        configuration, samples, unoptimized (s), tuned (s), how each was obtained, speedup (of these two), sum over
        tuned kernels (s), like-for-like speedup, sample efficiency, gain, and the paper's samples, speedup and gain for
        the same model set and largest model. Without a run of the small model there is no gain.
    """
    small = {_setting(model): _efficiency(model) for model in models if model["model_set"] == "small"}
    rows = []
    for model in models:
        own = _efficiency(model)
        rows.append(
            {
                "configuration": label(model),
                "samples": model["samples"],
                "unoptimized (s)": model["unoptimized_secs"],
                "unoptimized: how": model["unoptimized_how"],
                "tuned (s)": model["tuned_secs"],
                "tuned: how": model["tuned_how"],
                "speedup": model["speedup"],
                "sum over tuned kernels (s)": model["tuned_sum_secs"],
                "like-for-like speedup": _like_for_like(model),
                "sample efficiency": own,
                "gain": own / small[_setting(model)] if _setting(model) in small else None,
            }
        )
    paper = paper_table(2).set_index(["largest", "model_set"])
    beside = pd.DataFrame([(m["largest"], m["model_set"]) for m in models], columns=["largest", "model_set"])
    theirs = beside.join(paper, on=["largest", "model_set"])[["samples", "speedup", "sample_efficiency_gain"]]
    theirs = theirs.set_axis(["paper: samples", "paper: speedup", "paper: gain"], axis="columns")
    theirs["paper: samples"] = theirs["paper: samples"].astype("Int64")
    return pd.concat([pd.DataFrame(rows).astype({"gain": "float64"}), theirs], axis="columns")


def task_table(models: Models) -> pd.DataFrame:
    """One row per configuration and kernel.

    Returns:
        configuration, kernel (TVM's name), shapes, calls, MFLOP (of one call), samples (0 = untuned), unoptimized (ms),
        tuned (ms) (of one call), share (%) (of the sum over tuned kernels).
    """
    rows = [
        {
            "configuration": label(model),
            "kernel": task["task"],
            "shapes": task["shape"],
            "calls": task["weight"],
            "MFLOP": task["flop"] / 1e6,
            "samples": task["samples"],
            "unoptimized (ms)": 1e3 * task["unoptimized_secs"],
            "tuned (ms)": 1e3 * task["best_secs"],
            "share (%)": 100 * task["weight"] * task["best_secs"] / model["tuned_sum_secs"],
        }
        for model in models
        for task in model["tasks"]
    ]
    return pd.DataFrame(rows)


def label(model: dict[str, Any]) -> str:
    """A configuration as shown to readers; stand-ins are identified as such, and a space other than TVM's is named."""
    ending = space_ending(_space(model)) if model.get("space") else ""
    if len(model["models"]) == 1:
        return model_label(model["models"][0], model["llm_backend"]) + ending
    marks = "".join(f", {MARKS[backend]}" for backend in _backends(model) if backend in MARKS)
    return f"{search_title(model['search'])} ({len(model['models'])} models{marks}){ending}"


def _efficiency(model: dict[str, Any]) -> float:
    return float(model["speedup"] / model["samples"])


def _setting(model: dict[str, Any]) -> tuple[Any, ...]:
    """What a run has in common with the run of the small model that its gain is over."""
    return (*(model[name] for name in ("model", "search", "seed")), _space(model))


def _like_for_like(model: dict[str, Any]) -> float:
    """The speedup of two alike: the whole model if both are, else the sums over its kernels."""
    if model["unoptimized_how"] == model["tuned_how"]:
        return float(model["speedup"])
    return float(model["unoptimized_secs"] / model["tuned_sum_secs"])


def _space(model: dict[str, Any]) -> str:
    return space_name(model.get("space", ()))


def _backends(model: dict[str, Any]) -> list[str]:
    return str(model["llm_backend"]).split(", ")


def _answered(model: dict[str, Any]) -> str:
    """What answered, in words."""
    return ", ".join(map(backend_label, _backends(model)))


def model_key(models: Models) -> str:
    """The conditions of the runs in a line, as `compared.key` gives for other experiments."""
    parts = [
        {_answered(model) for model in models},
        {f"{model['measurement']} latency{unmeasured(model['measurement'])}" for model in models},
        {model["device"] for model in models},
        {space_title(_space(model)) for model in models},
        {f"seed {model['seed']}" for model in models},
        {_sizes(model) for model in models},
    ]
    return " · ".join(" or ".join(sorted(values)) for values in parts)


def _sizes(model: dict[str, Any]) -> str:
    shape = model["shape"]
    return f"{model['model']} with {shape['layers']} layers that share random weights, {shape['tokens']} tokens"


TABLES = {
    "table_2": (
        model_table,
        "Table 2 of the paper beside ours",
        "Speedup: unoptimized / tuned, each obtained as its column says. Like-for-like speedup: of two alike, the sums "
        "over kernels of calls x latency unless both models were measured whole. Sample efficiency: speedup "
        "(not the like-for-like one) / samples; gain: over the single small model's. Paper: table 2 of "
        f"{SOURCE} (other machine, other LLMs).",
    ),
    "kernels": (
        task_table,
        "Kernels of the model",
        "Latencies of one call; share: of the sum over kernels of calls x tuned latency.",
    ),
}
"""File name -> (function, title, what its numbers are)."""


def model_metrics(models: Models) -> dict[str, dict[str, Any]]:
    """The numbers of each configuration that DVC compares between commits, see `metrics`."""
    telling = pd.DataFrame([{**model, "space": _space(model)} for model in models])
    names = short_names(telling, ("model_set", "search", "largest", "model", "space", "seed"))
    return {
        name: {"llm": _answered(model), "latency": model["measurement"], "device": model["device"]}
        | {"samples": model["samples"], "speedup": {model["model"]: rounded(model["speedup"])}}
        for name, model in zip(names, models, strict=True)
    }


def write_model_tables(models: Models, out: Path) -> None:
    """Write MODELS and the tables of TABLES, creating the directory if needed."""
    out.mkdir(parents=True, exist_ok=True)
    (out / MODELS).write_text("".join(canonical_json(model) + "\n" for model in models))
    common = model_key(models)
    write_files({Entry(name, title, what, common): make(models) for name, (make, title, what) in TABLES.items()}, out)
