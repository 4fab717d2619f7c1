"""Does ``device=estimate`` rank programs as the GPU does? Kendall's tau over all measured programs, per workload."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import cache

import tvm
from joblib import Parallel, delayed
from scipy.stats import kendalltau

from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import CONF, composed
from colt_pipeline.config.schema import Config, GpuConfig
from colt_pipeline.measurement.estimate import estimate_secs
from stages.benchmarks import Row
from stages.benchmarks.gpu.plan import Plan

Pairs = dict[str, tuple[float, float]]
"""Program key -> measured and estimated seconds."""


def rows(plan: Plan) -> Sequence[Row]:
    """One row per workload: programs, tau, and how many times longer a program takes than its estimate."""
    pairs = Parallel(plan.processes)(delayed(compared)(config) for config in plan.recorded)
    found: list[Row] = []
    for workload in plan.workloads:
        of_workload: Pairs = {}
        for config, some in zip(plan.recorded, pairs, strict=True):
            if config.workload.name == workload:
                of_workload |= some
        if len(of_workload) > 1:
            found.append(_row(workload, of_workload, plan.latencies))
    return found


def _row(workload: str, pairs: Pairs, latencies: str) -> Row:
    measured, estimated = zip(*pairs.values(), strict=True)
    ratios = sorted(m / e for m, e in pairs.values())
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "workload": workload,
        "programs": len(pairs),
        "kendall_tau": round(float(kendalltau(measured, estimated).statistic), 3),
        "median_measured/estimate": round(middle, 3),
        "quartiles": f"{low:.3g} to {high:.3g}",
        "latencies": latencies,
    }


def compared(config: Config) -> Pairs:
    """The programs of a run that were measured successfully, if this GPU has a data sheet in conf/target."""
    with assemble(config) as job:
        for event in job.journal.recorded:
            job.state.apply(event)
        sheet = data_sheet(job.evaluator.header["device"]["gpu"])
        if sheet is None:
            return {}
        target, found = tvm.target.Target(job.target), {}
        for sample in job.state.samples:
            if sample.latency_secs is not None:
                program = job.world.program(job.state.programs[sample.program])
                found[program.key] = (sample.latency_secs, estimate_secs(program.schedule.mod, target, sheet))
        return found


@cache
def data_sheet(name: str) -> GpuConfig | None:
    """The data sheet of the GPU with this name; None if conf/target has none."""
    for path in sorted((CONF / "target").glob("*.yaml")):
        gpu = composed([f"target={path.stem}"]).target.gpu
        if gpu is not None and gpu.name == name:
            return gpu
    return None
