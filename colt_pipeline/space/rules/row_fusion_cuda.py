"""Row fusion for CUDA: a block of threads takes a block of rows through contraction, row-wise work and contraction.

The result of the first contraction stays in shared memory. Rows are divided among ``threadIdx.y`` and columns among the
lanes of ``threadIdx.x``, so that the maximum or the sum of a row needs no more than shuffles within a warp. Operands go
through shared memory in chunks, and so does what is computed from a row for the last contraction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.tirx import IndexMap

from colt_pipeline.space.rules.row_fusion import Chain, find_chain
from colt_pipeline.space.rules.structure import Block, Loop, Structure

_LANES = 32
"""Extent of ``threadIdx.x``, a warp: with fewer, TVM 0.27 leaves a variable of a reduction across threads undefined
(red_buf0)."""
_SHARED_BYTES = 32 << 10
"""For the rows that a block of threads keeps; the other 16 of 48 KiB are for chunks of operands."""
_MOST_ROWS = 64
"""Of a block of threads."""
_ROWS_PER_THREAD = 8
_COLUMNS_PER_THREAD = 8
_VECTOR = 4
"""Elements of float32 in the widest access, of 16 bytes."""
_CHUNK = 32
"""Steps of a reduction whose operands are in shared memory at a time, at most."""
_PADDING = (8, 4)
"""Rows of a chunk are 4 elements longer than a multiple of 8: lanes that read 16 bytes each from consecutive rows
then meet different banks."""


@dataclass(frozen=True)
class Fusion:
    """A chain with one inner contraction, and how its rows are divided."""

    chain: Chain
    first: str
    """The inner contraction."""
    reductions: tuple[str, ...]
    """Blocks that reduce a row to a number, in the order of the program."""
    weights: str
    """The elementwise block that the last contraction reads."""
    inlined: tuple[str, ...]
    """The other elementwise blocks, computed wherever they are read."""
    rows: int
    """Of a block of threads, at most."""


def find_fusion(sch: Schedule) -> Fusion | None:
    """The first chain of an unscheduled program, if it has one inner contraction and fits into shared memory."""
    chain = find_chain(sch)
    if chain is None:
        return None
    contractions = [name for name, s in chain.blocks.items() if s.is_contraction]
    reductions = tuple(name for name, s in chain.blocks.items() if s.reduced and not s.is_contraction)
    elementwise = [name for name, s in chain.blocks.items() if not s.reduced]
    last = sch.get_sblock(chain.last)
    read = [name for name in elementwise if chain.blocks[name].buffer == _row_operand(sch, last, chain)]
    if len(contractions) != 1 or len(read) != 1 or any(len(chain.blocks[r].output) > chain.outer for r in reductions):
        return None
    first = chain.blocks[contractions[0]]
    if len(first.operands) != 2 or len(chain.given(contractions[0])) != 1:
        return None
    columns, extents = first.extents[chain.outer], [int(sch.get(loop).extent) for loop in sch.get_loops(last)]
    bytes_per_row = columns * int(sch.get(last).writes[0].source.dtype.itemsize)
    most = min(_MOST_ROWS, _SHARED_BYTES // bytes_per_row)
    rows = max((n for n in range(1, most + 1) if extents[chain.row] % n == 0), default=0)
    if columns % _LANES or extents[chain.outer] % _LANES or not rows:
        return None
    inlined = tuple(name for name in elementwise if name != read[0])
    return Fusion(chain, contractions[0], reductions, read[0], inlined, rows)


@derived_object
class RowFusionCuda(ms.schedule_rule.PyScheduleRule):  # type: ignore[misc]  # TVM has no types
    """The rule: two design spaces at the end of a chain, with the last operand in shared memory or not."""

    def _initialize_with_tune_context(self, context: Any) -> None:
        pass

    def apply(self, sch: Schedule, block: Block) -> list[Schedule]:
        """The design spaces at this block; `sch` itself if no chain ends there."""
        fusion = find_fusion(sch)
        if fusion is None or sch.get(block).name_hint != fusion.chain.last:
            return [sch]
        return [_design(sch.copy(), fusion, shared) for shared in (True, False)]

    def clone(self) -> RowFusionCuda:
        """TVM's way to copy a rule."""
        return RowFusionCuda()


def _row_operand(sch: Schedule, block: Block, chain: Chain) -> str:
    """The buffer that the last contraction reads and the chain computes."""
    computed = {s.buffer for s in chain.blocks.values()}
    return next(name for r in sch.get(block).reads if (name := str(r.source.name)) in computed)


