"""The work done by the kernels of a scheduled CUDA module, read from its lowered statements; for estimate.py.

The module is lowered as far as TVM's per-store features lower it. Those features have one row per buffer and ignore
scopes and warps, so they cannot tell a coalesced load from a strided one; therefore each statement is read directly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from tvm import s_tir, sym, tirx

WARP = 32  # threads; CUDA C++ Programming Guide
SECTOR = 32  # bytes, unit of global transfers; CUDA C++ Best Practices Guide, coalesced access
BANKS = 32  # of shared memory, 4 bytes each per cycle; CUDA C++ Programming Guide
LINE = 128  # bytes; L1 looks up one line per cycle, so a warp whose threads read 32 rows takes 32: seen on an H200
COPIES = 4096  # of one statement in an unrolled body, up to which they are told apart
UNROLLED_STEPS = 256  # stores up to which nvcc unrolls a nest without a pragma: 256 yes, 512 no in its output
SPECIAL_LANES = 8  # slots of a division or exponential: 16 of 64 to 128 lanes have the unit, plus range reduction

_TAGS = {tirx.ForKind.VECTORIZED: "vector", tirx.ForKind.UNROLLED: "unrolled"}
_INTEGER = "Add add, Sub subtract, Mul multiply, FloorDiv floor_divide, FloorMod mod, Min minimum, Max maximum, LT less"
_LOGICAL = "LE less_equal, GT greater, GE greater_equal, EQ equal, NE not_equal, And logical_and, Or logical_or"
_OPERATORS: dict[type, Any] = {
    getattr(tirx, node): getattr(np, function)
    for node, function in (pair.split() for pair in f"{_INTEGER}, {_LOGICAL}".split(", "))
}


@dataclass(frozen=True, eq=False)
class Loop:
    var: Any
    extent: int
    tag: str
    """Thread axis, ``vector``, ``unrolled``, or "" for a serial loop."""
    stages: int
    """Versions of each shared buffer that the body fills: more than 1 if later iterations' loads run ahead."""
    unrolled: bool
    """Whether its body is replicated: virtual threads, vectors, and loops within the unroll limit."""

    @property
    def virtual(self) -> bool:
        return self.tag.startswith("vthread")


@dataclass(eq=False)
class Kernel:
    """The work of one launch, in program order."""

    launches: int
    axes: dict[str, Loop] = field(default_factory=dict)
    shared_bytes: int = 0
    local_bytes: dict[Any, int] = field(default_factory=dict)
    """Bytes of one thread per local buffer."""
    stores: list[tuple[Any, tuple[Loop, ...], tuple[Any, ...]]] = field(default_factory=list)
    """Store or all-reduce call, its loops from outer to inner, its predicates."""

    def extent(self, prefix: str) -> int:
        return math.prod(loop.extent for tag, loop in self.axes.items() if tag.startswith(prefix))


def lowered_kernels(module: tvm.IRModule, target: tvm.target.Target) -> list[Kernel]:
    """The kernels that the PrimFunc ``main`` of `module` launches, in program order.

    Raises:
        ValueError: a statement is not bound to threads.
    """
    s = s_tir.transform
    passes: tuple[Any, ...] = (s.LowerCrossThreadReduction, s.LowerInitBlock, s.PlanAndUpdateBufferAllocationLocation)
    passes += (s.ConvertBlocksToOpaque, s.CompactBufferAllocation, tirx.transform.StmtSimplify)
    passes += (s.UnifyThreadBinding, s.LowerMatchBuffer, tirx.transform.StmtSimplify)
    with target:
        lowered = tvm.transform.Sequential([make() for make in passes])(module)
    kernels: list[Kernel] = []
    _collect(lowered["main"].body, (), (), None, kernels)
    return kernels


