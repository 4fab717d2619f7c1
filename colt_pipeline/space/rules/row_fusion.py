"""Row fusion: contraction, row-wise work, contraction, such as attention, computed per block of rows in one loop.

Between the two contractions everything depends on one row, so a block of rows can go through the whole chain while it
is in the cache. Inside, the rows are the lanes of the vectors: intermediate results lie in panels of as many rows as a
vector has lanes, the maximum or the sum of a row needs no reduction across lanes, and the second operand of the first
contraction is read as it comes, each element for all lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm.ir.utils import derived_object
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms

from colt_pipeline.space.rules.primitives import copy_operand, in_panels, in_registers, vectorize_along
from colt_pipeline.space.rules.structure import Block, Operand, Structure, is_expensive, lanes, structure, unit

_FEWEST_BLOCKS = 4
"""Blocks of rows: with fewer, cores would be idle."""
_FEWEST_LANES = 4
_MOST_VECTORS = 4
"""Vectors in one direction of a register tile."""
_ROWS = 8
"""Rows of the last contraction's register tile."""


@dataclass(frozen=True)
class Chain:
    """The blocks of a chain, by name, in the order of the program."""

    outer: int
    """How many leading axes all of them share; the last of these is the row."""
    rows: int
    """Rows that make a vector."""
    blocks: dict[str, Structure]
    """The blocks before the last contraction, which compute its operand."""
    last: str
    """The last contraction."""
    columns: int
    """Of its output, how many make a vector."""

    @property
    def row(self) -> int:
        """The axis of the rows."""
        return self.outer - 1

    def given(self, name: str) -> list[Operand]:
        """What a block reads of each row that no block of the chain computes."""
        computed = {s.buffer for s in self.blocks.values()}
        return [o for o in self.blocks[name].operands if self.row in o.axes and o.name not in computed]


@derived_object
class RowFusion(ms.schedule_rule.PyScheduleRule):  # type: ignore[misc]  # TVM has no types
    """The rule: two design spaces at the last contraction of a chain, which differ in its outermost loops."""

    def _initialize_with_tune_context(self, context: Any) -> None:
        pass

    def apply(self, sch: Schedule, block: Block) -> list[Schedule]:
        """The design spaces at this block; `sch` itself if no chain ends there."""
        chain = find_chain(sch)
        if chain is None or sch.get(block).name_hint != chain.last:
            return [sch]
        return [_design(sch.copy(), chain, columns_first) for columns_first in (False, True)]

    def clone(self) -> RowFusion:
        """TVM's way to copy a rule."""
        return RowFusion()


def find_chain(sch: Schedule) -> Chain | None:
    """The first chain of an unscheduled program."""
    names = [sch.get(b).name_hint for b in sch.get_child_blocks(sch.get_sblock("root"))]
    found = {name: s for name in names if (s := structure(sch, sch.get_sblock(name))) is not None}
    return next((c for name in found if (c := _chain(found, name)) is not None), None)


def _chain(found: dict[str, Structure], last: str) -> Chain | None:
    """The chain that ends with this block."""
    end = found[last]
    writers = {s.buffer: name for name, s in found.items()}
    computed = [o for o in end.operands if o.name in writers]
    if not end.is_contraction or len(computed) != 1 or len(end.operands) != 2 or len(end.reduced) != 1:
        return None
    outer = len(end.spatial) - 1
    leading = tuple(range(outer))
    (other,) = (o for o in end.operands if o is not computed[0])
    if end.output != (*leading, outer) or computed[0].dims != (*leading, outer + 1) or outer - 1 in other.axes:
        return None
    blocks = _above(found, writers, writers[computed[0].name], leading, end.extents[:outer])
    chain = Chain(outer, lanes(end.extents[outer - 1]), blocks, last, lanes(end.extents[outer]))
    fits = min(chain.rows, chain.columns) >= _FEWEST_LANES and other.dims[-1] == outer
    enough = prod(end.extents[:outer]) >= _FEWEST_BLOCKS * chain.rows
    contracts = any(s.is_contraction for s in blocks.values())
    copied = all(o.dims.count(chain.row) == 1 for name in blocks for o in chain.given(name))
    # A contraction elsewhere would be left without tiles.
    alone = all(n == last or n in blocks for n, s in found.items() if s.is_contraction)
    return chain if fits and enough and contracts and copied and alone else None


def _above(
    found: dict[str, Structure], writers: dict[str, str], first: str, leading: tuple[int, ...], extents: Sequence[int]
) -> dict[str, Structure]:
    """The blocks that compute a row from what is given of that row: `first` and all that it depends on, if it does."""
    members: set[str] = set()
    waiting = [first]
    while waiting:
        name = waiting.pop()
        if name in members or not _is_row_wise(found[name], leading, extents):
            continue
        members.add(name)
        read = [o.name for o in found[name].operands if o.dims[: len(leading)] == leading]
        waiting += [writers[buffer] for buffer in read if buffer in writers]
    return {name: s for name, s in found.items() if name in members}


