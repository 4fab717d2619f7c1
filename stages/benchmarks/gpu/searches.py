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
from colt_pipeline.measurement.backend import BACKENDS, data_bytes
from colt_pipeline.measurement.gpu import kernels_that_fit
from colt_pipeline.records import LIMIT
from stages.benchmarks import Row
from stages.benchmarks.gpu.plan import Plan

_BUILDERS = 2
"""Per search; there may be as many searches as cores, which take turns between computing and building."""
_TIME_LIMIT = "time limit"
FAILED = "error: "
"""How the column ``ended`` of a search that failed begins."""


def rows(plan: Plan) -> Iterator[Row]:
    """One row per run, as they end: samples, failures, best latency, how long it took."""
    processes, builders = side_by_side(plan)
    jobs = (delayed(_run)(plan, config, builders) for config in plan.configs)
    yield from Parallel(processes, return_as="generator_unordered")(jobs)


def side_by_side(plan: Plan) -> tuple[int, int]:
    """Searches at once, and builders of each: as many as there are cores for, and memory on the GPU for their kernels.

    Raises:
        DeviceError: a workload does not fit into the GPU's memory.
    """
    if plan.dry:
        return plan.processes, _BUILDERS
    fit = min(kernels_that_fit(data_bytes(config)) for config in plan.configs)
    builders = min(_BUILDERS, fit)
    return min(plan.processes, fit // builders), builders


def _run(plan: Plan, config: Config, builders: int = _BUILDERS) -> Row:
    begin = time.monotonic()
    # The number of builders belongs to this machine, not to the run.
    few = replace(config, measure=replace(config.measure, builders=builders))
    row: Row = {"experiment": config.experiment, "run": config.run, "samples": 0, "measured_here": 0, "failed": 0}
    row |= {"best_ms": None, "speedup": None, "ended": "", "secs": 0.0, "latencies": plan.latencies}
    if plan.late:
        return row | {"ended": _TIME_LIMIT}
    try:
        with assemble(config, BACKENDS[plan.device](few).make_measurer) as job:
            state = job.state
            for _ in batches(job):
                if plan.late and state.spent < config.samples:
                    break
            write_outputs(job, None if state.finished else LIMIT)
            failed = [sample.error for sample in state.samples if sample.error]
            row |= {"samples": state.spent, "measured_here": job.evaluator.measured, "failed": len(failed)}
            row["ended"] = state.finished or _TIME_LIMIT
            if state.best is not None and state.best.latency_secs is not None:
                row["best_ms"] = round(1e3 * state.best.latency_secs, 5)
                row["speedup"] = round(state.speedup or 0.0, 3)
    except ColtError as error:
        row["ended"] = f"{FAILED}{error}"
    row["secs"] = round(time.monotonic() - begin, 1)
    print(f"{config.experiment} {config.run}: {row['ended']}, {row['best_ms']} ms", flush=True)
    return row
