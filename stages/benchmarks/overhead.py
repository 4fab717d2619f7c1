"""The search's own time: recorded runs are replayed, and everything but LLM, build and run is timed.

Per search step, per training of the cost model, per sample (all of it over the number of samples), and as a whole.
Fresh run directories are used and removed again; no LLM is asked and nothing is measured.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.runs.events import Measured, Stepped
from colt_pipeline.search.loop import search
from stages.benchmarks import Options, Row


def rows(options: Options) -> list[Row]:
    """One row of milliseconds per workload and kind of work: count, median and sum over the replayed run.

    Raises:
        ColtError: there is no such recording.
    """
    return [row for workload in options.workloads for row in _of_workload(options, workload)]


def _of_workload(options: Options, workload: str) -> list[Row]:
    overrides = [f"experiment={options.experiment}", f"workload={workload}", f"model_set={options.model_set}"]
    config = composed([*overrides, "record=replay"])
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "recordings").symlink_to((options.results / "recordings").resolve())
        start = time.perf_counter()
        seconds = _replay(replace(config, results=scratch))
        whole = time.perf_counter() - start
    own = sum(seconds["search step"]) + sum(seconds["cost model training"])
    seconds["per sample"] = [own / config.samples]
    seconds["whole replay"] = [whole]
    return [
        {
            "workload": workload,
            "model_set": options.model_set,
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
        laps = job.world.stopwatch.seconds
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