def _is_row_wise(block: Structure, leading: tuple[int, ...], extents: Sequence[int]) -> bool:
    """Whether it computes a row, or one number for it, along at most one more axis."""
    inner = len(block.output) - len(leading)
    return (
        block.output == tuple(range(len(block.output)))
        and block.extents[: len(leading)] == tuple(extents)
        and (inner, len(block.reduced)) in {(1, 0), (0, 1), (0, 0), (1, 1)}
        and (len(block.reduced) == 0 or inner == 0 or block.is_contraction)
    )


def _design(sch: Schedule, chain: Chain, columns_first: bool) -> Schedule:
    kept = _inlined(sch, chain)
    # One variable for each block: TVM drops those that occur only in the list of a copy's readers.
    blocks = {name: sch.get_sblock(name) for name in kept}
    for name, s in kept.items():
        if len(s.output) > chain.outer:
            in_panels(sch, blocks[name], chain.row, chain.rows)
    # Each block of the chain and each copy, with the position of the rows among its last loops.
    order: list[tuple[Block, int]] = []
    copied: set[str] = set()
    for name in kept:
        for operand in chain.given(name):
            if operand.name not in copied:
                copied.add(operand.name)
                readers = [blocks[n] for n in kept if operand.name in {o.name for o in chain.given(n)}]
                at = operand.dims.index(chain.row)
                order.append((copy_operand(sch, readers, operand, at, chain.rows), at))
        order.append((blocks[name], chain.row))
    last = sch.get_sblock(chain.last)
    *around, row, column, inner = sch.get_loops(last)
    tiles, lane = sch.split(row, [None, chain.rows])
    block_loop, vectors = sch.split(tiles, sch.sample_perfect_tile(tiles, 2, _MOST_VECTORS))
    rows = sch.fuse(vectors, lane)
    sch.reorder(*around, block_loop, rows, column, inner)
    for block, _ in reversed(order):
        # Loops of one iteration stay: a replay with other decisions must find as many loops.
        sch.compute_at(block, block_loop, preserve_unit_loops=True)
    _tile_last(sch, last, chain, columns_first)
    for name, s in kept.items():
        if s.is_contraction:
            _tile_inner(sch, blocks[name], s, chain)
    for block, at in order:
        own = kept.get(sch.get(block).name_hint)
        if own is None or not own.is_contraction:
            sch.unroll(vectorize_along(sch, block, at, chain.rows))
    return sch


def _inlined(sch: Schedule, chain: Chain) -> dict[str, Structure]:
    """The blocks that are left after inlining what is cheap to compute again."""
    kept = {}
    for name, s in chain.blocks.items():
        block = sch.get_sblock(name)
        if s.reduced or chain.given(name) or is_expensive(sch, block):
            kept[name] = s
        else:
            sch.compute_inline(block)
    return kept


def _tile_last(sch: Schedule, block: Block, chain: Chain, columns_first: bool) -> None:
    """Register tile of the last contraction: rows times vectors of columns."""
    out = sch.cache_write(block, 0, "local")
    rows, column, inner = sch.get_loops(block)[-3:]
    row_tiles, row = sch.split(rows, [None, unit(chain.rows) * (2 if chain.rows % _ROWS == 0 else 1)])
    vectors, lane = sch.split(column, [None, chain.columns])
    column_tiles, vector = sch.split(vectors, sch.sample_perfect_tile(vectors, 2, _MOST_VECTORS))
    inner, step = sch.split(inner, [None, unit(int(sch.get(inner).extent))])
    tiles = (column_tiles, row_tiles) if columns_first else (row_tiles, column_tiles)
    sch.reorder(*tiles, inner, step, row, vector, lane)
    sch.reverse_compute_at(out, tiles[1], preserve_unit_loops=True)
    in_registers(sch, (step, row, vector), lane)
    rows, columns = sch.get_loops(out)[-2:]
    vectors, lane = sch.split(columns, [None, chain.columns])
    in_registers(sch, (rows, vectors), lane)


def _tile_inner(sch: Schedule, block: Block, s: Structure, chain: Chain) -> None:
    """Register tile of another contraction: columns times vectors of rows."""
    out = sch.cache_write(block, 0, "local")
    rows, column, inner = sch.get_loops(block)[-3:]
    vectors, lane = sch.split(rows, [None, chain.rows])
    steps, column = sch.split(column, [None, unit(s.extents[chain.outer])])
    column_tiles, some = sch.split(steps, sch.sample_perfect_tile(steps, 2, _MOST_VECTORS))
    inner, step = sch.split(inner, [None, unit(s.extents[-1])])
    sch.reorder(column_tiles, inner, step, some, column, vectors, lane)
    sch.reverse_compute_at(out, column_tiles, preserve_unit_loops=True)
    in_registers(sch, (step, some, column, vectors), lane)
    rows, columns = sch.get_loops(out)[-2:]
    vectors, lane = sch.split(rows, [None, chain.rows])
    sch.reorder(columns, vectors, lane)
    in_registers(sch, (columns, vectors), lane)
