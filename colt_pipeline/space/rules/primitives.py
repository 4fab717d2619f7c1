"""Steps of a schedule that several rules take."""

from __future__ import annotations

from collections.abc import Sequence

from tvm.s_tir import Schedule

from colt_pipeline.space.rules.structure import Block, Loop, Operand


def copy_operand(sch: Schedule, readers: Sequence[Block], operand: Operand, at: int, width: int) -> Block:
    """Copy what some blocks read into panels, see `in_panels`; returns the block that copies."""
    index = [str(r.source.name) for r in sch.get(readers[0]).reads].index(operand.name)
    copy = sch.cache_read(readers[0], index, "global", consumer_blocks=list(readers))
    in_panels(sch, copy, at, width)
    return copy


def in_panels(sch: Schedule, block: Block, at: int, width: int) -> None:
    """Store what a block writes in panels: its dimension `at` in steps of `width`, which become the last dimension."""
    sch.transform_layout(
        block, ("write", 0), lambda *i: [*(x // width if d == at else x for d, x in enumerate(i)), i[at] % width]
    )


def vectorize_along(sch: Schedule, block: Block, at: int, width: int) -> Loop:
    """Make vectors along dimension `at` of what a block without reuse computes; its loops are its last ones.

    Returns:
        The loop across the vectors. There may be many, so it is not unrolled: LLVM can take minutes for that.
    """
    loops = sch.get_loops(block)[-len(sch.get(block).iter_vars) :]
    vectors, lane = sch.split(loops[at], [None, width])
    sch.reorder(*loops[at + 1 :], vectors, lane)
    sch.vectorize(lane)
    return vectors


def in_registers(sch: Schedule, unrolled: Sequence[Loop], lane: Loop) -> None:
    """Unroll loops around a vector, so that LLVM keeps what they index in registers."""
    sch.vectorize(lane)
    for loop in unrolled:
        sch.unroll(loop)
