"""What a user's own kernel must be so that it can be tuned and its schedules checked."""

from __future__ import annotations

import math
from typing import Any

import tvm
import tvm_ffi
from tvm.ir.expr import Call, TensorLoad
from tvm.s_tir import SBlock
from tvm.tirx import AttrStmt, BufferStore, DeclBuffer, For

from colt_pipeline.errors import ConfigError
from colt_pipeline.traces import is_block_name
from colt_pipeline.workloads.data import FLOATS_IN, INTEGERS, TOLERANCES
from colt_pipeline.workloads.workload import written

_EXTERN = ("extern", "packed", "ffi_kernel", "call_llvm", "tvm_call", "call_kernel")
"""Parts of the names of operators that call what is not TIR."""
_EFFECT, _OPAQUE = "TCallEffectKind", 3
"""The attribute of operators that says what they do, and its value for those that may do anything."""
_IMPORT = "pragma_import"


def check(main: tvm.tirx.PrimFunc, name: str) -> None:
    """Check that a kernel can be tuned.

    Raises:
        ConfigError: it cannot; the message calls it `name` and says why, and what to do.
    """
    _check_parameters(main, name)
    _check_pure(main, name)
    _check_block_names(main, name)
    _check_not_aliased(main, name)
    outputs = written(main)
    if not outputs:
        raise ConfigError(
            f"{name} stores to none of its parameters ({', '.join(p.name for p in main.params) or 'it has none'}); "
            "outputs are parameters, too"
        )
    for position in outputs:
        dtype = str(main.params[position].ty.dtype)
        if dtype not in TOLERANCES and dtype not in INTEGERS:
            raise ConfigError(
                f"{name}: the output {main.params[position].name} is {dtype}; outputs may be "
                f"{', '.join((*TOLERANCES, *INTEGERS))}"
            )
    _check_not_in_place(main, name)


def caution(main: tvm.tirx.PrimFunc) -> str | None:
    """What to know before a kernel is tuned, if anything."""
    summed: list[Any] = []

    def block(node: Any) -> None:
        if node.init is not None:
            tvm_ffi.structural_walk(node.init, [(BufferStore, lambda store: summed.append(store.buffer))])

    tvm_ffi.structural_walk(main.body, [(SBlock, block)])
    if any(str(buffer.ty.dtype) == "bfloat16" for buffer in summed):
        return (
            "it accumulates in bfloat16, for which TVM 0.27 fails to build many schedules; accumulate in float32 and "
            "cast at the end"
        )
    return None


def _check_parameters(main: tvm.tirx.PrimFunc, name: str) -> None:
    for parameter in main.params:
        if not isinstance(parameter.ty, tvm.tirx.BufferType):
            raise ConfigError(
                f"{name}: the parameter {parameter.name} is not a buffer ({_shown(parameter.ty)}); make a constant of "
                'it, or a buffer of one element: T.Buffer((1,), "float32")'
            )
        dtype = str(parameter.ty.dtype)
        if dtype not in (*FLOATS_IN, *INTEGERS):
            raise ConfigError(
                f"{name}: the parameter {parameter.name} is {dtype}; use one of {', '.join((*FLOATS_IN, *INTEGERS))}"
            )
        open_sizes = [str(size) for size in parameter.ty.shape if not isinstance(size, tvm.tirx.IntImm)]
        if open_sizes:
            raise ConfigError(
                f"{name}: the sizes {', '.join(open_sizes)} of {parameter.name} are symbolic; bind them: "
                "workload.bind.NAME=128"
            )
        if len(parameter.ty.strides):
            raise ConfigError(
                f"{name}: the parameter {parameter.name} has strides; leave them out, arrays are contiguous here"
            )
        shape = [int(size) for size in parameter.ty.shape]
        if math.prod(shape) < 1:
            raise ConfigError(f"{name}: the parameter {parameter.name} has the shape {tuple(shape)} and no elements")


def _shown(ty: Any) -> str:
    return f"a scalar {ty.dtype}" if isinstance(ty, tvm.ir.PrimType) else "a pointer without T.match_buffer"


def _check_pure(main: tvm.tirx.PrimFunc, name: str) -> None:
    """Refuse what is not TIR: it hides what it reads and writes, and could do anything."""
    found: list[str] = []
    opaque: list[str] = []

    def call(node: Any) -> None:
        if not isinstance(node.op, tvm.ir.Op):
            found.append(f"a call of {getattr(node.op, 'name_hint', node.op)}")
        elif any(part in node.op.name for part in _EXTERN):
            found.append(node.op.name.removeprefix("tirx."))
        elif _is_opaque(node.op):
            opaque.append(node.op.name.removeprefix("tirx."))

    def keys(node: Any) -> None:
        found.extend(str(key) for key in node.annotations if str(key).startswith(_IMPORT))

    def attribute(node: Any) -> None:
        found.extend([node.attr_key] if node.attr_key.startswith(_IMPORT) else [])

    tvm_ffi.structural_walk(main.body, [(Call, call), (SBlock, keys), (For, keys), (AttrStmt, attribute)])
    if found := found or opaque:
        raise ConfigError(
            f"{name} has {', '.join(dict.fromkeys(found))}, which TVM cannot schedule and this project does not run; "
            "write that part in TIR (sort and topk have no such form)"
        )


def _check_block_names(main: tvm.tirx.PrimFunc, name: str) -> None:
    """Refuse names with which the traces of schedules could not be read again, nor be Python code in an export."""
    names: list[str] = []
    tvm_ffi.structural_walk(main.body, [(SBlock, lambda block: names.append(str(block.name_hint)))])
    if strange := [each for each in names if each and not is_block_name(each)]:
        raise ConfigError(
            f"{name} has a block named {strange[0][:60]!r}, which no schedule can name; use letters, digits, _ and ."
        )


def _is_opaque(op: Any) -> bool:
    return bool(op.has_attr(_EFFECT) and int(op.get_attr(_EFFECT)) == _OPAQUE)


def _check_not_aliased(main: tvm.tirx.PrimFunc, name: str) -> None:
    """Refuse a second name for a buffer's memory, through which a kernel could read or write it unnoticed."""
    found: list[str] = []

    def block(node: Any) -> None:
        found.extend(str(match.buffer.name) for match in node.match_buffers)

    def declared(node: Any) -> None:
        found.extend([str(node.buffer.name)] if node.data is not None else [])

    tvm_ffi.structural_walk(main.body, [(SBlock, block), (DeclBuffer, declared)])
    if found:
        raise ConfigError(
            f"{name}: {found[0]} is another name for the memory of a buffer (T.match_buffer within a block, or "
            "T.decl_buffer with data=), which TVM cannot schedule; use the buffer itself"
        )


def _check_not_in_place(main: tvm.tirx.PrimFunc, name: str) -> None:
    """Refuse a parameter that is read before it is written: timing repeats a kernel, which changes its own input."""
    begun: list[Any] = []
    early: list[Any] = []

    def load(node: Any) -> None:
        if not any(node.source.same_as(buffer) for buffer in begun):
            early.append(node.source)

    # TVM visits what a statement consists of first, and initializations before reductions.
    tvm_ffi.structural_walk(main.body, [(TensorLoad, load), (BufferStore, lambda node: begun.append(node.buffer))])
    for position in written(main):
        parameter = main.params[position]
        if any(parameter.same_as(buffer) for buffer in early):
            raise ConfigError(
                f"{name} reads its output {parameter.name} before it writes it: it works in place, and every run would "
                "change its own input; write the result to a parameter of its own"
            )