def _collect(
    stmt: Any,
    loops: tuple[Loop, ...],
    where: tuple[Any, ...],
    kernel: Kernel | None,
    kernels: list[Kernel],
    limit: int = UNROLLED_STEPS,
) -> None:
    """Append the kernels below `stmt` to `kernels`, in program order."""
    if isinstance(stmt, tirx.For):
        tag = _tag(stmt)
        limit = max(limit, int(stmt.annotations.get("pragma_auto_unroll_max_step", 0)))
        pipeline = [int(stage) for stage in stmt.annotations.get("software_pipeline_stage", [0])]
        loop = Loop(
            stmt.loop_var,
            int(stmt.extent),
            tag,
            max(pipeline) - min(pipeline) + 1,
            bool(tag) or stmt.extent == 1 or _steps(stmt, limit, _vthreads(loops)) is not None,
        )
        if tag.startswith(("blockIdx", "threadIdx")):
            if kernel is None:
                kernel = Kernel(math.prod(outer.extent for outer in loops))
                kernels.append(kernel)
                loops = ()
            kernel.axes[tag] = loop
        _collect(stmt.body, (*loops, loop), where, kernel, kernels, limit)
    elif isinstance(stmt, tirx.SeqStmt):
        for part in stmt.seq:
            _collect(part, loops, where, kernel, kernels, limit)
    elif isinstance(stmt, tirx.IfThenElse):
        _collect(stmt.then_case, loops, (*where, stmt.condition), kernel, kernels, limit)
        if stmt.else_case is not None:
            _collect(stmt.else_case, loops, where, kernel, kernels, limit)
    elif isinstance(stmt, s_tir.SBlockRealize):
        for buffer in stmt.block.alloc_buffers if kernel else ():
            if buffer.scope().startswith("shared"):
                kernel.shared_bytes += math.prod(loop.stages for loop in loops) * buffer_bytes(buffer)  # type: ignore[union-attr]
            elif buffer.scope() == "local":
                kernel.local_bytes[buffer] = _vthreads(loops) * buffer_bytes(buffer)  # type: ignore[union-attr]
        _collect(stmt.block.body, loops, (*where, stmt.predicate), kernel, kernels, limit)
    elif isinstance(stmt, tirx.AttrStmt):
        _collect(stmt.body, loops, where, kernel, kernels, limit)
    elif isinstance(stmt, tirx.BufferStore) or isinstance(getattr(stmt, "value", None), tvm.ir.Call):
        if kernel is None:
            raise ValueError(f"no thread binding around this statement; schedule the module for CUDA first: {stmt}")
        kernel.stores.append((stmt, loops, where))
    elif not isinstance(stmt, tirx.Evaluate):  # of a constant: no work
        raise ValueError(f"no estimate for a statement of type {type(stmt).__name__}")


def _vthreads(loops: Sequence[Loop]) -> int:
    return math.prod(loop.extent for loop in loops if loop.virtual)


def _tag(stmt: Any) -> str:
    return str(stmt.thread_binding.thread_tag) if stmt.thread_binding is not None else _TAGS.get(stmt.kind, "")


def _steps(stmt: Any, limit: int, copies: int) -> int | None:
    """Stores in the unrolled body of `stmt`, as TVM's UnrollLoop counts them; None if some loop stays a loop.

    Args:
        copies: virtual threads around it. They replicate everything except what fills shared memory.
    """
    if isinstance(stmt, tirx.For):
        tag, extent = _tag(stmt), int(stmt.extent)
        if tag.startswith("vthread"):
            return _steps(stmt.body, limit, copies * extent)
        steps = _steps(stmt.body, limit, copies)
        if steps is None or extent == 1 or tag.startswith("threadIdx") or tag == "vector":
            return steps
        return steps * extent if tag or steps * extent <= limit else None
    if isinstance(stmt, tirx.SeqStmt):
        parts = [_steps(part, limit, copies) for part in stmt.seq]
        return None if None in parts else sum(part for part in parts if part is not None)
    if isinstance(stmt, tirx.IfThenElse):
        return _steps(stmt.then_case, limit, copies)
    if isinstance(stmt, s_tir.SBlockRealize):
        return _steps(stmt.block.body, limit, copies)
    if isinstance(stmt, tirx.AttrStmt):
        return _steps(stmt.body, limit, copies)
    return 1 if isinstance(stmt, tirx.BufferStore) and stmt.buffer.scope().startswith("shared") else copies


def unrolled(loops: Sequence[Loop]) -> set[Loop]:
    """The loops whose body is replicated."""
    return {loop for loop in loops if loop.unrolled}


