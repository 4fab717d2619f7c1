"""TVM's schedule rule for parallel, vector and unrolled loops on CPUs, with less unrolling.

TVM lets a search unroll loops to 512 steps, each a vector statement of up to 64 lanes. Where the elements of a vector
lie apart, each is a scalar access, so thousands can follow each other without a branch, on which LLVM can spend
minutes. Less unrolling makes such builds rare; it is no bound, because the body of a loop can be as large.
"""

from __future__ import annotations

from collections.abc import Iterable

from tvm.s_tir import meta_schedule as ms

_STEPS = (0, 16, 64)
"""TVM's choices, but 512."""


def less_unrolling(lanes: int = 64) -> ms.ScheduleRule:
    """The rule, otherwise with TVM's settings for CPUs; `lanes` is the most that it makes a vector of."""
    return ms.schedule_rule.ParallelizeVectorizeUnroll(
        max_jobs_per_core=16, max_vectorize_extent=lanes, unroll_max_steps=list(_STEPS), unroll_explicit=True
    )


def with_less_unrolling(rules: Iterable[ms.ScheduleRule]) -> list[ms.ScheduleRule]:
    """TVM's rules for a CPU, with this one in place of its own."""
    own = ms.schedule_rule.ParallelizeVectorizeUnroll
    return [less_unrolling() if isinstance(rule, own) else rule for rule in rules]
