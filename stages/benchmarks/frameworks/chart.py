"""The chart of the benchmark ``torch``: how long each framework takes beside our schedule."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from colt_pipeline.analysis.figures.drawing import WIDTH, draw_marks_legend, save_images

LOOKS: dict[str, tuple[str, str, str]] = {
    "eager": ("PyTorch, eager", "#de8f05", "^"),
    "compiled": ("torch.compile, frozen weights", "#029e73", "D"),
    "onnxruntime": ("ONNX Runtime", "#0173b2", "o"),
}
"""Side -> name, colour and marker."""
_MEAN = "geometric mean"
_TICKS = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 32)
_ROW_INCHES, _REST_INCHES = 0.24, 0.75


def chart_data(rows: Sequence[Mapping[str, Any]], sides: Sequence[str]) -> pd.DataFrame:
    """Kernel, our milliseconds (none for the mean), side, and its time divided by ours; last their geometric means."""
    of_kernels = [row for row in rows if row.get("ours_ms")]
    data = [
        {"kernel": row["kernel"], "ours_ms": float(row["ours_ms"]), "side": side, "ratio": _ratio(row, side)}
        for row in of_kernels
        for side in sides
    ]
    means = [
        {
            "kernel": _MEAN,
            "ours_ms": None,
            "side": side,
            "ratio": statistics.geometric_mean(_ratio(row, side) for row in of_kernels),
        }
        for side in sides
    ]
    return pd.DataFrame([*data, *means])


def _ratio(row: Mapping[str, Any], side: str) -> float:
    return float(row[f"{side}_ms"]) / float(row["ours_ms"])


def draw(rows: Sequence[Mapping[str, Any]], sides: Sequence[str], path_stem: Path) -> None:
    """Write the chart of the benchmark's rows as `path_stem`.png and .svg."""
    first = rows[0]
    key = " \N{MIDDLE DOT} ".join(
        (
            f"{first['device']}, {first['threads']} threads, float32",
            f"ours: {first['search']} ({first['llm']}), space={first['space']}, {first['samples']} samples, "
            "times in parentheses",
            "weights: inputs of ours and eager, constants of the others",
        )
    )
    title = "Time relative to our best schedule, which is 1: to the right of the line, ours is faster"
    save_images(drawn, chart_data(rows, sides), title, key, path_stem)


def drawn(data: pd.DataFrame, looks: Mapping[str, tuple[str, str, str]] = LOOKS) -> Figure:
    """The chart of kernel, our milliseconds, side and ratio; `looks` has the name, colour and marker of each side."""
    kernels = list(data["kernel"].unique())
    figure = Figure(figsize=(WIDTH, _ROW_INCHES * len(kernels) + _REST_INCHES), layout="constrained")
    panel = figure.subplots()
    panel.axvline(1, color="0.25", linewidth=1.2)
    for side, of_side in data.groupby("side", sort=False):
        _, colour, marker = looks[str(side)]
        places = [kernels.index(kernel) for kernel in of_side["kernel"]]
        panel.plot(of_side["ratio"], places, color=colour, marker=marker, markersize=5.5, linestyle="")
    if _MEAN in kernels:
        panel.axhline(len(kernels) - 1.5, color="0.6", linewidth=0.8)
    panel.set_yticks(range(len(kernels)), [_label(data[data["kernel"] == kernel].iloc[0]) for kernel in kernels])
    panel.set_ylim(len(kernels) - 0.5, -0.5)
    _scale(panel, float(data["ratio"].min()), float(data["ratio"].max()))
    panel.set_xlabel("time / our time (log scale)")
    entries = [
        Line2D([], [], color=colour, marker=marker, markersize=5.5, linestyle="", label=name)
        for name, colour, marker in (looks[side] for side in data["side"].unique())
    ]
    draw_marks_legend(figure, [Line2D([], [], color="0.25", linewidth=1.2, label="ours"), *entries])
    return figure


def _label(row: Mapping[str, Any]) -> str:
    return row["kernel"] if pd.isna(row["ours_ms"]) else f"{row['kernel']} ({row['ours_ms']:.3g} ms)"


def _scale(panel: Any, low: float, high: float) -> None:
    """Make a logarithmic axis around 1 with plain numbers as labels."""
    panel.set_xscale("log", base=2)
    panel.set_xlim(min(low, 1 / 1.2) / 1.1, max(high, 1.2) * 1.1)
    panel.xaxis.set_major_locator(FixedLocator(_TICKS))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
