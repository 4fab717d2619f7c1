"""The paper's figure 2: speedup over the unoptimized program against measured samples, one panel per workload.

The numbers are computed apart from the drawing. Files are byte-identical whenever the numbers are.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from colt_pipeline.analysis.aggregate import Tidy, write_csv
from colt_pipeline.analysis.labels import (
    CONFIGURATION,
    WORKLOAD_TITLES,
    configurations,
    display_order,
    workload_title,
)
from colt_pipeline.analysis.noise import comparison_floor

Dashes = tuple[float, ...]

STYLES: dict[str, tuple[str, Dashes, str]] = {
    "small": ("#949494", (1, 1.2), "v"),
    "large": ("#de8f05", (4, 1.5), "^"),
    "2": ("#56b4e9", (4, 1.2, 1, 1.2), "s"),
    "4": ("#029e73", (7, 1.5), "D"),
    "8": ("#0173b2", (), "o"),
    "evolutionary": ("#000000", (1, 1), "x"),
    "mcts_no_llm": ("#ca9161", (3, 1, 1, 1), "+"),
}
"""Family (model set, or search without LLM) -> colour-blind safe colour, dashes (empty: solid) and marker."""
_OWN_STYLES = (("#d55e00", (5, 1), "P"), ("#cc78bc", (2, 1), "X"), ("#fbafe4", (6, 1, 1, 1), "p"))
"""For a user's own model sets, in the order of their names."""

_WIDTH = 7.0  # inches: both columns of a two-column page
_PANEL_HEIGHT = 1.75
_COLUMNS = 3
_CAPTION_LINE = 92  # characters that fit into the width of the figure
_TITLE_LINE = 36  # characters of a title that fit over one panel
_SHORT_LABEL = 26  # characters of a legend entry that fit into the width of one panel
_NOISE_CAPTION = "; noise: 95 % of pairs of measurements of one program differ by less"
# The font ships with matplotlib; any other would make the files depend on the machine.
_RC = {"font.family": "DejaVu Sans", "svg.hashsalt": "colt", "text.parse_math": False}
_THIN = {"grid.linewidth": 0.5, "axes.linewidth": 0.8, "axes.titlepad": 4}


def speedup_curves_data(tidy: Tidy) -> pd.DataFrame:
    """Best speedup so far, over seeds.

    Returns:
        Columns workload, configuration (its label), family, sample, speedup (mean over seeds), lowest, highest,
        seeds, noise_floor (of the workload, see `comparison_floor`). Samples at which not every seed has a valid
        program, or after one has stopped, are left out: a mean over fewer seeds would make the curve jump.
    """
    labels = configurations(tidy)
    names = ["workload", "label", "family"]
    runs = labels.merge(tidy.runs, on=CONFIGURATION).groupby(names, sort=False).size().rename("runs")
    valid = labels.merge(tidy.curves.dropna(subset="speedup"), on=CONFIGURATION)
    data = (
        valid.groupby([*names, "sample"], sort=False)["speedup"]
        .agg(speedup="mean", lowest="min", highest="max", seeds="size")
        .reset_index()
        .merge(runs.reset_index(), on=names)
    )
    data = data[data["seeds"] == data["runs"]].drop(columns="runs").rename(columns={"label": "configuration"})
    floors = {name: comparison_floor(own, tidy.noise) for name, own in tidy.runs.groupby("workload")}
    data["noise_floor"] = data["workload"].map(floors).astype("float64")
    ranks = {name: rank for rank, name in enumerate(display_order(data["workload"], WORKLOAD_TITLES))}
    ranks |= {name: rank for rank, name in enumerate(labels["label"])}
    return data.sort_values(
        ["workload", "configuration", "sample"],
        key=lambda column: column if column.name == "sample" else column.map(ranks),
        ignore_index=True,
    )


def speedup_curves_plot(data: pd.DataFrame, caption: str, path_stem: Path) -> None:
    """Draw what `speedup_curves_data` returned.

    Args:
        data: One line per configuration, one panel per workload; with several seeds a band from lowest to highest.
        caption: Backend, measurement and search; drawn above the panels.
        path_stem: Written are this path with .png, .svg and .csv (the numbers) appended.
    """
    write_csv(data, path_stem.with_name(path_stem.name + ".csv"))
    look: dict[str, Any] = sns.axes_style("whitegrid") | sns.plotting_context("paper", font_scale=0.85) | _THIN | _RC
    with style.context(["default", look]):  # "default" first: a matplotlibrc of the user's must not show
        figure = _draw(data, caption)
        figure.savefig(path_stem.with_name(path_stem.name + ".png"), dpi=200, metadata={"Software": None})
        figure.savefig(path_stem.with_name(path_stem.name + ".svg"), metadata={"Date": None})


