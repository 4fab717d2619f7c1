"""Traces as programs: replayed on the unscheduled module, postprocessed, and checked."""

from __future__ import annotations

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from colt_pipeline.space.generate import TVM_ERRORS, Designs
from colt_pipeline.space.program import Program
from colt_pipeline.space.soundness import unsound
from colt_pipeline.space.tiling import refused


def realize(designs: Designs, trace: Trace) -> Program | None:
    """The program of `trace`, or None if it is invalid."""
    return None if surely_refused(designs, trace) else replay(designs, trace)


def surely_refused(designs: Designs, trace: Trace) -> bool:
    """Whether the target certainly refuses `trace`, told without a replay."""
    return designs.on_gpu and refused(designs.module, designs.context.target, trace)


def replay(designs: Designs, trace: Trace, seed: int = 1, module: tvm.IRModule | None = None) -> Program | None:
    """Like `realize`, but by replaying any trace; `seed` is for decisions that `trace` leaves open.

    `module` is a thread's own copy of the unscheduled module.
    """
    schedule = Schedule(module or designs.module, seed=seed, debug_mask="none")
    try:
        trace.apply_to_schedule(schedule, remove_postproc=True)
        replayed = schedule.trace.simplified(True)
        schedule.enter_postproc()
        if not all(p.apply(schedule) for p in designs.postprocs):
            return None
    except TVM_ERRORS:  # this combination of decisions is not a schedule
        return None
    if is_unsound(designs, schedule):
        return None
    return Program(schedule, replayed)


def is_unsound(designs: Designs, schedule: Schedule) -> bool:
    return "sound" in designs.switches and unsound(schedule.mod)
