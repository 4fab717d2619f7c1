"""Names as shown to readers, with marks on what models or devices did not give."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from colt_pipeline.config.spaces import EXTENDED, TVM, space_title
from colt_pipeline.records import EMBEDDED, RANDOM

if TYPE_CHECKING:  # pandas takes a while, and commands that need names only should not wait for it
    import pandas as pd

    from colt_pipeline.analysis.tidy import Tidy

CONFIGURATION = ["target", "space", "search", "model_set", "largest"]
"""The columns that identify a configuration; its runs differ only in workload and seed."""

WORKLOAD_TITLES = {
    "llama3_8b_attention": "Llama-3-8B attention",
    "deepseek_r1_moe": "DeepSeek-R1 MoE",
    "flux_attention": "FLUX attention",
    "flux_conv": "FLUX convolution",
    "llama4_scout_mlp": "Llama-4-Scout MLP",
    "batched_matmul_nt": "Batched matmul",
    "depthwise_conv": "Depthwise convolution",
    "llama3_8b": "Llama-3-8B",
}
SPACES = (TVM, EXTENDED)
MODEL_SETS = ("small", "large", "2", "4", "8")
REFERENCE_SET = "large"
"""What other model sets are compared with: the single large model."""
SEARCH_TITLES = {
    "colt_plus": "COLT+",
    "drafts_alone": "COLT+ without LLMs",
    "colt": "COLT+ without drafts",
    "paper": "COLT",
    "paper_16": "COLT (warm-up 16)",
    "official_code": "COLT, authors' code",
    "official_code_16": "COLT, authors' code (warm-up 16)",
    "evolutionary": "TVM's evolutionary search",
    "evolutionary_8": "TVM's evolutionary search (batches of 8)",
    "evolutionary_pretrained": "TVM's evolutionary search (pretrained)",
    "random_proposer": "random proposer",
    "random_proposer_tvm": "random proposer, TVM's weights",
    "mcts_no_llm": "COLT+ without drafts or LLMs",
    "single_small": "COLT+, one small model",
    "single_large": "COLT+, one large model",
    "no_course_alteration": "COLT+ without course alteration",
    "random_course_alteration": "COLT+, random course alteration",
    "router_cheapest": "COLT+, router cheapest",
    "router_round_robin": "COLT+, router round robin",
    "router_ucb": "COLT+, router UCB",
    "router_uniform": "COLT+, router uniform",
}
"""``search.name`` -> its title, in display order: this project's search is COLT+, the paper's is COLT."""
EVOLUTIONARY = "evolutionary"
"""TVM's own search."""
FAIR_EVOLUTIONARY = "evolutionary_8"
"""The same, learning from as few samples, as often, as ours."""
PEERS = (FAIR_EVOLUTIONARY, "evolutionary_pretrained", "official_code_16")
"""Searches of others at settings that do not hold them back."""

_BACKENDS = {EMBEDDED: "stand-in LLMs", RANDOM: "random answers", "none": "no LLM"}
MARKS = {EMBEDDED: "stand-in", RANDOM: "random"}
"""Backend -> what its answers are, where a model did not give them."""
NOT_MEASURED = "(not measured)"
"""Marks a latency that was computed."""


def workload_title(workload: str) -> str:
    """The title of a workload; a user's own workload keeps its name."""
    return WORKLOAD_TITLES.get(workload, workload)


def search_title(search: str) -> str:
    """The title of a search; a user's own keeps its name."""
    return SEARCH_TITLES.get(search, search)


