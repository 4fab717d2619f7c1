"""Measure the pipeline itself: ``python -m stages.benchmark NAME --out results/benchmark`` writes NAME.csv.

overhead     the search's own time per step and sample, from replays of recorded runs
measurement  the same candidates through this project's measurement and through TVM's
faults       kernels and machines that misbehave, what was recorded, and that the search went on
queue        two searches at once: their uses of the device do not overlap
search       searches at equal samples, advanced in turn: their runs, for aggregate, tables and figures of stages/
growth       does a long search slow down, and how much memory it takes
limits       what the best recorded schedules reach of this machine's peak and bandwidth
torch        the best recorded schedules beside PyTorch
answers      a live model asked the prompts of a recorded run: valid answers, with and without a schema, and their order
cost         what 1000 samples would take of the models themselves: tokens and USD, estimated from recorded runs
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from colt_pipeline.app import interruptible, with_message
from colt_pipeline.workloads import PAPER
from stages.benchmarks import (
    Options,
    Row,
    answers,
    cost,
    faults,
    growth,
    limits,
    measurement,
    overhead,
    queue,
    search,
    torch,
)

BENCHMARKS: dict[str, tuple[Callable[[Options], list[Row]], tuple[str, ...], int]] = {
    "overhead": (overhead.rows, PAPER, 0),
    "measurement": (measurement.rows, ("llama3_8b_attention",), 64),
    "faults": (faults.rows, (), 24),
    "queue": (queue.rows, ("llama3_8b_attention",), 24),
    "search": (search.rows, PAPER, 0),
    "growth": (growth.rows, ("llama3_8b_attention",), 1000),
    "limits": (limits.rows, (), 0),
    "torch": (torch.rows, (), 0),
    "answers": (answers.rows, ("llama3_8b_attention",), 12),
    "cost": (cost.rows, PAPER, 1000),
}
"""Name -> what makes its rows, default workloads (none: all with a finished run), default number of candidates."""
EXPERIMENTS = {"search": "search", "answers": "local"}
"""Name -> experiment, if it is not cpu."""


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write it as CSV; exit status 1 with a message when it cannot be made, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(BENCHMARKS))
    parser.add_argument("--results", type=Path, default=Path("results"), help="where recordings are")
    parser.add_argument("--experiment", help="a group of runs")
    parser.add_argument("--workload", "--workloads", type=_names, action="extend", help="repeatable, or with commas")
    parser.add_argument("--model-set", default="8")
    parser.add_argument("--candidates", "--samples", type=int, help="programs to measure; of cost: to scale to")
    parser.add_argument("--searches", type=_names, default=tuple(search.SEARCHES), help="of search: with commas")
    parser.add_argument("--seeds", type=_numbers, default=(0, 1, 2), help="of search: with commas")
    parser.add_argument("--runs", type=Path, help="where finished runs are; default: RESULTS/runs")
    parser.add_argument("--rounds", type=int, default=7, help="of what is measured side by side")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("overrides", nargs="*", help="of search, growth and cost: for Hydra, such as record=replay")
    given = parser.parse_intermixed_args(argv)
    make, workloads, candidates = BENCHMARKS[given.what]
    options = Options(
        results=given.results,
        experiment=given.experiment or EXPERIMENTS.get(given.what, "cpu"),
        workloads=tuple(given.workload or workloads),
        model_set=given.model_set,
        candidates=given.candidates or candidates,
        searches=given.searches,
        seeds=given.seeds,
        overrides=tuple(given.overrides),
        runs=given.runs or given.results / "runs",
        rounds=given.rounds,
    )
    try:
        with interruptible():
            rows = make(options)
    except KeyboardInterrupt:
        print("interrupted; no table was written, and what runs have recorded is kept", file=sys.stderr)
        return 130
    given.out.mkdir(parents=True, exist_ok=True)
    with (given.out / f"{given.what}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print("  ".join(str(value) for value in row.values()))
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


if __name__ == "__main__":
    sys.exit(main())
