"""Which model is called when: shares of calls over the samples of a run."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from colt_pipeline.analysis.figures.drawing import COLUMNS, PANEL_HEIGHT, WIDTH, draw_legend, save
from colt_pipeline.analysis.labels import model_label, samples_are_calls, with_sample_unit
from colt_pipeline.analysis.searches import comparable, searches
from colt_pipeline.analysis.tidy import IDS, Tidy
from colt_pipeline.search.outcome import ALTERATIONS

_COLUMNS = ("configuration", "sample", "until", "model", "calls", "percent")

MODEL_STYLES = {
    "gpt-5.2": ("#0173b2", ""),
    "llama-3.3-70b-instruct": ("#0173b2", "/-"),
    "deepseek-r1-distill-qwen-32b": ("#de8f05", "//"),
    "devstral-small-2505": ("#029e73", "\\\\"),
    "gpt-5-mini": ("#cc78bc", "xx"),
    "qwen3-14b": ("#ca9161", "--"),
    "llama-3.1-8b-instruct": ("#fbafe4", "||"),
    "qwen3-8b": ("#ece133", ""),
    "deepseek-r1-distill-qwen-7b": ("#56b4e9", "++"),
    ALTERATIONS: ("#404040", ""),
}
"""Model -> colour-blind safe colour and hatch, the same in all figures, the largest first.

No hatch has dots or circles: as paths they would make up half of the file.
"""
_OTHER = ("#bbbbbb", "|/")
_TITLE_LINE = 30  # characters of a title that fit over one panel


def share_data(tidy: Tidy) -> pd.DataFrame:
    """Which models were called between two measured batches, pooled over workloads and seeds.

    Returns:
        Columns configuration, sample and until (measured samples when the calls began and ended), model (its displayed
        name; the largest first, ALTERATIONS last), calls, percent (of the configuration's calls in that span), and see
        `with_sample_unit`.
        Configurations with a single model are omitted.
    """
    parts = [_of_part(part, ending) for part, ending in comparable(tidy)]
    return pd.concat(parts, ignore_index=True)


def _of_part(part: Tidy, ending: str) -> pd.DataFrame:
    data = searches(part)
    members = data.members(ending)
    turns = members.merge(part.turns, on=list(IDS))
    last = int(part.runs["samples"].max())
    found = [pd.DataFrame(columns=list(_COLUMNS))]
    for name in members["configuration"].unique():
        own = turns[turns["configuration"] == name]
        models = members[members["configuration"] == name].merge(part.calls, on=list(IDS))
        models = models.sort_values(["parameters_b", "model"], ascending=[False, True]).drop_duplicates("model")
        if len(models) < 2 or own.empty:
            continue
        order = {row["model"]: model_label(row["model"], row["backend"]) for row in models.to_dict("records")}
        counts = own.reindex(columns=["sample", *order, ALTERATIONS], fill_value=0)
        calls = counts.groupby("sample").sum().rename(columns=order)
        spans = dict(zip(calls.index, [*calls.index[1:], last], strict=True))
        long = calls.stack().rename("calls").rename_axis(["sample", "model"]).reset_index()
        total = long.groupby("sample")["calls"].transform("sum")
        long = long.assign(configuration=name, until=long["sample"].map(spans), percent=100 * long["calls"] / total)
        found.append(long[long["until"] > long["sample"]][list(_COLUMNS)])
    return with_sample_unit(pd.concat(found[1:] or found), part.runs)


def share_plot(data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Draw what `share_data` returned, stacked, one panel per configuration; see `drawing.save`."""
    save(_draw, data, title, key, path_stem)


def _draw(data: pd.DataFrame) -> Figure:
    names = list(data["configuration"].unique())
    labels = _model_labels(list(data["model"].unique()))
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * rows + 0.4), layout="constrained")
    panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flatten())
    for panel, name in zip(panels, names, strict=False):
        own = data[data["configuration"] == name]
        _stack(panel, own, labels)
        panel.set_title(
            textwrap.fill(_panel_title(name, list(own["model"].unique()), labels), _TITLE_LINE, break_on_hyphens=False)
        )
    for panel in panels[len(names) :]:
        panel.set_axis_off()
    for panel in panels[max(len(names) - columns, 0) : len(names)]:
        panel.set_xlabel("Samples (regular calls)" if samples_are_calls(data) else "Samples")
    for panel in panels[: len(names) : columns]:
        panel.set_ylabel("Percent of calls")
    shared = any(label != model for model, label in labels.items())
    title = "models by colour; above a panel: what answered" if shared else None
    draw_legend(figure, panels[len(names) :], panels[: len(names)], title, list(labels.values()))
    return figure


def _model_labels(models: Sequence[str]) -> dict[str, str]:
    """Displayed name -> entry of the legend, in its order: without what answered if that differs, to stand once."""
    bare = {model: model.partition(" (")[0] for model in models}
    ordered = sorted(models, key=lambda model: (_place(bare[model]), model))
    return {model: bare[model] if len(set(bare.values())) < len(models) else model for model in ordered}


def _place(model: str) -> int:
    """Known models by size, then others, then course alterations."""
    names = [*MODEL_STYLES]
    return names.index(model) if model in names[:-1] else len(names) + (model == ALTERATIONS)


def _panel_title(name: str, models: Sequence[str], labels: dict[str, str]) -> str:
    """The configuration's name, which must say what answered if the legend does not."""
    marks = {model.removeprefix(labels[model]).strip(" ()") for model in models} - {""}
    return name + "".join(f" ({mark})" for mark in sorted(marks) if mark not in name)


def _stack(panel: Axes, data: pd.DataFrame, labels: dict[str, str]) -> None:
    spans = data.drop_duplicates("sample")
    edges = [*spans["sample"], spans["until"].iloc[-1]]
    below = [0.0] * len(edges)
    for model, own in data.groupby("model", sort=False):
        top = [low + percent for low, percent in zip(below, [*own["percent"], own["percent"].iloc[-1]], strict=True)]
        colour, hatch = MODEL_STYLES.get(str(model).partition(" (")[0], _OTHER)
        look: dict[str, Any] = {"facecolor": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.3}
        panel.fill_between(edges, below, top, step="post", label=labels[str(model)], **look)
        below = top
    panel.set_xlim(edges[0], edges[-1])
    panel.set_ylim(0, 100)
