"""Integer inputs that a program uses as indices: random ones must stay within what they index."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import sym
from tvm.ir.expr import TensorLoad
from tvm.s_tir import SBlock
from tvm.tirx import BufferStore, For

_BIND = tvm.tirx.Bind
_UNBOUNDED = 1 << 31
"""Bounds beyond it are those of a type, or none."""


def index_limits(main: tvm.tirx.PrimFunc) -> dict[int, int]:
    """Position of each parameter that indexes something -> a number that all its values must be below.

    A value may reach an index through casts, arithmetic and the program's own integer buffers.
    """
    return _Accesses(main).limits()


class _Accesses:
    """Where a program loads and stores, and what its variables stand for."""

    def __init__(self, main: tvm.tirx.PrimFunc) -> None:
        self._main = main
        self._ranges: dict[Any, Any] = {}
        self._values: dict[Any, Any] = {}
        self._indexed: list[tuple[Any, Any]] = []
        """Index, extent of the dimension."""
        self._stored: dict[Any, list[Any]] = {}
        """Buffer -> what is stored in it."""
        tvm_ffi.structural_walk(
            main.body,
            [(TensorLoad, self._load), (BufferStore, self._store), (SBlock, self._block), (For, self._loop)]
            + [(_BIND, self._bind)],
        )

    def _load(self, node: Any) -> None:
        self._indexed += zip(node.indices, node.source.ty.shape, strict=True)

    def _store(self, node: Any) -> None:
        self._indexed += zip(node.indices, node.buffer.ty.shape, strict=True)
        self._stored.setdefault(node.buffer, []).append(node.value)

    def _block(self, node: Any) -> None:
        self._ranges.update({v.var: v.dom for v in node.iter_vars})

    def _loop(self, node: Any) -> None:
        self._ranges[node.loop_var] = tvm.ir.Range.from_min_extent(node.min, node.extent)

    def _bind(self, node: Any) -> None:
        self._values[node.var] = node.value

    def limits(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for index, extent in self._indexed:
            loads = self._loads(index)
            if not loads or not isinstance(extent, tvm.tirx.IntImm):
                continue
            limit = self._limit(index, int(extent))
            for buffer in self._sources(loads):
                for position, parameter in enumerate(self._main.params):
                    if parameter.same_as(buffer):
                        found[position] = min(limit, found.get(position, limit))
        return found

    def _loads(self, expression: Any) -> list[Any]:
        """The buffers that an expression reads, also through variables."""
        loads: list[Any] = []

        def variable(var: Any) -> None:
            if var in self._values:
                loads.extend(self._loads(self._values[var]))

        tvm_ffi.structural_walk(
            expression, [(TensorLoad, lambda n: loads.append(n.source)), (tvm.ir.expr.Var, variable)]
        )
        return loads

    def _sources(self, buffers: list[Any]) -> list[Any]:
        """These buffers, and those that their values come from."""
        waiting = list(buffers)
        found: list[Any] = []
        while waiting:
            buffer = waiting.pop()
            if not any(buffer.same_as(other) for other in found):
                found.append(buffer)
                for value in self._stored.get(buffer, ()):
                    waiting += self._loads(value)
        return found

    def _limit(self, index: Any, extent: int) -> int:
        """The largest power-of-two fraction of `extent` below which loaded values keep `index` within it."""
        limit = extent
        while limit > 1 and not self._fits(index, extent, limit):
            limit //= 2
        return limit

    def _fits(self, index: Any, extent: int, limit: int) -> bool:
        bound = self._bound(index, limit, ())
        return bool(bound.min_value >= 0 and bound.max_value < extent)

    def _bound(self, expression: Any, limit: int, within: tuple[Any, ...]) -> Any:
        """Where an expression lies if the values of all parameters lie between 0 and `limit`.

        Args:
            expression: an index, or what is stored in a buffer that it reads.
            limit: what all values of parameters are below.
            within: the buffers whose values are being bounded; what they accumulate is taken for a parameter's.
        """
        analyzer = sym.Analyzer()
        for var, domain in self._ranges.items():
            analyzer.bind(var, domain)

        def value(var: Any) -> Any:
            known = self._values.get(var)
            return var if known is None else tvm_ffi.structural_map(known, [(tvm.ir.expr.Var, value)])

        def loaded(node: Any) -> Any:
            fresh = tvm.tirx.Var("loaded", str(node.ty.dtype))
            low, high = 0, limit - 1
            if not any(node.source.same_as(buffer) for buffer in within):
                stored = self._stored.get(node.source, ())
                bounds = [self._bound(each, limit, (*within, node.source)) for each in stored]
                low = min((int(bound.min_value) for bound in bounds), default=low)
                high = max((int(bound.max_value) for bound in bounds), default=high)
            if max(-low, high) < _UNBOUNDED:
                analyzer.bind(fresh, tvm.ir.Range.from_min_extent(low, high - low + 1))
            return fresh

        opened = tvm_ffi.structural_map(expression, [(tvm.ir.expr.Var, value)])
        closed = tvm_ffi.structural_map(opened, [(TensorLoad, loaded)])
        return analyzer.const_int_bound(analyzer.rewrite_simplify(closed))
