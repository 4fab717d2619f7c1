"""Inputs of a kernel that never change, such as weights: a schedule may choose their layout, and they are packed once.

TVM marks them with the attribute `CONSTANTS` of a function. Its postprocessor RewriteLayout then gives each the layout
in which a schedule reads it, and writes a block that packs it. `split` makes a function of its own of these blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import tvm
from tvm import relax

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.workload import CONSTANTS, Parameter, Workload, written

MAIN, PACK = "main", "pack"
"""Names of the functions of a module that was split."""
_KERNEL = "kernel"
_PACK, _KERNEL_PACKED = f"{_KERNEL}_weight_prepack", f"{_KERNEL}_prepacked"
"""Names that TVM gives to the parts of a function of this name."""


@dataclass(frozen=True)
class Split:
    """A scheduled kernel, and what packs its constant inputs."""

    module: tvm.IRModule
    """`MAIN`, and `PACK` if something is packed: it takes these inputs, then their packed forms, in the same order."""
    packed: tuple[tuple[int, Parameter], ...] = ()
    """For each input of `PACK` its position among the parameters of `MAIN`, and its packed form."""


def with_constants(workload: Workload, positions: Sequence[int]) -> Workload:
    """The workload whose inputs at these positions never change: another one, which says so in its program.

    Raises:
        ConfigError: a position is not that of an input, or is given twice.
    """
    inputs = ", ".join(f"{i} ({workload.parameters[i].name})" for i in workload.inputs_at)
    if wrong := [i for i in positions if i not in workload.inputs_at]:
        raise ConfigError(f"workload.constant={wrong} names no input of {workload.name}; its inputs are {inputs}")
    if len(set(positions)) < len(positions):
        raise ConfigError(f"workload.constant={list(positions)} names an input twice")
    return replace(workload, main=workload.main.with_attr(CONSTANTS, sorted(positions)))


def split(module: tvm.IRModule) -> Split:
    """A scheduled module in two functions: the kernel, with packed inputs, and what packs them.

    A module whose schedule packs nothing stays as it is.
    """
    main = module[MAIN]
    if CONSTANTS not in (main.attrs or {}):
        return Split(module)
    outputs = written(main)
    inputs = [i for i in range(len(main.params)) if i not in outputs]
    apart = relax.transform.SplitLayoutRewritePreproc()(_calling(main, inputs, outputs))
    if _PACK not in (var.name_hint for var in apart.functions):
        return Split(tvm.IRModule({MAIN: _called(main, MAIN).without_attr(CONSTANTS)}))
    pack, given = apart[_PACK], list(apart["main"].params)
    packed_inputs = next(call.args[1].fields for call in _calls(apart["main"]) if call.args[0].name_hint == _PACK)
    places = [inputs[given.index(var)] for var in packed_inputs]
    forms = pack.params[len(places) :]
    return Split(
        tvm.IRModule({MAIN: _called(apart[_KERNEL_PACKED], MAIN), PACK: _called(pack, PACK)}),
        tuple((place, Parameter.of(form)) for place, form in zip(places, forms, strict=True)),
    )


def _called(function: tvm.tirx.PrimFunc, name: str) -> tvm.tirx.PrimFunc:
    return function.with_attr("global_symbol", name)


def _calling(main: tvm.tirx.PrimFunc, inputs: Sequence[int], outputs: Sequence[int]) -> tvm.IRModule:
    """A model that calls the kernel once, with the model's own parameters."""
    builder = relax.BlockBuilder()
    types = [relax.TensorType([int(n) for n in p.ty.shape], str(p.ty.dtype)) for p in main.params]
    given = [relax.Var(f"p{i}", types[i]) for i in inputs]
    kernel = builder.add_func(_called(main, _KERNEL).with_attr("tirx.is_scheduled", True), _KERNEL)
    with builder.function("main", given):
        with builder.dataflow():
            results = [types[i] for i in outputs]
            out = builder.emit_output(relax.call_tir(kernel, given, results if len(results) > 1 else results[0]))
        builder.emit_func_output(out)
    return builder.get()


def _calls(main: relax.Function) -> list[relax.Call]:
    values = [binding.value for block in main.body.blocks for binding in block.bindings]
    return [value for value in values if isinstance(value, relax.Call) and isinstance(value.args[0], tvm.ir.GlobalVar)]
