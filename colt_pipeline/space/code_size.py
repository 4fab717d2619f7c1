"""How much scalar code a scheduled CPU program has in a row, which decides how long LLVM takes.

TVM's vectorizer turns a load or store whose elements lie apart into one scalar access per lane, and a call of a math
function into one call per lane; its unroller copies that up to ``pragma_auto_unroll_max_step`` times, counting a vector
statement as one step. 512 steps of 64 lanes are 32768 loads and insertions without a branch. LLVM's SLP vectorizer
looks for vectors among them in more than quadratic time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.ir.expr import TensorLoad

LIMIT = 16384
"""The most scalar operations in a row that are built: the most that a right one of 164 recorded programs of FLUX
attention had. Seven of eight that timed out had 1024 to 2048, but so had or exceeded 63 right ones, the fastest too."""

_MAX_STEP = "pragma_auto_unroll_max_step"
_MAX_DEPTH = 8
"""TVM's limit of nested loops that it unrolls."""
_MATH = frozenset(f"tirx.{name}" for name in ("exp", "exp2", "tanh", "erf", "log", "sigmoid", "pow"))


def scalars_in_a_row(module: tvm.IRModule, vector_math: bool) -> int:
    """The most scalar loads, stores and calls that follow each other without a loop.

    Args:
        module: a scheduled module, with the postprocessors applied.
        vector_math: whether math functions are computed on vectors.
    """
    walk = _Unrolling(vector_math)
    for function in module.functions.values():
        walk.visit(function.body, 0, None)
    return walk.most


@dataclass(frozen=True)
class _Code:
    """What TVM's LoopUnroller knows of a statement, and its scalar operations."""

    steps: int
    unrolled_depth: int = 0
    has_loop: bool = False
    scalars: int = 0


class _Unrolling:
    """Does in numbers what TVM's vectorizer and LoopUnroller will do to the program."""

    def __init__(self, vector_math: bool) -> None:
        self.most = 0
        self._vector_math = vector_math

    def visit(self, stmt: Any, max_step: int, vectorized: Any) -> _Code:
        if isinstance(stmt, tirx.SeqStmt):
            code = _in_a_row([self.visit(part, max_step, vectorized) for part in stmt.seq])
        elif isinstance(stmt, tirx.For):
            code = self._loop(stmt, int(stmt.annotations.get(_MAX_STEP, max_step)), vectorized)
        elif isinstance(stmt, s_tir.SBlockRealize):
            if isinstance(stmt.block.body, (tirx.SeqStmt, tirx.For, s_tir.SBlockRealize)):
                return self.visit(stmt.block.body, max_step, vectorized)
            code = self._block(stmt, vectorized)
        else:
            code = _Code(steps=1)
        self.most = max(self.most, code.scalars)
        return code

    def _loop(self, loop: Any, max_step: int, vectorized: Any) -> _Code:
        if loop.kind == tirx.ForKind.VECTORIZED:
            return self.visit(loop.body, max_step, loop)
        code, extent = self.visit(loop.body, max_step, vectorized), loop.extent
        serial = loop.kind == tirx.ForKind.SERIAL
        times = int(extent) if isinstance(extent, tirx.IntImm) else max_step + 1
        if serial and times == 1:
            return code
        fits = not code.has_loop and code.unrolled_depth <= _MAX_DEPTH and times * code.steps <= max_step
        if loop.kind == tirx.ForKind.UNROLLED or (serial and fits):
            return _Code(times * code.steps, code.unrolled_depth + 1, code.has_loop, times * code.scalars)
        return _Code(code.steps, code.unrolled_depth, has_loop=True)

    def _block(self, realize: Any, vectorized: Any) -> _Code:
        block = realize.block
        stores: list[Any] = []
        loads: list[Any] = []
        calls: list[Any] = []
        looked_for = [(tirx.BufferStore, stores.append), (TensorLoad, loads.append), (tvm.ir.Call, calls.append)]
        tvm_ffi.structural_walk(block.body, looked_for)
        if vectorized is None:
            return _Code(len(stores), scalars=len(loads))
        lanes = int(vectorized.extent)
        points = []
        for lane in (0, lanes - 1):
            at = {vectorized.loop_var: lane}
            points.append({a.var: _value(v, at) for a, v in zip(block.iter_vars, realize.iter_values, strict=True)})
        accesses = [(load.source, load.indices) for load in loads] + [(s.buffer, s.indices) for s in stores]
        distances = [_offset(*access, points[1]) - _offset(*access, points[0]) for access in accesses]
        scattered = sum(distance not in (0, lanes - 1) for distance in distances)
        math = 0 if self._vector_math else sum(str(getattr(call.op, "name", "")) in _MATH for call in calls)
        return _Code(len(stores), scalars=lanes * (scattered + math))


def _in_a_row(parts: Sequence[_Code]) -> _Code:
    return _Code(
        sum(part.steps for part in parts),
        max(part.unrolled_depth for part in parts),
        any(part.has_loop for part in parts),
        sum(part.scalars for part in parts),
    )


def _offset(buffer: Any, indices: Sequence[Any], values: Mapping[Any, int]) -> int:
    """The position of an element in memory."""
    offset = 0
    for index, extent in zip(indices, buffer.ty.shape, strict=True):
        offset = offset * int(extent) + _value(index, values)
    return offset


def _value(index: Any, values: Mapping[Any, int]) -> int:
    """An index at a point; all that is not known there counts as 0."""
    match index:
        case tirx.IntImm():
            return int(index.value)
        case tirx.Add():
            return _value(index.a, values) + _value(index.b, values)
        case tirx.Sub():
            return _value(index.a, values) - _value(index.b, values)
        case tirx.Mul():
            return _value(index.a, values) * _value(index.b, values)
        case tirx.FloorDiv() if divisor := _value(index.b, values):
            return _value(index.a, values) // divisor
        case tirx.FloorMod() if divisor := _value(index.b, values):
            return _value(index.a, values) % divisor
    return values.get(index, 0) if isinstance(index, tirx.Var) else 0
