"""Measure the pipeline itself: ``python -m stages.benchmarks.NAME --out results/benchmark`` writes NAME.csv.

overhead     the search's own time per step and sample, from replays of recorded runs
measurement  the same candidates through this project's measurement and through TVM's
faults       kernels and machines that misbehave, what was recorded, and that the search went on
queue        two searches at once: their uses of the device do not overlap
growth       does a long search slow down, and how much memory it takes
limits       what the best recorded schedules reach of this machine's peak and bandwidth
torch        the best recorded schedules beside PyTorch
answers      a live model asked the prompts of a recorded run: valid answers, with and without a schema, and their order
cost         what 1000 samples would take of the models themselves: tokens and USD, estimated from recorded runs

Beside them: replays and recorded, what was recorded made ready to be run again; rounds, what is timed in turn;
micro and kernels, kernels that reach a limit of the CPU and kernels that misbehave.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from colt_pipeline import stack
from colt_pipeline.app import INTERRUPTED, aligned, interruptible, with_message

stack.require()  # before any of the modules here imports TVM

Row = dict[str, object]
"""Column -> value. A row may lack columns of the first one, and has no others."""


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flag that all benchmarks take."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    return parser


def names(text: str) -> tuple[str, ...]:
    """The value of a flag that takes names with commas."""
    return tuple(text.split(","))


def positive(text: str) -> int:
    """The value of a flag that takes a number of at least 1.

    Raises:
        ArgumentTypeError: it is not one.
    """
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a positive whole number")
    return int(text)


@with_message
def write_rows(make: Callable[[], Sequence[Row]], path: Path) -> int:
    """Make the rows of a benchmark, write them to `path` as CSV, and print them.

    Returns:
        The exit status: 1, with the message on stderr, when they cannot be made; 130 after Ctrl-C.
    """
    try:
        with interruptible():
            rows = make()
    except KeyboardInterrupt:
        print("interrupted; no table was written", file=sys.stderr)
        return INTERRUPTED
    columns = list(rows[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print("\n".join(aligned([columns, *([_cell(row.get(column)) for column in columns] for row in rows)])))
    return 0


def _cell(value: object) -> str:
    return "-" if value is None else str(value)
