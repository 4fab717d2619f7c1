"""What a program computes by itself: the reference for programs without one in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tvm
import tvm_ffi
from tvm.s_tir import SBlock, Schedule

from colt_pipeline.workloads.data import unwritten
from colt_pipeline.workloads.workload import Array, written

_REDUCTION, _SPATIAL = 2, 0
"""TVM's codes of iteration variables."""


def computed(main: tvm.tirx.PrimFunc, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of a program, built by TVM without a schedule.

    Only loops of reductions move, out of the innermost spatial loop of their block: otherwise a matrix product would
    traverse a matrix by columns, which takes minutes. Every element is still summed in the program's order.

    Args:
        main: the program.
        inputs: in parameter order.
    """
    outputs = written(main)
    kernel = tvm.compile(_interchanged(main), target=tvm.target.Target({"kind": "llvm"}))
    given = iter(inputs)
    arguments = [
        tvm.runtime.tensor(
            unwritten([int(n) for n in p.ty.shape], str(p.ty.dtype)) if i in outputs else next(given), tvm.cpu()
        )
        for i, p in enumerate(main.params)
    ]
    kernel.mod["main"](*arguments)
    return [arguments[i].numpy() for i in outputs]


def _interchanged(main: tvm.tirx.PrimFunc) -> tvm.IRModule:
    # Held until the end: a schedule of a module that nobody else holds changes `main` itself.
    module = tvm.IRModule({"main": main.with_attr("global_symbol", "main")})
    schedule = Schedule(module, debug_mask="none")
    names: list[str] = []
    tvm_ffi.structural_walk(main.body, [(SBlock, lambda block: names.append(block.name_hint))])
    if "root" not in names:
        return schedule.mod
    for block in schedule.get_child_blocks(schedule.get_sblock("root")):
        loops, kinds = schedule.get_loops(block), [int(v.iter_type) for v in schedule.get(block).iter_vars]
        if len(loops) != len(kinds):
            continue
        spatial = _of_kind(loops, kinds, _SPATIAL)
        reductions = _of_kind(loops, kinds, _REDUCTION)
        if spatial and reductions:
            try:
                schedule.reorder(*reductions, spatial[-1])
            except tvm.s_tir.ScheduleError:  # correct as it is, only slow
                continue
    return schedule.mod


def _of_kind(loops: Sequence[Any], kinds: Sequence[int], kind: int) -> list[Any]:
    return [loop for loop, k in zip(loops, kinds, strict=True) if k == kind]
