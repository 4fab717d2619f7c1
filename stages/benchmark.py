"""Measure the pipeline's own speed: ``python -m stages.benchmark overhead --out results/benchmark``.

``overhead``  replays recorded runs and times everything but LLM, build and run: per search step, per training of the
cost model, per sample (all of it over the number of samples), and as a whole. Fresh run directories are used and
removed again. The times are this machine's; no LLM is asked and nothing is measured.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir

from colt_pipeline.assemble import assemble
from colt_pipeline.config import Config, load
from colt_pipeline.errors import ColtError
from colt_pipeline.events import Measured, Stepped
from colt_pipeline.search.loop import search
from colt_pipeline.workloads import WORKLOADS

_CONF = Path(__file__).parent.parent / "conf"


def overhead(results: Path, experiment: str, workload: str, model_set: str) -> list[dict[str, object]]:
    """One row of seconds per kind of event: its count, median and sum over the replayed run.

    Raises:
        ColtError: there is no such recording.
    """
    with initialize_config_dir(str(_CONF), version_base="1.3"):
        overrides = [f"experiment={experiment}", f"workload={workload}", f"model_set={model_set}", "record=replay"]
        config = load(compose("config", overrides=overrides))
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "recordings").symlink_to((results / "recordings").resolve())
        start = time.perf_counter()
        seconds = _replay(replace(config, results=scratch))
        whole = time.perf_counter() - start
    own = sum(seconds["search step"]) + sum(seconds["cost model training"])
    seconds["per sample"] = [own / config.samples]
    seconds["whole replay"] = [whole]
    return [
        {
            "workload": workload,
            "model_set": model_set,
            "what": what,
            "count": len(values),
            "median_ms": round(1e3 * statistics.median(values), 3),
            "total_ms": round(1e3 * sum(values), 1),
        }
        for what, values in seconds.items()
    ]


def _replay(config: Config) -> dict[str, list[float]]:
    """Seconds by kind of event, less what the stopwatch booked as LLM and measurement."""
    seconds: dict[str, list[float]] = {"search step": [], "cost model training": []}
    with assemble(config) as job:
        laps = job.world.watch.seconds
        outside = 0.0
        start = time.perf_counter()
        for event in search(job.world, job.journal, job.state):
            now = time.perf_counter()
            booked = laps["llm"] + laps["measure"]
            spent = now - start - (booked - outside)
            if isinstance(event, Stepped):
                seconds["search step"].append(spent)
            elif isinstance(event, Measured):
                seconds["cost model training"].append(spent)
            outside, start = booked, time.perf_counter()
    return seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table and write it as CSV; exit status 1 with a message when there is nothing to replay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["overhead"])
    parser.add_argument("--results", type=Path, default=Path("results"), help="where recordings are")
    parser.add_argument("--experiment", default="cpu")
    parser.add_argument("--workload", action="append", help="repeatable; default: the five of the paper")
    parser.add_argument("--model-set", default="8")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    arguments = parser.parse_args(argv)
    try:
        rows = [
            row
            for workload in arguments.workload or list(WORKLOADS)[:5]
            for row in overhead(arguments.results, arguments.experiment, workload, arguments.model_set)
        ]
    except ColtError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    with (arguments.out / f"{arguments.what}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print("  ".join(str(value) for value in row.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
