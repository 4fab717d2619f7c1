"""Traces as programs: replayed on the unscheduled module, postprocessed, and checked.

Many are made side by side: TVM lets other threads run while it replays a trace. Each thread has its own copy of the
module, as in TVM's own search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from queue import SimpleQueue
from typing import TypeVar

import tvm
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from colt_pipeline.space.generate import TVM_ERRORS, Designs
from colt_pipeline.space.program import Program
from colt_pipeline.space.soundness import unsound
from colt_pipeline.space.tiling import refused
from colt_pipeline.stack import usable_cores

T = TypeVar("T")


def surely_refused(designs: Designs, trace: Trace) -> bool:
    """Whether the target certainly refuses `trace`, told without a replay."""
    return designs.on_gpu and refused(designs.module, designs.context.target, trace)


def replay(
    designs: Designs, trace: Trace, seed: int = 1, design: str = "", module: tvm.IRModule | None = None
) -> Program | None:
    """The program of `trace`, or None if it is invalid.

    Args:
        designs: where the trace is from.
        trace: what to replay.
        seed: for decisions that `trace` leaves open.
        design: see `Program.known_design`.
        module: a thread's own copy of the unscheduled module.
    """
    schedule = Schedule(module or designs.module, seed=seed, debug_mask="none")
    try:
        trace.apply_to_schedule(schedule, remove_postproc=True)
        replayed = schedule.trace.simplified(True)
        before = schedule.mod
        schedule.enter_postproc()
        if not all(p.apply(schedule) for p in designs.postprocs):
            return None
    except TVM_ERRORS:  # this combination of decisions is not a schedule
        return None
    if is_unsound(designs, schedule):
        return None
    return Program(schedule, replayed, design, before)


def realize(
    designs: Designs, trace: Trace, seed: int = 1, design: str = "", module: tvm.IRModule | None = None
) -> Program | None:
    """Like `replay`, without one if the target certainly refuses the trace."""
    return None if surely_refused(designs, trace) else replay(designs, trace, seed, design, module)


def is_unsound(designs: Designs, schedule: Schedule) -> bool:
    return "sound" in designs.switches and unsound(schedule.mod)


def side_by_side(
    designs: Designs, work: Callable[[T, tvm.IRModule], Program | None], items: Sequence[T]
) -> list[Program | None]:
    """`work` on every item, each with a copy of the module that no other thread has, in order."""
    copies = _copies(designs)

    def with_copy(item: T) -> Program | None:
        module = copies.get()
        try:
            return work(item, module)
        finally:
            copies.put(module)

    if len(items) < 2:
        return [with_copy(item) for item in items]
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(with_copy, items))


@lru_cache(maxsize=8)
def _copies(designs: Designs) -> SimpleQueue[tvm.IRModule]:
    """One copy of the module per core that may be used."""
    copies: SimpleQueue[tvm.IRModule] = SimpleQueue()
    saved = tvm.ir.save_json(designs.module)
    for _ in range(usable_cores()):
        copies.put(tvm.ir.load_json(saved))
    return copies