def block_access(
    buffer: Any, indices: Sequence[Any], loops: Sequence[Loop], where: Sequence[Any], kernel: Kernel
) -> tuple[float, float, float]:
    """One access by all threads of the first block in the first iteration, representative of all.

    Adjacent copies of an access to shared memory become one instruction, as with nvcc, which knows its alignment.

    Returns:
        Instructions per thread, sectors per block, and the cycles for which they occupy L1 or shared memory.
    """
    thread = np.arange(kernel.extent("threadIdx"))[:, None]
    values: dict[Any, Any] = {}
    rest, size, shared = thread, int(buffer.dtype.itemsize), buffer.scope().startswith("shared")
    for tag, axis in sorted(kernel.axes.items()):  # threadIdx.x runs fastest
        if tag.startswith("threadIdx"):
            values |= {loop.var: rest % axis.extent for loop in loops if loop.tag == tag}
            rest = rest // axis.extent
    lanes: list[tuple[Loop | None, int]] = [(loop, loop.extent) for loop in loops if loop.tag == "vector"]
    if shared and not lanes:
        copied = unrolled(loops) & used(indices, loops)
        lanes = [(loop, n) for loop in loops if loop in copied and not loop.tag for n in (4, 2) if loop.extent % n == 0]
    for lane, width in [*lanes, (None, 1)]:
        of_lane = {lane.var: np.arange(width)[None, :]} if lane else {}
        flat = np.zeros((len(thread), width), np.int64)
        for index, extent in zip(indices, buffer.shape, strict=True):
            flat = flat * int(extent) + _value(index, values | of_lane)
        whole = width * size in (2, 4, 8, 16) and bool((np.diff(flat) == 1).all() and (flat[:, 0] % width == 0).all())
        if whole or (lane and lane.tag):
            break
    active = np.ones_like(flat, bool)
    for condition in where:
        active &= np.asarray(_value(condition, values | of_lane), bool)
    active |= not active.any()  # true in later iterations only
    group = thread // WARP + (0 if whole else np.arange(width) * len(thread))  # one group per instruction of a warp
    groups, group = np.unique(np.broadcast_to(group, flat.shape)[active], return_inverse=True)
    address = flat[active] * size
    sectors = np.unique(np.stack([group, address // SECTOR]), axis=1)[0]
    lines = np.unique(np.stack([group, address // LINE]), axis=1)[0]
    busy = np.bincount(lines)
    if shared:
        words = np.unique(np.stack([group, address // 4]), axis=1)
        banks = np.zeros((len(groups), BANKS))
        np.add.at(banks, (words[0], words[1] % BANKS), 1)
        busy = banks.max(axis=1)
    share = 1 if lane and lane.tag else width  # of this copy in the instruction
    return (1 if whole else width) / share, len(sectors) / share, float(busy.sum()) / share


def distinct(indices: Sequence[Any], loops: Sequence[Loop]) -> int:
    """Different elements that one thread accesses in all iterations of `loops`; equal loads of copies are one."""
    size = math.prod(loop.extent for loop in loops)
    if size > COPIES:
        return size
    values, rest = {}, np.arange(size)
    for loop in loops:
        values[loop.var] = rest % loop.extent
        rest = rest // loop.extent
    columns = [np.broadcast_to(_value(index, values), size) for index in indices]
    return len(np.unique(np.stack(columns), axis=1)[0]) if columns else 1


def _value(expr: Any, values: Mapping[Any, Any]) -> Any:
    """`expr` evaluated with `values` for variables; other variables and unknown operations are 0."""
    if type(expr) in _OPERATORS:
        return _OPERATORS[type(expr)](_value(expr.a, values), _value(expr.b, values))
    if isinstance(expr, tirx.Not):
        return np.logical_not(_value(expr.a, values))
    if isinstance(expr, tirx.Cast):
        return _value(expr.value, values)
    return int(expr.value) if isinstance(expr, tirx.IntImm) else values.get(expr, 0)


def nodes_of(expr: Any) -> Iterator[Any]:
    """`expr` and its subexpressions, except the indices and conditions of loads."""
    yield expr
    for name in ("a", "b", "value", "true_value", "false_value"):
        if isinstance(child := getattr(expr, name, None), tvm.ir.Expr):
            yield from nodes_of(child)
    for child in expr.args if isinstance(expr, tvm.ir.Call) else ():
        yield from nodes_of(child)


def slots(nodes: Sequence[Any]) -> int:
    """Lane slots of the floating-point operations; an addition and a multiplication fuse into one."""
    found = [n for n in nodes if "float" in str(n.ty)]
    sums, products = (sum(isinstance(n, kinds) for n in found) for kinds in ((tirx.Add, tirx.Sub), tirx.Mul))
    simple = sum(isinstance(n, (tirx.Max, tirx.Min, tirx.Select)) for n in found)
    special = sum(isinstance(n, (tirx.Div, tvm.ir.Call)) and not _is_choice(n) for n in found)
    return int(max(sums, products) + simple + SPECIAL_LANES * special)


def _is_choice(expr: Any) -> bool:
    return isinstance(expr, tvm.ir.Call) and expr.op.name == "tirx.if_then_else"


def used(indices: Sequence[Any], loops: Sequence[Loop]) -> set[Loop]:
    """The loops that the indices depend on."""
    variables = [n for index in indices for n in nodes_of(index) if isinstance(n, tirx.Var)]
    return {loop for loop in loops if any(loop.var.same_as(v) for v in variables)}


def box_of(indices: Sequence[Any], loops: Sequence[Loop], extents: Mapping[str, int]) -> Any:
    """Per dimension, (-low, high) of the index over all iterations; `extents` overrides the extents of thread axes."""
    analyzer = sym.Analyzer()
    for loop in loops:
        analyzer.bind(loop.var, tvm.ir.Range(0, extents.get(loop.tag, loop.extent)))
    bounds = [analyzer.const_int_bound(index) for index in indices]
    return np.array([(-bound.min_value, bound.max_value) for bound in bounds], np.int64).reshape(-1, 2)


def box_bytes(box: Any, buffer: Any) -> int:
    """Bytes of the box within the buffer, with contiguous runs rounded up to whole sectors."""
    run, rows, contiguous = int(buffer.dtype.itemsize), 1, True
    for (low, high), extent in zip(box[::-1].tolist(), reversed(buffer.shape), strict=True):
        length = max(1, min(high, int(extent) - 1) + min(low, 0) + 1)
        run, rows = (run * length, rows) if contiguous else (run, rows * length)
        contiguous = contiguous and length == int(extent)
    return min(buffer_bytes(buffer), rows * math.ceil(run / SECTOR) * SECTOR)


def buffer_bytes(buffer: Any) -> int:
    return math.prod(int(extent) for extent in buffer.shape) * int(buffer.dtype.itemsize)
