"""What the figures share: style, colours, head, axes, legend, and files that are byte-identical when redrawn."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from PIL import Image
from scour import scour

from colt_pipeline.analysis.tidy import write_csv

Dashes = tuple[float, ...]

STYLES: dict[str, tuple[str, Dashes, str]] = {
    "small": ("#949494", (1, 1.2), "v"),
    "large": ("#de8f05", (4, 1.5), "^"),
    "2": ("#56b4e9", (4, 1.2, 1, 1.2), "s"),
    "4": ("#029e73", (7, 1.5), "D"),
    "8": ("#0173b2", (), "o"),
    "colt_plus": ("#0173b2", (), "o"),
    "drafts_alone": ("#cc78bc", (2, 1), "X"),
    "colt": ("#0173b2", (), "o"),
    "paper": ("#de8f05", (4, 1.5), "^"),
    "paper_16": ("#0173b2", (), "o"),
    "official_code": ("#029e73", (7, 1.5), "D"),
    "official_code_16": ("#029e73", (7, 1.5), "D"),
    "evolutionary": ("#000000", (1, 1), "x"),
    "evolutionary_8": ("#000000", (1, 1), "x"),
    "evolutionary_pretrained": ("#de8f05", (4, 1.5), "^"),
    "mcts_no_llm": ("#ca9161", (3, 1, 1, 1), "+"),
    "random_proposer": ("#949494", (1, 1.2), "v"),
    "local": ("#d55e00", (5, 1), "P"),
    "random_proposer_tvm": ("#fbafe4", (6, 1, 1, 1), "p"),
    "no_course_alteration": ("#d55e00", (5, 1), "P"),
    "random_course_alteration": ("#cc78bc", (2, 1), "X"),
    "single_small": ("#56b4e9", (4, 1.2, 1, 1.2), "s"),
    "single_large": ("#de8f05", (4, 1.5), "^"),
    "router_uniform": ("#56b4e9", (4, 1.2, 1, 1.2), "s"),
    "router_round_robin": ("#d55e00", (5, 1), "P"),
    "router_cheapest": ("#cc78bc", (2, 1), "X"),
    "router_ucb": ("#029e73", (7, 1.5), "D"),
}
"""Family (model set, or search) -> colour-blind safe colour, dashes (empty: solid) and marker."""
_OWN_STYLES = (
    ("#d55e00", (5, 1), "P"),
    ("#cc78bc", (2, 1), "X"),
    ("#fbafe4", (6, 1, 1, 1), "p"),
    ("#029e73", (7, 1.5), "D"),
    ("#56b4e9", (4, 1.2, 1, 1.2), "s"),
    ("#ca9161", (3, 1, 1, 1), "+"),
)
"""Styles for other model sets and searches, in alphabetical order."""

WIDTH = 7.0  # inches: both columns of a two-column page
NEUTRAL = "0.35"  # the grey of legends whose entries hold for all configurations
PANEL_HEIGHT = 1.75
COLUMNS = 3
_DPI, _PALETTE = 110, 128
_SVG_DPI = 72  # points, the unit of an SVG's coordinates
_DIGITS = 4  # significant digits in drawings and their CSV files; a page is a few hundred points wide
_FONT = " font-family=\"'DejaVu Sans', sans-serif\""
_SCOUR = scour.parse_args(
    [
        "--quiet",
        f"--set-precision={_DIGITS}",
        "--indent=none",
        "--strip-xml-prolog",
        "--remove-metadata",
        "--enable-id-stripping",
        "--shorten-ids",
        "--no-renderer-workaround",
    ]
)
_KEY_LINE = 135  # characters of the key that fit into the width of the figure
_LEGEND_LINE = 115  # characters of a legend that fit into it
_ROW_LABEL = 30  # characters of a row's label in one line
_HANDLE = 11  # characters as wide as a legend's handle and the spaces around it
_SHORT_LABEL = 26  # characters of a legend entry that fit into the width of one panel
_TITLE_INCHES, _KEY_INCHES, _HEAD_PAD = 0.2, 0.125, 0.06  # heights of lines, and of the space below them
# The font ships with matplotlib; any other would make the files depend on the machine. SVGs store text as text, a third
# of the size of its outlines; viewers without that font substitute another.
_RC = {
    "font.family": ["DejaVu Sans", "sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "svg.fonttype": "none",
    "svg.hashsalt": "colt",
    "text.parse_math": False,
}
_THIN = {"grid.linewidth": 0.5, "axes.linewidth": 0.8, "axes.titlepad": 4}


Draw = Callable[[pd.DataFrame], Figure]
"""Draws numbers, without a title."""


def save(draw: Draw, data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Write `data` as `path_stem`.csv, and what `draw` makes of it below the title and the key as .png and .svg."""
    write_csv(data, path_stem.with_name(path_stem.name + ".csv"), _DIGITS)
    save_images(draw, data, title, key, path_stem)


