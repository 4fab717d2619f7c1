"""Draw the figures of an experiment as PNG and SVG, with the numbers behind them as CSV."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.figures.catalogue import draw_figures
from colt_pipeline.analysis.tidy import read_tidy
from stages import run_stage


def draw(data: Path, out: Path) -> None:
    """Tidy CSV files in DATA -> figures in OUT."""
    draw_figures(read_tidy(data), out)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.figures --data results/data/cpu --out results/figures/cpu``."""
    return run_stage(draw, argv)


if __name__ == "__main__":
    sys.exit(main())
