"""The search's own time: recorded runs are replayed, and everything but LLM, build and run is timed.

Per search step, per training of the cost model, per sample (all of it over the number of samples), and as a whole.
Fresh run directories are used and removed again; no LLM is asked and nothing is measured.
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
from colt_pipeline.search.loop import search
from colt_pipeline.workloads import PAPER
from stages.benchmarks import Row, command_line, names, write_rows
from stages.benchmarks.replays import in_scratch


def rows(results: Path, experiment: str, workloads: Sequence[str], model_set: str) -> list[Row]:
    """One row of milliseconds per workload and kind of work: count, median and sum over the replayed run.

    Raises:
        ColtError: there is no such recording.
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
    """Seconds of the search's steps, and of the trainings within them."""
    steps: list[float] = []
    trainings: list[float] = []
    with assemble(config) as job:
        laps = job.world.stopwatch.seconds
        events = search(job.world, job.journal, job.state)
        while True:
            before, start = dict(laps), time.perf_counter()
            event = next(events, None)
            if event is None:
                break
            spent = time.perf_counter() - start
            llm, measuring, training = (laps[name] - before.get(name, 0.0) for name in ("llm", "measure", "train"))
            if isinstance(event, Stepped):
                steps.append(spent - llm - measuring - training)
            if training:
                trainings.append(training)
    return {"search step": steps, "cost model training": trainings}


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.overhead --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="where recordings are")
    parser.add_argument("--experiment", default="cpu", help="a group of recorded runs")
    parser.add_argument("--workloads", type=names, default=PAPER, help="with commas; default: the five of the paper")
    parser.add_argument("--model-set", default="8")
    given = parser.parse_args(argv)
    return write_rows(
        lambda: rows(given.results, given.experiment, given.workloads, given.model_set), given.out / "overhead.csv"
    )


if __name__ == "__main__":
    sys.exit(main())
