"""Kernels that misbehave on a GPU: each costs one sample, and the next kernel finds the GPU usable."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace

import tvm
from tvm.s_tir import Schedule

from colt_pipeline.measurement.backend import BACKENDS
from stages.benchmarks import Row
from stages.benchmarks.gpu.plan import Plan
from stages.benchmarks.kernels import endless, hungry, out_of_bounds, scaled, workload

USABLE = "a latency"
"""What the next kernel gives on a usable GPU."""
_RUN_TIMEOUT_SECS = 5.0

FAULTS: dict[str, tuple[str, Callable[[], tvm.IRModule]]] = {
    "an endless loop": ("timeout", endless),
    "writes far out of bounds": ("crash", out_of_bounds),  # TVM aborts when it frees tensors of a context that faulted
    "allocates 208 GB": ("run_error", lambda: hungry(26)),
    "a wrong result": ("wrong_result", lambda: scaled(1.01)),
}
"""What happens -> the error that must be recorded, and the kernel."""


def bound(module: tvm.IRModule) -> tvm.IRModule:
    """`module` with the first loops of each of its blocks bound to threads."""
    schedule = Schedule(module, debug_mask="none")
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        spatial = schedule.get(block).iter_vars
        count = sum(var.iter_type == var.DataPar for var in spatial)
        fused = schedule.fuse(*schedule.get_loops(block)[:count])
        blocks, threads = schedule.split(fused, [None, 64])
        schedule.bind(blocks, "blockIdx.x")
        schedule.bind(threads, "threadIdx.x")
    return schedule.mod


def rows(plan: Plan) -> Iterator[Row]:
    """One row per fault: what was provoked and recorded, and what a good kernel gives right afterwards."""
    if plan.dry:
        return
    config = plan.configs[0]
    config = replace(config, measure=replace(config.measure, run_timeout_secs=_RUN_TIMEOUT_SECS, builders=1))
    with closing(BACKENDS[plan.device](config).make_measurer(workload())) as measurer:
        for what, (expected, make) in FAULTS.items():
            faulty, good = measurer.measure([bound(make()), bound(scaled(1.0))], None)
            then = USABLE if good.error is None else f"{good.error}: {good.detail}"
            row: Row = {"provoked": what, "expected": expected, "recorded": faulty.error or "a latency"}
            yield {**row, "detail": faulty.detail, "next_kernel": then}
