"""Draw the figures of an experiment as PNG and SVG, with the numbers behind them as CSV.

``python -m stages.figures --data results/data/cpu --out results/figures/cpu``
"""

from __future__ import annotations

import sys
from pathlib import Path

from colt_pipeline.analysis.figures.catalogue import draw_figures
from colt_pipeline.analysis.tidy import read_tidy
from stages import command


def draw(data: Path, out: Path) -> None:
    """Tidy CSV files in DATA -> figures in OUT."""
    draw_figures(read_tidy(data), out)


main = command(draw)


if __name__ == "__main__":
    sys.exit(main())