def _design(sch: Schedule, fusion: Fusion, shared: bool) -> Schedule:
    chain = fusion.chain
    for name in fusion.inlined:
        sch.compute_inline(sch.get_sblock(name))
    first, last, weights = (sch.get_sblock(name) for name in (fusion.first, chain.last, fusion.weights))
    reductions = [sch.get_sblock(name) for name in fusion.reductions]
    for block in (first, *reductions, weights):
        sch.set_scope(block, 0, "shared")
    results = _results_of_lanes(sch, first)

    # The last contraction, and with it the block of rows.
    out = sch.cache_write(last, 0, "local")
    *around, row, column, inner = sch.get_loops(last)
    blocks, some = sch.split(row, [None, fusion.rows])
    tile = sch.sample_perfect_tile(some, 3, _ROWS_PER_THREAD)
    more_blocks, thread, rows = sch.split(some, tile)
    virtual, lane, vector = _across_lanes(sch, column)
    chunk, step = sch.split(inner, sch.sample_perfect_tile(inner, 2, _CHUNK))
    sch.reorder(*around, blocks, more_blocks, virtual, thread, lane, chunk, step, rows, vector)
    kernel = sch.fuse(*around, blocks, more_blocks)
    for loop, axis in ((kernel, "blockIdx.x"), (virtual, "vthread.x"), (thread, "threadIdx.y"), (lane, "threadIdx.x")):
        sch.bind(loop, axis)
    # Loops of one iteration stay: a replay with other decisions must find as many loops.
    sch.reverse_compute_at(out, lane, preserve_unit_loops=True)
    sch.compute_at(weights, chunk, preserve_unit_loops=True)
    _fetch(sch, weights)
    if shared:
        _fetch_operand(sch, last, _other_operand(sch, last, fusion.weights), chunk)

    for block in reversed(reductions):
        sch.compute_at(block, kernel, preserve_unit_loops=True)
        row, inner = sch.get_loops(block)[-2:]
        thread, rows = sch.split(row, tile[1:])
        # TVM 0.27 fails on copies of a reduction across threads ("load_remap_.count(alloc_key)").
        sch.annotate(rows, "pragma_auto_unroll_max_step", 0)
        _, lane = sch.split(inner, [None, _LANES])
        sch.bind(thread, "threadIdx.y")
        sch.bind(lane, "threadIdx.x")

    for block in (results, first):
        sch.compute_at(block, kernel, preserve_unit_loops=True)
    row, column, lane, inner = sch.get_loops(first)[-4:]
    thread, rows = sch.split(row, tile[1:])
    tiles, some = sch.split(column, sch.sample_perfect_tile(column, 2, _COLUMNS_PER_THREAD))
    chunk, step = sch.split(inner, sch.sample_perfect_tile(inner, 2, _CHUNK))
    sch.reorder(tiles, thread, lane, chunk, step, rows, some)
    sch.bind(thread, "threadIdx.y")
    sch.bind(lane, "threadIdx.x")
    sch.reverse_compute_at(results, lane, preserve_unit_loops=True)
    for number in (1, 0):
        _fetch_operand(sch, first, number, chunk, padded=_is_read_across_rows(chain.blocks[fusion.first], number))
    return sch


def _results_of_lanes(sch: Schedule, block: Block) -> Block:
    """Give a contraction its results in registers, and its columns as two axes, the second of which is for the lanes.

    Returns:
        The block that copies the results.
    """
    results = sch.cache_write(block, 0, "local")

    def divided(*axes: Any) -> list[Any]:
        return [*axes[:-1], axes[-1] // _LANES, axes[-1] % _LANES]

    def with_reduction(*axes: Any) -> list[Any]:
        return [*divided(*axes[:-1]), axes[-1]]

    count = len(sch.get(results).iter_vars)
    sch.transform_block_layout(results, _index_map(divided, count))
    sch.transform_block_layout(block, _index_map(with_reduction, count + 1))
    sch.transform_layout(block, ("write", 0), divided)
    return results


def _index_map(function: Callable[..., list[Any]], axes: int) -> IndexMap:
    return IndexMap.from_func(function, ndim=axes, index_dtype="int32")


def _across_lanes(sch: Schedule, loop: Loop) -> tuple[Loop, Loop, Loop]:
    """Split a loop into virtual threads, lanes, and a vector of each lane."""
    vectors, lane = sch.split(loop, [None, _LANES])
    virtual, width = sch.sample_perfect_tile(vectors, 2, _VECTOR)
    split: tuple[Loop, Loop, Loop] = tuple(sch.split(sch.fuse(vectors, lane), [virtual, _LANES, width]))
    return split


def _other_operand(sch: Schedule, block: Block, weights: str) -> int:
    """Which of the last contraction's reads is not what the chain computes."""
    computed = sch.get(sch.get_sblock(weights)).writes[0].source
    return next(n for n, r in enumerate(sch.get(block).reads) if not r.source.same_as(computed))


def _is_read_across_rows(s: Structure, number: int) -> bool:
    """Whether lanes read consecutive rows of this operand, whose elements lie along the reduction."""
    operand = s.operands[number]
    return operand.dims[-1] in s.reduced and len(s.output) - 1 in operand.axes


def _fetch_operand(sch: Schedule, block: Block, number: int, at: Loop, padded: bool = False) -> None:
    copy = sch.cache_read(block, number, "shared")
    sch.compute_at(copy, at, preserve_unit_loops=True)
    if padded:
        sch.storage_align(copy, 0, len(sch.get(copy).iter_vars) - 2, *_PADDING)
    _fetch(sch, copy)


def _fetch(sch: Schedule, block: Block) -> None:
    """Divide what a block copies or computes among all threads, by TVM's postprocessor."""
    sch.fuse(*sch.get_loops(block)[-len(sch.get(block).iter_vars) :])
    width = sch.sample_categorical([1, 2, _VECTOR], [0.34, 0.33, 0.33])
    sch.annotate(block, "meta_schedule.cooperative_fetch", width)
