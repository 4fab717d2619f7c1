"""Whether a schedule that TVM accepts computes what the program says; TVM 0.27 looks at none of these causes.

`accumulates_again`: RewriteReductionBlock moves the initialization of a reduction out of the outermost loop that is not
parallel in all blocks under it. Where ``compute_at`` put the reduction into the loops of a consumer, that may be a
reduction loop of the consumer. It and loops below it that the reduction does not use then repeat the updates without a
new initialization, so a sum comes out as a multiple; ``decompose_reduction`` checks the reduction's own loops only.

`leaves_unwritten`: ``reverse_compute_at`` cuts a block to the elements for which its producer has just computed
something. Padding has elements without a producer; they are then never written.

`mixes_rows`: where the lanes of a warp reduce a row and several warps of a block of threads have one row each, an
H200 gave wrong results for all of 16 such programs of attention, and for none of 80 others. That TVM lets the lanes
read what one of them has written without a barrier may be why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, sym, tirx
from tvm.ir.expr import TensorLoad
from tvm.tirx import IterVar

_REDUCED = IterVar.CommReduce


@dataclass(frozen=True, eq=False)
class _Block:
    """A block and the loops around it, outermost first."""

    realize: Any
    loops: tuple[Any, ...]

    def reads(self, buffer: Any) -> bool:
        return any(region.source.same_as(buffer) for region in self.realize.block.reads)

    def initializes(self, buffer: Any) -> bool:
        written = any(region.source.same_as(buffer) for region in self.realize.block.writes)
        return written and not self.reads(buffer)

    @property
    def accumulated(self) -> list[Any]:
        """The buffers to whose elements it adds, multiplies or the like."""
        stores: list[Any] = []
        named: list[Any] = []
        tvm_ffi.structural_walk(
            self.realize.block.body, [(tirx.BufferStore, stores.append), (tirx.Bind, lambda b: named.append(b.value))]
        )
        return [s.buffer for s in stores if not all(_chosen(value, s.buffer) for value in [s.value, *named])]


def unsound(module: tvm.IRModule) -> bool:
    """Whether a scheduled module, with the postprocessors applied, computes something else than it did."""
    return accumulates_again(module) or leaves_unwritten(module) or mixes_rows(module)


def accumulates_again(module: tvm.IRModule) -> bool:
    """Whether a reduction adds the same terms more than once to an element that it initializes once."""
    blocks = [block for function in module.functions.values() for block in _blocks(function.body, ())]
    return any(_repeats(block, blocks[:number]) for number, block in enumerate(blocks))


def mixes_rows(module: tvm.IRModule) -> bool:
    """Whether several warps of a block of threads reduce one row each."""
    blocks = [block for function in module.functions.values() for block in _blocks(function.body, ())]
    return any(_one_row_per_warp(block) for block in blocks)


def _one_row_per_warp(block: _Block) -> bool:
    threads = {str(loop.thread_binding.thread_tag): loop for loop in block.loops if loop.thread_binding is not None}
    warps, lanes = threads.get("threadIdx.y"), threads.get("threadIdx.x")
    if warps is None or lanes is None or int(warps.extent) == 1:
        return False
    rows: list[Any] = []
    terms: list[Any] = []
    for axis, value in zip(block.realize.block.iter_vars, block.realize.iter_values, strict=True):
        (terms if axis.iter_type == _REDUCED else rows).append(value)
    serial = [loop for loop in block.loops if loop.thread_binding is None and int(loop.extent) > 1]
    return _uses(terms, [lanes]) and not _uses(rows, serial)


def _uses(values: Sequence[Any], loops: Sequence[Any]) -> bool:
    """Whether an expression uses the variable of a loop."""
    used: list[Any] = []
    for value in values:
        tvm_ffi.structural_walk(value, [(tirx.Var, used.append)])
    return any(var.same_as(loop.loop_var) for var in used for loop in loops)


def _repeats(block: _Block, before: Sequence[_Block]) -> bool:
    if block.realize.block.init is not None:
        return False
    for buffer in block.accumulated:
        outside = max((_shared(block.loops, b.loops) for b in before if b.initializes(buffer)), default=0)
        if not _distinct(block.realize, block.loops[outside:]):
            return True
    return False


def leaves_unwritten(module: tvm.IRModule) -> bool:
    """Whether a block that the schedule has cut to a part of its iterations leaves out elements that are used."""
    for function in module.functions.values():
        blocks = list(_blocks(function.body, ()))
        analyzer = sym.Analyzer()
        whole = []
        bound: set[int] = set()
        for block in blocks:
            for loop in block.loops:
                if id(loop) not in bound:
                    bound.add(id(loop))
                    analyzer.bind(loop.loop_var, tvm.ir.Range.from_min_extent(loop.min, loop.extent), True)
            whole.append(_covers_its_axes(block, analyzer))
        if all(whole):
            continue
        for block in blocks:
            for axis, value in zip(block.realize.block.iter_vars, block.realize.iter_values, strict=True):
                analyzer.bind(axis.var, value, True)
        outputs = list(function.params)
        for block, is_whole in zip(blocks, whole, strict=True):
            regions = [] if is_whole else block.realize.block.writes
            if any(_lacks(region.source, blocks, outputs, analyzer) for region in regions):
                return True
    return False


def _covers_its_axes(block: _Block, analyzer: sym.Analyzer) -> bool:
    for axis, value in zip(block.realize.block.iter_vars, block.realize.iter_values, strict=True):
        bound = analyzer.const_int_bound(value)
        if bound.min_value > int(axis.dom.min) or bound.max_value < int(axis.dom.min + axis.dom.extent) - 1:
            return False
    return True


def _lacks(buffer: Any, blocks: Sequence[_Block], outputs: Sequence[Any], analyzer: sym.Analyzer) -> bool:
    """Whether more of `buffer` is used than is written."""
    written = _hull([r for b in blocks for r in b.realize.block.writes if r.source.same_as(buffer)], analyzer)
    shape = [int(extent) for extent in buffer.ty.shape]
    if any(buffer.same_as(output) for output in outputs):
        used = [(0, extent - 1) for extent in shape]
    else:
        reads = [r for b in blocks for r in b.realize.block.reads if r.source.same_as(buffer)]
        if not reads:
            return False
        used = _hull(reads, analyzer)
    return any(
        max(low, 0) < first or min(high, extent - 1) > last
        for (low, high), (first, last), extent in zip(used, written, shape, strict=True)
    )


def _hull(regions: Sequence[Any], analyzer: sym.Analyzer) -> list[tuple[int, int]]:
    """The smallest box that holds these regions."""
    boxes = [[_span(dimension, analyzer) for dimension in region.region] for region in regions]
    return [(min(low for low, _ in spans), max(high for _, high in spans)) for spans in zip(*boxes, strict=True)]


def _span(dimension: Any, analyzer: sym.Analyzer) -> tuple[int, int]:
    first, length = analyzer.const_int_bound(dimension.min), analyzer.const_int_bound(dimension.extent)
    return first.min_value, first.max_value + length.max_value - 1


def _blocks(stmt: Any, loops: tuple[Any, ...]) -> Iterator[_Block]:
    """The outermost blocks that have axes, in the order of the program."""
    if isinstance(stmt, tirx.SeqStmt):
        for part in stmt.seq:
            yield from _blocks(part, loops)
    elif isinstance(stmt, tirx.For):
        yield from _blocks(stmt.body, (*loops, stmt))
    elif isinstance(stmt, s_tir.SBlockRealize):
        if stmt.block.iter_vars:
            yield _Block(stmt, loops)
        else:
            yield from _blocks(stmt.block.body, loops)


def _shared(left: Sequence[Any], right: Sequence[Any]) -> int:
    """How many loops two blocks share."""
    pairs = zip(left, right, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if not a.same_as(b)), min(len(left), len(right)))


def _distinct(realize: Any, loops: Sequence[Any]) -> bool:
    """Whether no two iterations of `loops` execute the block with the same values of its axes."""
    ranges = {loop.loop_var: tvm.ir.Range.from_min_extent(loop.min, loop.extent) for loop in loops}
    found = sym.detect_iter_map(
        list(realize.iter_values), ranges, realize.predicate, sym.iter_affine_map.IterMapLevel.Bijective
    )
    return bool(found.indices)


def _chosen(value: Any, buffer: Any) -> bool:
    """Whether `value` is the old element or one without it, so that a second update changes nothing: a maximum."""
    if isinstance(value, TensorLoad) and value.source.same_as(buffer):
        return True
    if isinstance(value, (tirx.Max, tirx.Min)):
        return _chosen(value.a, buffer) and _chosen(value.b, buffer)
    if isinstance(value, tirx.Select):
        return _chosen(value.true_value, buffer) and _chosen(value.false_value, buffer)
    loads: list[Any] = []
    tvm_ffi.structural_walk(value, [(TensorLoad, loads.append)])
    return not any(load.source.same_as(buffer) for load in loads)