def save_images(draw: Draw, data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Write what `draw` makes of `data` below the title and the key as `path_stem`.png and .svg.

    The files are kept small because they are committed: the PNG has a palette, the SVG relative coordinates.
    """
    look: dict[str, Any] = sns.axes_style("whitegrid") | sns.plotting_context("paper", font_scale=0.85) | _THIN | _RC
    with style.context(["default", look]):  # "default" first, to override the user's matplotlibrc
        figure = draw(data)
        _add_head(figure, title, key)
        # Not with savefig, which draws each file twice to lay it out; here the first drawing lays out both.
        figure.set_dpi(_DPI)
        raster: Any = FigureCanvasAgg(figure)  # canvases have no types
        raster.draw()
        figure.set_layout_engine("none")  # keep the layout
        figure.set_dpi(_SVG_DPI)
        vector: Any = FigureCanvasSVG(figure)
        svg = io.StringIO()
        vector.print_svg(svg, metadata={"Date": None})
    image = Image.fromarray(np.asarray(raster.buffer_rgba()))
    # Not by median cut, which drops colours of few pixels, such as those of markers.
    small = image.convert("RGB").quantize(_PALETTE, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small.save(path_stem.with_name(path_stem.name + ".png"), optimize=True)
    text = scour.scourString(svg.getvalue(), _SCOUR)
    text = text.replace(_FONT, "").replace("<svg ", f"<svg{_FONT} ", 1)  # said once, inherited
    path_stem.with_name(path_stem.name + ".svg").write_text(text, encoding="utf-8", newline="\n")


def _add_head(figure: Figure, title: str, key: str) -> None:
    """Add the title, and the key in small grey lines below it, above what is drawn, which keeps its height."""
    lines = _key_lines(key)
    head = _TITLE_INCHES + _KEY_INCHES * len(lines) + _HEAD_PAD
    height = figure.get_figheight() + head
    figure.set_figheight(height)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 1 - head / height))
    look: dict[str, Any] = {"x": 0.01, "verticalalignment": "baseline"}
    figure.text(y=1 - 0.8 * _TITLE_INCHES / height, s=title, fontsize=9.5, fontweight="bold", **look)
    for number, line in enumerate(lines, start=1):
        below = _TITLE_INCHES + _KEY_INCHES * (number - 0.2)
        figure.text(y=1 - below / height, s=line, fontsize=6.5, color="0.35", **look)


def _key_lines(key: str) -> list[str]:
    """The key in lines that fit; they end between two conditions."""
    unbroken = " \N{MIDDLE DOT} ".join(
        part.replace(" ", "\N{NO-BREAK SPACE}") for part in key.split(" \N{MIDDLE DOT} ")
    ).replace(" \N{MIDDLE DOT}", "\N{NO-BREAK SPACE}\N{MIDDLE DOT}")
    lines = textwrap.wrap(unbroken, _KEY_LINE, break_on_hyphens=False)
    return [line.replace("\N{NO-BREAK SPACE}", " ").removesuffix(" \N{MIDDLE DOT}") for line in lines]


def draw_panel(panel: Axes, data: pd.DataFrame, styles: dict[str, dict[str, Any]]) -> None:
    """Draw one line per configuration and, where `band`, a band from `low` to `high`."""
    last = data[data["sample"] == data["sample"].max()]
    for configuration, line in data.groupby("configuration", sort=False):
        properties = styles[str(configuration)]
        at_powers = [index for index, sample in enumerate(line["sample"]) if sample & (sample - 1) == 0]
        panel.plot(
            line["sample"],
            line["speedup"],
            label=str(configuration),
            drawstyle="steps-post",  # the best so far changes at samples, not between them
            markevery=at_powers,
            **properties,
        )
        if line["band"].any():
            panel.fill_between(
                line["sample"],
                line["low"],
                line["high"],
                step="post",
                color=properties["color"],
                alpha=0.15,
                linewidth=0,
            )
    panel.axhline(1, color="0.4", linewidth=0.8)
    highest = [data["speedup"].max(), *last.loc[last["band"], "high"]]  # early bands would dwarf the lines
    panel.set_ylim(0, 1.05 * float(np.nanmax(highest)))
    scale_samples(panel, int(data["sample"].max()))


def speedup_label(data: pd.DataFrame, lines: Literal[1, 2] = 1) -> str:
    """What an axis with the speedups of `data` shows."""
    return ("\n" if lines == 2 else " ").join((f"{speedup_name(data).capitalize()} over", "unoptimized program"))


def speedup_name(data: pd.DataFrame) -> str:
    """The word for the speedups of `data`, in which estimates are never shown as measured."""
    if is_estimated(data):
        return "estimated speedup"
    return "partly estimated speedup" if data["measurement"].str.contains("estimated").any() else "speedup"


def is_estimated(data: pd.DataFrame) -> bool:
    """Whether all latencies behind `data` are estimates."""
    return set(data["measurement"]) == {"estimated"}


def scale_samples(panel: Axes, last: int) -> None:
    """Make a log2 axis from the first sample, with at most eight plain numbers as labels."""
    powers = [2**exponent for exponent in range(last.bit_length())]
    panel.set_xscale("log", base=2)
    panel.set_xlim(0.9, max(last, 2) / 0.9)  # room for the first and last marker
    panel.xaxis.set_major_locator(FixedLocator(powers[:: -(-len(powers) // 8)]))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def draw_point(panel: Axes, at: tuple[float, float], interval: tuple[float, float], upright: bool, **look: Any) -> None:
    """Draw a marker and, unless it is unknown (NaN), its interval, vertical if `upright`, else horizontal."""
    x, y = at
    low, high = interval
    if low == low:  # not NaN
        (panel.vlines if upright else panel.hlines)(x if upright else y, low, high, color=look["color"], linewidth=1)
    panel.plot([x], [y], **look | {"linestyle": "", "markersize": 6})


def point_styles(data: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """`line_styles` without the properties of lines."""
    return {
        name: {key: value for key, value in style.items() if key != "dashes"}
        for name, style in line_styles(data).items()
    }


def draw_legend(
    figure: Figure, free: Sequence[Axes], used: Sequence[Axes], title: str | None, order: Sequence[str] = ()
) -> None:
    """Draw one legend for all panels: in a free panel if it fits there, else below the grid.

    Args:
        figure: the figure.
        free: panels without drawing.
        used: panels with labelled drawing; equal labels stand once.
        title: above the entries.
        order: labels in the order of the legend; others follow as drawn.
    """
    found: dict[str, Any] = {}
    for panel in used:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    entries = {label: found[label] for label in dict.fromkeys([*order, *found]) if label in found}
    look: dict[str, Any] = {"title": title, "frameon": False, "handlelength": 4}
    longest = max(map(len, entries), default=0)
    if free and longest <= _SHORT_LABEL:
        look["title"] = title and textwrap.fill(title, _SHORT_LABEL, break_on_hyphens=False)
        free[0].legend(entries.values(), entries.keys(), loc="center", **look)
    else:
        columns = max(1, min(3, _LEGEND_LINE // (longest + _HANDLE)))
        figure.set_figheight(figure.get_figheight() + 0.18 * -(-len(entries) // columns))
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, **look)


def draw_marks_legend(figure: Figure, entries: Sequence[Line2D], free: Sequence[Axes] = ()) -> None:
    """Draw a legend of marks, where rows are labelled with configurations; in a free panel if there is one."""
    if free:
        free[0].legend(handles=entries, loc="center", frameon=False)
    else:
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False)


def row_labels(names: Sequence[str]) -> list[str]:
    """Names of configurations as labels of rows, the long ones in several lines."""
    return [textwrap.fill(name, _ROW_LABEL, break_on_hyphens=False) for name in names]


def line_styles(data: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Configuration -> Line2D properties; further configurations of a colour get hollow markers."""
    families = dict(zip(data["configuration"], data["family"], strict=True))
    own = {name: _OWN_STYLES[i % len(_OWN_STYLES)] for i, name in enumerate(sorted({*families.values()} - {*STYLES}))}
    drawn: dict[str, int] = {}  # by colour, which model sets and searches share
    styles = {}
    for configuration, family in families.items():
        colour, dashes, marker = (STYLES | own)[family]
        variant = drawn[colour] = drawn.get(colour, -1) + 1
        styles[configuration] = {
            "color": colour,
            "dashes": dashes if variant == 0 else (1 + 2 * variant, 1),
            "marker": marker,
            "markersize": 3.5,
            "markeredgewidth": 0.8,  # seaborn's 0 would hide markers that consist of lines
            "markeredgecolor": colour,
            "markerfacecolor": colour if variant == 0 else "white",
            "linewidth": 1.2,
        }
    return styles
