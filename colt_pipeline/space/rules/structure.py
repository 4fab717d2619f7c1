"""How the loops of a block relate to the elements that it reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm.ir import Call, Var
from tvm.s_tir import Schedule
from tvm.tirx import Div, IterVar
from tvm.tirx.analysis import undefined_vars

Block = Any
"""A schedule's random variable for a block (SBlockRV)."""
Loop = Any
"""A schedule's random variable for a loop (LoopRV)."""

VECTOR = 16
"""Lanes of a vector: float32 in 512 bits. Narrower machines process it in halves."""
_DIVISION = "division"
_EXPENSIVE = {_DIVISION, *(f"tirx.{name}" for name in "exp exp2 log tanh erf sigmoid pow sqrt rsqrt".split())}
_WIDEST = 32
"""Lanes where the extent is no multiple of VECTOR: LLVM splits vectors of any length."""


@dataclass(frozen=True)
class Operand:
    """A buffer that a block reads."""

    name: str
    dims: tuple[int | None, ...]
    """For each dimension the axis of the block that indexes it directly; None for any other index."""
    axes: frozenset[int]
    """All axes of the block that occur in its indices."""


@dataclass(frozen=True)
class Structure:
    """A block with one output, whose loops are its axes."""

    extents: tuple[int, ...]
    """Of each axis, in loop order."""
    reduced: frozenset[int]
    """The axes that are summed over."""
    operands: tuple[Operand, ...]
    """What it reads besides its own output, in order."""
    buffer: str
    """What it writes."""
    output: tuple[int | None, ...]
    """For each dimension of what it writes, as `Operand.dims`."""

    @property
    def spatial(self) -> tuple[int, ...]:
        """The axes that are not reduced."""
        return tuple(axis for axis in range(len(self.extents)) if axis not in self.reduced)

    @property
    def is_contraction(self) -> bool:
        """Whether it sums products of operands that it reads again and again: a matrix product or a convolution."""
        return bool(self.reduced) and sum(bool(o.axes & self.reduced) for o in self.operands) >= 2

    def shared(self, axis: int) -> bool:
        """Whether all operands of a contraction depend on the axis, so that nothing is read again along it."""
        return all(axis in o.axes for o in self.operands)


def structure(sch: Schedule, block: Block) -> Structure | None:
    """The structure of an unscheduled block; None if it has another form, or its loops have been changed."""
    node, loops = sch.get(block), sch.get_loops(block)
    axes = [iv.var for iv in node.iter_vars]
    if len(node.writes) != 1 or len(loops) != len(axes) or not axes:
        return None
    kinds = {iv.iter_type for iv in node.iter_vars}
    if kinds - {IterVar.DataPar, IterVar.CommReduce}:
        return None
    extents = [_constant(iv.dom.extent) for iv in node.iter_vars]
    if None in extents or extents != [_constant(sch.get(loop).extent) for loop in loops]:
        return None
    output = node.writes[0]
    return Structure(
        extents=tuple(e for e in extents if e is not None),
        reduced=frozenset(n for n, iv in enumerate(node.iter_vars) if iv.iter_type == IterVar.CommReduce),
        operands=tuple(_operand(r, axes) for r in node.reads if not r.source.same_as(output.source)),
        buffer=str(output.source.name),
        output=_dims(output, axes),
    )


def lanes(extent: int) -> int:
    """How many elements of an axis make a vector: VECTOR, or another divisor of its extent; 1 = none."""
    if extent % VECTOR == 0:
        return VECTOR
    return max(n for n in range(1, _WIDEST + 1) if extent % n == 0)


def unit(extent: int) -> int:
    """In which steps rows are tiled: the largest divisor of their number up to 4."""
    return max(n for n in (1, 2, 3, 4) if extent % n == 0)


def is_expensive(sch: Schedule, block: Block) -> bool:
    """Whether it divides, or calls exp or its like: worth keeping where several blocks read the result."""
    found: list[str] = []
    tvm_ffi.structural_walk(
        sch.get(block).body,
        [
            (Call, lambda call: found.append(str(getattr(call.op, "name", "")))),
            (Div, lambda division: found.append(_DIVISION)),
        ],
    )
    return not _EXPENSIVE.isdisjoint(found)


def _operand(region: Any, axes: Sequence[Var]) -> Operand:
    used = {v for r in region.region for v in _axes_in(r.min, axes) | _axes_in(r.extent, axes)}
    return Operand(str(region.source.name), _dims(region, axes), frozenset(used))


def _dims(region: Any, axes: Sequence[Var]) -> tuple[int | None, ...]:
    return tuple(
        next((n for n, axis in enumerate(axes) if r.min.same_as(axis)), None) if _constant(r.extent) == 1 else None
        for r in region.region
    )


def _axes_in(expression: Any, axes: Sequence[Var]) -> set[int]:
    free = undefined_vars(expression)
    return {n for n, axis in enumerate(axes) if any(axis.same_as(v) for v in free)}


def _constant(expression: Any) -> int | None:
    return int(expression.value) if hasattr(expression, "value") else None