def display_order(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Distinct `names`: first those in `known`, in its order, then the others by name."""
    rank = {name: index for index, name in enumerate(known)}
    return sorted(set(names), key=lambda name: (rank.get(name, len(rank)), name))


def model_label(model: str, backend: str) -> str:
    """The model's name; a stand-in or a random draw is never shown as the model itself."""
    return f"{model} ({MARKS[backend]})" if backend in MARKS else model


def backend_label(backend: str) -> str:
    """What answered, in words; stand-ins are identified as such."""
    return _BACKENDS.get(backend, f"real LLMs via {backend}")


def space_ending(space: str) -> str:
    """What distinguishes a name from the same one with another design space."""
    return f", {space_title(space)}"


def space_titles(spaces: Iterable[str]) -> str:
    """Design spaces in words."""
    return " and ".join(map(space_title, display_order(spaces, SPACES)))


def unmeasured(measurement: str) -> str:
    """What follows a latency, or the word for its source: NOT_MEASURED if it was not measured."""
    return "" if measurement == "measured" else f" {NOT_MEASURED}"


def samples_are_calls(data: pd.DataFrame) -> bool:
    """Whether a sample of these runs, or of what was made of them, is a regular call, see ``search.sample``."""
    return "sample_unit" in data and bool((data["sample_unit"] == "call").all())


def with_sample_unit(data: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """What was made of these runs, with a column that says so if their samples are calls."""
    return data.assign(sample_unit="call") if samples_are_calls(runs) else data


@lru_cache(maxsize=32)  # used by every table and figure, by some for parts of the runs
def configurations(tidy: Tidy) -> pd.DataFrame:
    """One row per configuration, in display order.

    Returns:
        A cached frame that must not be modified, with CONFIGURATION, models (number of LLMs used), label ("COLT (8
        models, stand-in)", "gpt-5-mini (stand-in)"), short_label ("COLT(8, stand-in)"), title (of the search, such as
        "COLT+ (stand-in)", with its design space if there are several) and family (the model set, or the search if it
        has no LLM), which determines the colour. Both labels end with whatever distinguishes configurations of the same
        name.
    """
    frame = tidy.runs[CONFIGURATION].drop_duplicates()
    orders = {"model_set": MODEL_SETS, "space": SPACES}
    ranks = {column: display_order(frame[column], known) for column, known in orders.items()}
    frame = frame.sort_values(
        ["model_set", "search", "largest", "target", "space"],
        key=lambda column: column.map(ranks[column.name].index) if column.name in ranks else column,
        ignore_index=True,
    )
    calls = [_calls_of(tidy, row) for row in frame.to_dict("records")]
    frame["models"] = [own["model"].nunique() for own in calls]
    frame["family"] = frame["model_set"].where(frame["models"] > 0, frame["search"])
    names = [_names(row, own) for row, own in zip(frame.to_dict("records"), calls, strict=True)]
    frame["title"] = [_title(row, own) for row, own in zip(frame.to_dict("records"), calls, strict=True)]
    frame["label"], frame["short_label"] = ([pair[index] for pair in names] for index in (0, 1))
    endings = [_differences(row, frame, own) for row, own in zip(frame.to_dict("records"), calls, strict=True)]
    frame["label"], frame["short_label"] = frame["label"] + endings, frame["short_label"] + endings
    if frame["space"].nunique() > 1:
        for name in ("title", "label", "short_label"):
            frame[name] += frame["space"].map(space_ending)
    return frame


def _names(row: dict[Any, Any], calls: pd.DataFrame) -> tuple[str, str]:
    """Label and short label, without what distinguishes the configuration from others of the same name."""
    models = calls["model"].unique()
    if len(models) == 0:
        return search_title(row["search"]), search_title(row["search"])
    if len(models) == 1:
        label = _label_of(calls)
        return label, label
    name, mark = row["model_set"], "".join(f", {mark}" for mark in _marks(calls))
    title = search_title(row["search"])
    size = f"{name} models" if name == str(len(models)) else f"{name}, {len(models)} models"
    return f"{title} ({size}{mark})", f"{title}({name}{mark})"


def _title(row: dict[Any, Any], calls: pd.DataFrame) -> str:
    """The search's title, marked; the titles of this project's searches with random answers say so themselves."""
    marks = [mark for mark in _marks(calls) if mark != MARKS[RANDOM] or row["search"] not in SEARCH_TITLES]
    return f"{search_title(row['search'])} ({', '.join(marks)})" if marks else search_title(row["search"])


def _marks(calls: pd.DataFrame) -> list[str]:
    """What did not come from the models named: how their answers were made, in any of the runs."""
    return [MARKS[backend] for backend in sorted(set(calls["backend"]) & {*MARKS})]


def _calls_of(tidy: Tidy, row: dict[Any, Any]) -> pd.DataFrame:
    return tidy.calls[(tidy.calls[CONFIGURATION] == [row[key] for key in CONFIGURATION]).all(axis="columns")]


def _differences(row: dict[Any, Any], frame: pd.DataFrame, calls: pd.DataFrame) -> str:
    """The target if the comparison mixes them; search, model set and largest model if the name leaves them open."""
    twins = frame[(frame["label"] == row["label"]) & (frame["space"] == row["space"])]
    parts = []
    if frame["target"].nunique() > 1:
        parts.append(f"target={row['target']}")
    several = frame.loc[frame["models"] > 0, "search"].nunique() > 1
    if (several and row["models"] == 1) or twins["search"].nunique() > 1:
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
