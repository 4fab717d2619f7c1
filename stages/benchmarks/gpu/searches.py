"""The experiments' runs, side by side; their kernels run one at a time (colt_pipeline/measurement/worker.py)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from joblib import Parallel, delayed

from colt_pipeline.assemble import assemble
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ColtError
from colt_pipeline.job import batches, write_outputs
from colt_pipeline.measurement.backend import BACKENDS
from colt_pipeline.records import LIMIT
from stages.benchmarks import Row
from stages.benchmarks.gpu.plan import Plan

_BUILDERS = 2
"""Per search; there are as many searches as cores, which take turns between computing and building."""


def rows(plan: Plan) -> Iterator[Row]:
    """One row per run, as they end: samples, failures, best latency, how long it took."""
    yield from Parallel(plan.processes, return_as="generator_unordered")(delayed(_run)(plan, c) for c in plan.configs)


def _run(plan: Plan, config: Config) -> Row:
    begin = time.monotonic()
    # The number of builders belongs to this machine, not to the run.
    few = replace(config, measure=replace(config.measure, builders=_BUILDERS))
    row: Row = {"experiment": config.experiment, "run": config.run, "samples": 0, "measured_here": 0, "failed": 0}
    row |= {"best_ms": None, "speedup": None, "ended": "", "secs": 0.0, "latencies": plan.latencies}
    try:
        with assemble(config, BACKENDS[plan.device](few).make_measurer) as job:
            for _ in batches(job):
                if plan.late:
                    break
            state = job.state
            write_outputs(job, None if state.finished else LIMIT)
            failed = [sample.error for sample in state.samples if sample.error]
            row |= {"samples": len(state.samples), "measured_here": job.evaluator.measured, "failed": len(failed)}
            row["ended"] = state.finished or "time limit"
            if state.best is not None and state.best.latency_secs is not None:
                row["best_ms"] = round(1e3 * state.best.latency_secs, 5)
                row["speedup"] = round(state.speedup or 0.0, 3)
    except ColtError as error:
        row["ended"] = f"error: {error}"
    row["secs"] = round(time.monotonic() - begin, 1)
    print(f"{config.experiment} {config.run}: {row['ended']}, {row['best_ms']} ms", flush=True)
    return row
