"""Benchmarks of the pipeline itself: ``python -m stages.benchmarks.NAME --out results/benchmark`` writes NAME.csv.

overhead     the search's own time per step and sample, from replays of recorded runs
steps        what a step of the search takes in each design space, from searches with made-up latencies
measurement  the same candidates measured by this project and by TVM
faults       kernels and machines that misbehave, what is recorded, and whether the search continues
queue        two concurrent searches, whose uses of the device must not overlap
pace         seconds per sample of the searches of a comparison, from its live runs
concurrency  what calls at the same time gain, and what they cost in quality
growth       whether a long search slows down, and how much memory it takes
limits       how close the best recorded schedules come to this machine's peak and bandwidth
strategy     this project's search and TVM's own within TVM's tuning, at equal trials, on kernels not seen before
torch        the best schedules beside PyTorch, eager and compiled, and ONNX Runtime; with a chart
models       whole models, tuned by us, beside PyTorch, eager and compiled, and ONNX Runtime; with a chart
llama        all of Llama-3-8B, with weights as they are and packed ahead, as a whole and kernel by kernel
additions    what each addition to TVM's design space brings
answers      a live model asked the prompts of a recorded run: validity and order of answers, with and without a schema
gpu          everything that needs a CUDA GPU, in one command; a directory of tables
experience   whether what the cost model learned on one machine helps on another; from committed files, offline
redaction    whether redacting hostile answers takes time linear in their length
cost         tokens and USD that 1000 samples would cost with live models, estimated from recorded runs

Helpers: replays and recorded rerun what was recorded; laps times each event of a search; tuned makes runs of its own;
rounds times subjects in turn; micro and kernels contain kernels that reach a limit of the CPU and kernels that
misbehave, programs those that no rule of the design space was developed on; frameworks has the kernels in PyTorch and
ONNX, and whole models.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from colt_pipeline import stack
from colt_pipeline.app import INTERRUPTED, aligned, interruptible, with_message

stack.require()  # before any benchmark imports TVM

Row = dict[str, object]
"""Column -> value. A row may lack columns of the first row, but has no others."""


def command_line(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flag common to all benchmarks."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    return parser


def names(text: str) -> tuple[str, ...]:
    """Parse a flag that takes comma-separated names."""
    return tuple(text.split(","))


def positive(text: str) -> int:
    """Parse a flag that takes a positive integer.

    Raises:
        ArgumentTypeError: `text` is not a positive integer.
    """
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return int(text)


@with_message
def write_rows(make: Callable[[], Sequence[Row]], path: Path) -> int:
    """Compute the rows of a benchmark, write them to `path` as CSV, and print them.

    Returns:
        The exit status: 0, 1 with a message on stderr if the benchmark failed, or 130 after Ctrl-C.
    """
    try:
        with interruptible():
            rows = make()
    except KeyboardInterrupt:
        print("interrupted; no table was written", file=sys.stderr)
        return INTERRUPTED
    write_csv(rows, path)
    print(table(rows), flush=True)
    return 0


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Write rows, which must not be empty, to `path` as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def table(rows: Sequence[Row]) -> str:
    """The rows, which must not be empty, as aligned text."""
    columns = list(rows[0])
    return "\n".join(aligned([columns, *([_cell(row.get(column)) for column in columns] for row in rows)]))


def _cell(value: object) -> str:
    return "-" if value is None else str(value)
