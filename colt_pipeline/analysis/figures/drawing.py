"""What the figures share: style, colours, axes, legend, and files that are byte-identical when redrawn."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
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
    "colt": ("#0173b2", (), "o"),
    "paper": ("#de8f05", (4, 1.5), "^"),
    "official_code": ("#029e73", (7, 1.5), "D"),
    "evolutionary": ("#000000", (1, 1), "x"),
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
_CAPTION_LINE = 92  # characters that fit into the width of the figure
_SHORT_LABEL = 26  # characters of a legend entry that fit into the width of one panel
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


Draw = Callable[[pd.DataFrame, str, str], Figure]
"""Draws numbers below a title and the key, see `draw_title`."""


def save(draw: Draw, data: pd.DataFrame, title: str, key: str, path_stem: Path) -> None:
    """Write `data` as `path_stem`.csv, and what `draw` makes of it, the title and the key as .png and .svg.

    The files are kept small because they are committed: the PNG has a palette, the SVG relative coordinates.
    """
    write_csv(data, path_stem.with_name(path_stem.name + ".csv"), _DIGITS)
    look: dict[str, Any] = sns.axes_style("whitegrid") | sns.plotting_context("paper", font_scale=0.85) | _THIN | _RC
    with style.context(["default", look]):  # "default" first, to override the user's matplotlibrc
        figure = draw(data, title, key)
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


def seeds_title(data: pd.DataFrame, mean: str) -> str:
    """What a line and its band represent, for the legend."""
    several = data["seeds"].max() > 1
    return f"{mean} over seeds, band: 95 % interval of a bootstrap" if several else "one seed: no band"


def draw_title(figure: Figure, title: str, key: str) -> None:
    """Draw the title above the panels, and the key below it, small and wrapped to the width."""
    lines = textwrap.wrap(key, _CAPTION_LINE, break_on_hyphens=False)
    figure.suptitle("\n".join([title, *lines]), fontsize="medium")


def draw_panel(panel: Axes, data: pd.DataFrame, styles: dict[str, dict[str, Any]], band: tuple[str, str]) -> None:
    """Draw one line per configuration and, with several seeds, a band between the two columns of `band`."""
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
        if line["seeds"].max() > 1:
            low, high = (line[name] for name in band)
            panel.fill_between(
                line["sample"], low, high, step="post", color=properties["color"], alpha=0.15, linewidth=0
            )
    panel.axhline(1, color="0.4", linewidth=0.8)
    panel.set_ylim(bottom=0)
    scale_samples(panel, int(data["sample"].max()))


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


def draw_legend(figure: Figure, free: Sequence[Axes], used: Sequence[Axes], title: str | None) -> None:
    """Draw one legend for all panels: in a free panel if it fits there, else below the grid."""
    entries: dict[str, Any] = {}
    for panel in used:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    look: dict[str, Any] = {"title": title, "frameon": False, "handlelength": 4}
    longest = max(map(len, entries), default=0)
    if free and longest <= _SHORT_LABEL:
        look["title"] = title and textwrap.fill(title, _SHORT_LABEL)
        free[0].legend(entries.values(), entries.keys(), loc="center", **look)
    else:
        columns = max(1, min(3, 3 * _SHORT_LABEL // max(longest, 1)))
        figure.set_figheight(figure.get_figheight() + 0.18 * -(-len(entries) // columns))
        figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=columns, **look)


def line_styles(data: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Configuration -> Line2D properties; further configurations of a family keep its colour but get hollow markers."""
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
            "markeredgewidth": 0.8,  # seaborn's 0 would hide markers that consist of lines
            "markeredgecolor": colour,
            "markerfacecolor": colour if variant == 0 else "white",
            "linewidth": 1.2,
        }
    return styles
