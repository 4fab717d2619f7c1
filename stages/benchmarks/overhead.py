"""The search's own time: recorded runs are replayed, and everything except LLM calls, builds and kernel runs is timed.

Times are given per search step, per training of the cost model, per sample (the total over the number of samples), and
for the whole replay. Temporary run directories are used; no LLM is asked and nothing is measured.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.runs.events import Stepped
from colt_pipeline.workloads import PAPER
from stages.benchmarks import Row, command_line, names, write_rows
from stages.benchmarks.laps import timed
from stages.benchmarks.replays import in_scratch


def rows(results: Path, experiment: str, workloads: Sequence[str], model_set: str) -> list[Row]:
    """One row per workload and kind of work: count, and median and total milliseconds in the replayed run.

    Raises:
        ColtError: the recording does not exist.
    """
    chosen = [f"results={results}", f"experiment={experiment}", f"model_set={model_set}", "record=replay"]
    return [row for workload in workloads for row in _of_run(composed([f"workload={workload}", *chosen]))]


def _of_run(config: Config) -> list[Row]:
    with in_scratch(config) as copy:
        start = time.perf_counter()
        seconds = _replay(copy)
        whole = time.perf_counter() - start
    own = sum(seconds["search step"]) + sum(seconds["cost model training"])
    seconds["per sample"] = [own / config.samples]
    seconds["whole replay"] = [whole]
    return [
        {
            "workload": config.workload.name,
            "model_set": config.model_set,
            "what": what,
            "count": len(values),
            "median_ms": round(1e3 * statistics.median(values), 3),
            "total_ms": round(1e3 * sum(values), 1),
        }
        for what, values in seconds.items()
    ]


def _replay(config: Config) -> dict[str, list[float]]:
    """Seconds of each search step, and of each training within them."""
    steps: list[float] = []
    trainings: list[float] = []
    with assemble(config) as job:
        for event, secs, laps in timed(job, ("llm", "measure", "train")):
            if isinstance(event, Stepped):
                steps.append(secs)
            if laps["train"]:
                trainings.append(laps["train"])
    return {"search step": steps, "cost model training": trainings}


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.overhead --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="directory of the recordings")
    parser.add_argument("--experiment", default="cpu", help="group of recorded runs")
    parser.add_argument("--workloads", type=names, default=PAPER, help="comma-separated; default: the paper's five")
    parser.add_argument("--model-set", default="8")
    given = parser.parse_args(argv)
    return write_rows(
        lambda: rows(given.results, given.experiment, given.workloads, given.model_set), given.out / "overhead.csv"
    )


if __name__ == "__main__":
    sys.exit(main())