def _draw(data: pd.DataFrame, caption: str) -> Figure:
    workloads = list(data["workload"].unique())
    columns = min(_COLUMNS, max(len(workloads), 1))
    rows = -(-len(workloads) // columns) or 1
    figure = Figure(figsize=(_WIDTH, _PANEL_HEIGHT * rows + 0.8), layout="constrained")
    if any(map(_is_noise, data["noise_floor"])):
        caption += _NOISE_CAPTION
    figure.suptitle("\n".join(textwrap.wrap(caption, _CAPTION_LINE, break_on_hyphens=False)), fontsize="medium")
    axes: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flatten())
    styles = _styles(data)
    for panel, workload in zip(axes, workloads, strict=False):
        own = data[data["workload"] == workload]
        _draw_panel(panel, own, styles)
        panel.set_title(_panel_title(workload, own["noise_floor"].iloc[0]))
    for panel in axes[len(workloads) :]:
        panel.set_axis_off()
    for panel in axes[: len(workloads) : columns]:
        panel.set_ylabel("Speedup over\nunoptimized program")
    for panel in axes[max(len(workloads) - columns, 0) : len(workloads)]:
        panel.set_xlabel("Measured samples")
    title = "mean and range over seeds" if data["seeds"].max() > 1 else None
    _draw_legend(figure, axes[len(workloads) :], axes[: len(workloads)], title)
    return figure


def _panel_title(workload: str, floor: float) -> str:
    title = workload_title(workload)
    if not _is_noise(floor):
        return title
    noise = f"(noise ×{floor:.2f})"
    return (" " if len(title) + len(noise) < _TITLE_LINE else "\n").join((title, noise))


def _is_noise(floor: float) -> bool:
    """Not for an unknown floor (NaN), nor for that of estimates (1), which have no noise."""
    return floor > 1


def _draw_panel(panel: Axes, data: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> None:
    for configuration, line in data.groupby("configuration", sort=False):
        properties = styles[str(configuration)]
        at_powers = [index for index, sample in enumerate(line["sample"]) if sample & (sample - 1) == 0]
        panel.plot(
            line["sample"],
            line["speedup"],
            label=str(configuration),
            drawstyle="steps-post",  # the best so far changes at a sample, not between two
            markevery=at_powers,
            **properties,
        )
        if line["seeds"].max() > 1:
            band = (line["sample"], line["lowest"], line["highest"])
            panel.fill_between(*band, step="post", color=properties["color"], alpha=0.15, linewidth=0)
    panel.axhline(1, color="0.4", linewidth=0.8)
    panel.set_ylim(bottom=0)
    _scale_samples(panel, int(data["sample"].max()))


def _scale_samples(panel: Axes, last: int) -> None:
    """A log2 axis from the first sample, with at most eight plain numbers under it."""
    powers = [2**exponent for exponent in range(last.bit_length())]
    panel.set_xscale("log", base=2)
    panel.set_xlim(0.9, max(last, 2) / 0.9)  # room for the first and last marker
    panel.xaxis.set_major_locator(FixedLocator(powers[:: -(-len(powers) // 8)]))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _draw_legend(figure: Figure, free: Sequence[Axes], used: Sequence[Axes], title: str | None) -> None:
    """One legend for all panels: in a free place of the grid if it fits there, else below it."""
    entries: dict[str, Any] = {}
    for panel in used:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    look: dict[str, Any] = {"title": title, "frameon": False, "handlelength": 4}
    longest = max(map(len, entries), default=0)
    if free and longest <= _SHORT_LABEL:
        free[0].legend(entries.values(), entries.keys(), loc="center", **look)
    else:
        columns = max(1, min(3, 3 * _SHORT_LABEL // max(longest, 1)))
        figure.set_figheight(figure.get_figheight() + 0.18 * -(-len(entries) // columns))
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, **look)


def _styles(data: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Configuration -> Line2D properties; a second configuration of a family keeps its colour, with hollow markers."""
    families = dict(zip(data["configuration"], data["family"], strict=True))
    own = {name: _OWN_STYLES[i % len(_OWN_STYLES)] for i, name in enumerate(sorted({*families.values()} - {*STYLES}))}
    drawn: dict[str, int] = {}
    styles = {}
    for configuration, family in families.items():
        variant = drawn[family] = drawn.get(family, -1) + 1
        colour, dashes, marker = (STYLES | own)[family]
        styles[configuration] = {
            "color": colour,
            "dashes": dashes if variant == 0 else (1 + 2 * variant, 1),
            "marker": marker,
            "markersize": 3.5,
            "markeredgewidth": 0.8,  # seaborn's 0 would hide markers that are lines only
            "markeredgecolor": colour,
            "markerfacecolor": colour if variant == 0 else "white",
            "linewidth": 1.2,
        }
    return styles
