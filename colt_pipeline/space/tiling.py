"""What TVM's verification of GPU code says about a trace, as far as its tile factors alone decide it.

On CUDA nearly all refusals have one of three causes: a block of threads is too small or too large, its shared memory is
too large, or a software pipeline has a single iteration. All three follow from the tiling that MetaSchedule gives to a
block, in microseconds to a millisecond; replaying and verifying a schedule takes 30 to 200 ms. Other causes are not
looked for, so a trace that is not refused here may still fail.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import tvm
from tvm import sym
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Instruction, Trace

Factors = Mapping[Instruction, Sequence[int]]
"""Tile factors, outermost first, per SamplePerfectTile instruction."""

_TILING = "meta_schedule.tiling_structure"
_STRUCTURE = "SSSRRSRS"
"""MetaSchedule's tiling for CUDA cores. Each spatial loop is split into blockIdx.x, vthread.x, threadIdx.x and two
inner loops; each reduction loop into three, and shared memory is filled in the outermost of them."""
_LOW, _HIGH = "meta_schedule.thread_extent_low_inclusive", "meta_schedule.thread_extent_high_inclusive"
_STAGES = "software_pipeline_stage"
_THREAD = 2
"""Position of the factor for threadIdx.x."""


@dataclass(eq=False)
class TiledBlock:
    """A block of the unscheduled module with the instructions that tile it."""

    name: str
    tiles: dict[int, Instruction] = field(default_factory=dict)
    """SamplePerfectTile instructions by position of the loop; five factors if it is spatial, otherwise three."""
    low: int = 0
    high: int = 0
    """Bounds for the number of threads, inclusive."""
    fetched: list[int] = field(default_factory=list)
    """Which of the block's reads go through shared memory."""
    stages: int = 1
    """Copies of the shared buffers in a software pipeline over the outermost reduction loops; 1 if there is none."""

    @property
    def spatial(self) -> list[Instruction]:
        return [tile for tile in self.tiles.values() if len(tile.outputs) == len("SSSSS")]

    def threads(self, factors: Factors) -> int:
        return math.prod(factors[tile][_THREAD] for tile in self.spatial)

    def threads_fit(self, factors: Factors) -> bool:
        return self.low <= self.threads(factors) <= self.high

    def pipelines_once(self, factors: Factors) -> bool:
        """Whether it has a pipeline of one iteration: the initialization then moves into it as a stage too many."""
        reduction = [factors[tile] for tile in self.tiles.values() if tile not in self.spatial]
        return self.stages > 1 and math.prod(f[0] for f in reduction) == 1 < math.prod(map(math.prod, reduction))

    def shared_bytes(self, factors: Factors, module: tvm.IRModule) -> int:
        """The shared memory that the block needs at least: what one of its iterations reads, as boxes."""
        axes, reads = _accesses(module, self.name)
        first, last = sym.Analyzer(), sym.Analyzer()
        for position, axis in enumerate(axes):
            first.bind(axis, tvm.tirx.const(0, axis.ty.dtype))
            last.bind(axis, tvm.tirx.const(math.prod(factors[self.tiles[position]][1:]) - 1, axis.ty.dtype))
        boxes = (
            itemsize * math.prod(_span(first.simplify(index), last.simplify(index)) for index in indices)
            for itemsize, indices in (reads[number] for number in self.fetched)
        )
        return self.stages * sum(boxes)


def _span(first: Any, last: Any) -> int:
    """Length of the interval between two indices, at least; 1 if they are unknown, as those of a gather."""
    known = isinstance(first, tvm.tirx.IntImm) and isinstance(last, tvm.tirx.IntImm)
    return abs(int(last) - int(first)) + 1 if known else 1


def tiled_blocks(trace: Trace) -> tuple[TiledBlock, ...]:
    """The blocks that `trace` tiles for CUDA cores; they depend on its instructions only, not on its decisions."""
    return _tiled(tuple(trace.insts))


@lru_cache(maxsize=256)
def _tiled(insts: tuple[Instruction, ...]) -> tuple[TiledBlock, ...]:
    """Cached, because a program's mutations share its instructions."""
    blocks: dict[Any, TiledBlock] = {}
    loops: dict[Any, tuple[TiledBlock, int]] = {}  # loop -> its block, and the position of what it was split from
    tiled: list[TiledBlock] = []
    for inst in insts:
        kind, inputs, attrs = inst.kind.name, inst.inputs, inst.attrs
        source = inputs[0] if inputs else None
        if kind == "GetSBlock":
            blocks[inst.outputs[0]] = TiledBlock(str(attrs[0]))
        elif kind == "GetLoops" and source in blocks:
            loops |= {loop: (blocks[source], position) for position, loop in enumerate(inst.outputs)}
        elif kind == "SamplePerfectTile" and source in loops:
            block, position = loops[source]
            block.tiles[position] = inst
        elif kind in ("Split", "Fuse") and source in loops:
            loops |= dict.fromkeys(inst.outputs, loops[source])
        elif kind == "CacheRead" and source in blocks and attrs[1] == "shared":
            blocks[source].fetched.append(int(attrs[0]))
        elif kind == "Annotate" and attrs[0] == _STAGES and source in loops:
            loops[source][0].stages = int(inputs[1][-1]) - int(inputs[1][0]) + 1
        elif kind == "Annotate" and source in blocks:
            if attrs[0] == _TILING and inputs[1] == _STRUCTURE:
                tiled.append(blocks[source])
            elif attrs[0] == _LOW:
                blocks[source].low = int(inputs[1])
            elif attrs[0] == _HIGH:
                blocks[source].high = int(inputs[1])
    return tuple(tiled)


def refused(module: tvm.IRModule, target: tvm.target.Target, trace: Trace) -> bool:
    """Whether a schedule of `module` by this trace, all of whose tiles are decided, certainly fails verification."""
    blocks = tiled_blocks(trace)
    factors = {i: [int(f) for f in trace.get_decision(i)] for block in blocks for i in block.tiles.values()}
    shared = int(target.attrs["max_shared_memory_per_block"])
    return any(
        not block.threads_fit(factors) or block.pipelines_once(factors) or block.shared_bytes(factors, module) > shared
        for block in blocks
    )


@lru_cache(maxsize=64)
def _accesses(module: tvm.IRModule, name: str) -> tuple[list[Any], list[tuple[int, list[Any]]]]:
    """The axes of a block, and for each of its reads the bytes of an element and the indices.

    Cached by the identity of the module, as design spaces are.
    """
    schedule = Schedule(module, debug_mask="none")
    block = schedule.get(schedule.get_sblock(name))
    reads = [(int(r.source.dtype.itemsize), [dimension.min for dimension in r.region]) for r in block.reads]
    return [axis.var for axis in block.iter_vars], reads
