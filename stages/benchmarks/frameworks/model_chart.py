"""The chart of the benchmark ``models``: how long each framework takes beside our tuned model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pandas as pd

from colt_pipeline.analysis.figures.drawing import save_images
from stages.benchmarks.frameworks.chart import LOOKS, drawn

_COLOURS = ("#cc78bc", "#949494", "#ca9161")
"""Of our models with fewer samples."""


def chart_data(rows: Sequence[Mapping[str, Any]], sides: Sequence[str], ours: str) -> pd.DataFrame:
    """Model, our milliseconds, side, and its time divided by ours."""
    return pd.DataFrame(
        {"kernel": row["model"], "ours_ms": float(row[f"{ours}_ms"]), "side": side, "ratio": _ratio(row, side, ours)}
        for row in rows
        for side in sides
    )


def _ratio(row: Mapping[str, Any], side: str, ours: str) -> float:
    return float(row[f"{side}_ms"]) / float(row[f"{ours}_ms"])


def draw(rows: Sequence[Mapping[str, Any]], sides: Sequence[str], ours: str, path_stem: Path) -> None:
    """Write the chart of the benchmark's rows as `path_stem`.png and .svg.

    Args:
        rows: of the benchmark.
        sides: what is compared with ours.
        ours: the side that the others are divided by.
        path_stem: of the files.
    """
    first = rows[0]
    key = " \N{MIDDLE DOT} ".join(
        (
            f"{first['device']}, {first['threads']} threads, float32, batch 1",
            f"ours: {first['search']} ({first['llm']}), space={first['space']}, {_samples(ours)} samples per model, "
            "times in parentheses",
            "weights: packed ahead in all but eager",
        )
    )
    title = "Time relative to our tuned model, which is 1: to the right of the line, ours is faster"
    fewer = [side for side in sides if side not in LOOKS]
    looks = LOOKS | {
        side: (f"ours, {_samples(side)} samples", colour, "s")
        for side, colour in zip(fewer, cycle(_COLOURS), strict=False)
    }
    save_images(partial(drawn, looks=looks), chart_data(rows, sides, ours), title, key, path_stem)


def _samples(side: str) -> str:
    return side.rpartition("_")[2]
