"""TVM's MutateParallel, draw for draw, with its analysis remembered.

For each draw TVM parses the unscheduled module again and replays the trace to see how many loops could run in parallel
(``mutate_parallel.cc``), which takes longer than everything else that a draw needs. What it finds depends on the tiles
alone, so it is looked up here; the draw itself is one number of TVM's generator.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Instruction, Trace
from tvm_ffi import structural_walk

from colt_pipeline.space.decisions import Values, places, values_of
from colt_pipeline.space.program import Program

_SHAPING = ("SamplePerfectTile", "SampleComputeLocation")
"""What decides the extents of loops on a CPU."""
_MULTIPLIER, _MODULUS = 48271, 2**31 - 1
"""Of TVM's generator, std::minstd_rand."""

Prefixes = tuple[tuple[int, ...], ...]
"""Per block, the numbers of iterations of its outermost loop, its two outermost loops and so on, as far as they are
independent of each other."""


class ParallelPlans:
    """Draws another limit for the extent of the parallel loop."""

    def __init__(self, module: tvm.IRModule, most: int) -> None:
        """Know nothing yet.

        Args:
            module: the unscheduled module.
            most: MetaSchedule's limit for the number of parallel iterations.
        """
        self._module = module
        self._most = most
        self._prefixes: dict[tuple[str, int, Values], Prefixes] = {}

    def mutate(self, program: Program, trace: Trace, seed: int) -> Trace | None:
        """`trace`, of the same design as `program`, with another limit; None if no limit makes a difference."""
        annotations = [place.index for place in places(program.design) if place.kind == "Annotate"]
        if not annotations:
            return None
        chosen, seed = _drawn(len(annotations), seed)
        seed = _next(seed)  # the seed of TVM's replay
        place = annotations[chosen]
        old = trace.insts[place]
        prefixes = self._of(program, trace, place)
        plans = {
            _fused(prefixes, limit): limit
            for limit in dict.fromkeys(limit for one in prefixes for limit in one)
            if limit <= self._most
        }
        plans.pop(_fused(prefixes, int(old.inputs[1])), None)
        if not plans:
            return None
        limits = [limit for _, limit in sorted(plans.items())]
        chosen, _ = _drawn(len(limits), seed)
        inputs = [old.inputs[0], tirx.IntImm("int32", limits[chosen])]
        insts = list(trace.insts)
        insts[place] = Instruction(old.kind, inputs, old.attrs, old.outputs)
        return Trace(insts, trace.decisions)

    def _of(self, program: Program, trace: Trace, place: int) -> Prefixes:
        shaping = [p for p in places(program.design) if p.kind in _SHAPING]
        name = program.design, place, values_of(trace, shaping)
        if name not in self._prefixes:
            insts = trace.insts
            annotated = insts[place].inputs[0]
            found = next(i for i in insts if i.kind.name == "GetSBlock" and i.outputs[0].same_as(annotated))
            root = self._block(program, trace, *map(str, found.attrs))
            self._prefixes[name] = tuple(_prefixes(root, self._most))
        return self._prefixes[name]

    def _block(self, program: Program, trace: Trace, block: str, function: str) -> Any:
        """A block as the schedule of this trace leaves it to the postprocessors."""
        if program.before is not None and trace.same_as(program.trace):
            root = program.before[function].body.block
            if root.name_hint == block:
                return root
        schedule = Schedule(self._module, debug_mask="none")
        trace.apply_to_schedule(schedule, remove_postproc=True)
        return schedule.get(schedule.get_sblock(block, function))


def _prefixes(root: Any, most: int) -> Iterator[tuple[int, ...]]:
    """Those of the blocks in `root`, each until it reaches `most`."""
    nests = list(_nests(root.body, ()))
    reduced: list[Any] = []
    for realize, _ in nests:
        for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
            if axis.iter_type != tirx.IterVar.DataPar:
                structural_walk(value, [(tirx.Var, reduced.append)])
    for _, loops in nests:
        product, found = 1, []
        for loop in loops:
            if any(loop.loop_var.same_as(variable) for variable in reduced) or not isinstance(loop.extent, tirx.IntImm):
                break
            product *= int(loop.extent)
            found.append(product)
            if product >= most:
                break
        if found:
            yield tuple(found)


def _nests(stmt: Any, loops: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The outermost blocks with the loops around each, outermost first."""
    if isinstance(stmt, tirx.SeqStmt):
        for part in stmt.seq:
            yield from _nests(part, loops)
    elif isinstance(stmt, tirx.For):
        yield from _nests(stmt.body, (*loops, stmt))
    elif isinstance(stmt, s_tir.SBlockRealize):
        yield stmt, loops


def _fused(prefixes: Prefixes, limit: int) -> tuple[int, ...]:
    """How many loops of each block are fused into one of at least `limit` iterations, if there are enough."""
    return tuple(_reaching(one, limit) for one in prefixes)


def _reaching(products: Sequence[int], limit: int) -> int:
    below = bisect_right(products, limit)
    if below and products[below - 1] == limit:
        below -= 1
    return min(below + 1, len(products))


def _drawn(count: int, seed: int) -> tuple[int, int]:
    """A number below `count` and the next seed: std::uniform_int_distribution as libstdc++ has it."""
    if count == 1:
        return 0, seed
    share = (_MODULUS - 1) // count
    while True:
        seed = _next(seed)
        if seed < count * share:
            return seed // share, seed


def _next(seed: int) -> int:
    return seed * _MULTIPLIER % _MODULUS
