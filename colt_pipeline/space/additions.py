"""The table of additions to TVM's design space, each a switch of ``conf/space``.

The first row that applies to a program makes its design spaces, in place of TVM's rules, few of whose draws have
vectors, reuse in registers and long runs of memory at once. A program that no row applies to has TVM's design spaces.

The rules are TVM's schedule rules: they look for their pattern in a program and write design spaces for it, schedules
whose traces hold sampling instructions for all that a search decides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms

from colt_pipeline.space.rules.register_tiles import InlineApart, RegisterTiles, has_tiles
from colt_pipeline.space.rules.row_fusion import RowFusion, find_chain
from colt_pipeline.space.rules.row_fusion_cuda import RowFusionCuda, find_fusion
from colt_pipeline.space.rules.structure import VECTOR
from colt_pipeline.space.rules.unrolling import less_unrolling


@dataclass(frozen=True)
class Addition:
    """Design spaces that TVM's rules do not make."""

    switch: str
    """Key of ``conf/space`` that turns it on."""
    kind: str
    """TVM's target kind that it is for."""
    applies: Callable[[Schedule], bool]
    """Whether an unscheduled program has the pattern."""
    rules: Callable[[Collection[str]], list[ms.ScheduleRule]]
    """The switches that are on -> the rules that make the design spaces."""


def _row_fusion(switches: Collection[str]) -> list[ms.ScheduleRule]:
    return [RowFusion(), less_unrolling(VECTOR)]


def _row_fusion_cuda(switches: Collection[str]) -> list[ms.ScheduleRule]:
    """With TVM's own limits for automatic unrolling on CUDA, short of 1024."""
    unroll = ms.schedule_rule.ParallelizeVectorizeUnroll(
        max_jobs_per_core=-1, max_vectorize_extent=-1, unroll_max_steps=[0, 16, 64, 512], unroll_explicit=True
    )
    return [RowFusionCuda(), unroll]


def _register_tiles(switches: Collection[str]) -> list[ms.ScheduleRule]:
    return [
        InlineApart(),
        ms.schedule_rule.AddRFactor(max_jobs_per_core=16, max_innermost_factor=64),
        RegisterTiles(switches),
        less_unrolling(VECTOR),
    ]


ADDITIONS = (
    Addition("row_fusion", "llvm", lambda sch: find_chain(sch) is not None, _row_fusion),
    Addition("row_fusion", "cuda", lambda sch: find_fusion(sch) is not None, _row_fusion_cuda),
    Addition("register_tiles", "llvm", has_tiles, _register_tiles),
)


def additions(kind: str, switches: Collection[str]) -> Iterator[Addition]:
    """The additions for a target kind that are on, in the order of the table."""
    return (a for a in ADDITIONS if a.kind == kind and a.switch in switches)
