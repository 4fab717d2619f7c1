"""A user's own kernel as a workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import tvm
from tvm.s_tir.analysis import estimate_tir_flops

from colt_pipeline.workloads.data import tolerance, unwritten
from colt_pipeline.workloads.workload import Array, Workload, written


def of_program(
    name: str, main: tvm.tirx.PrimFunc, shape: Mapping[str, int], inputs_file: Path | None = None
) -> Workload:
    """A workload whose reference is the program itself, unscheduled.

    Args:
        name: what to call it.
        main: the program, all of whose sizes are known.
        shape: the sizes that were bound.
        inputs_file: the user's own inputs.

    Raises:
        ConfigError: the program cannot be tuned or checked; the message says why, and what to do.
    """
    outputs = written(main)
    flop = int(estimate_tir_flops(tvm.IRModule({"main": main})))

    def reference(*inputs: Array) -> list[Array]:
        return _computed(main, outputs, inputs)

    rtols = tuple(tolerance(str(main.params[i].ty.dtype)) for i in outputs)
    return Workload(name, dict(shape), main, reference, flop, rtols, True, inputs_file)


def _computed(main: tvm.tirx.PrimFunc, outputs: Sequence[int], inputs: Sequence[Array]) -> list[Array]:
    module = tvm.IRModule({"main": main.with_attr("global_symbol", "main")})
    kernel = tvm.compile(module, target=tvm.target.Target({"kind": "llvm"}))
    given = iter(inputs)
    arguments = [
        tvm.runtime.tensor(
            unwritten([int(n) for n in p.ty.shape], str(p.ty.dtype)) if i in outputs else next(given), tvm.cpu()
        )
        for i, p in enumerate(main.params)
    ]
    kernel.mod["main"](*arguments)
    return [arguments[i].numpy() for i in outputs]
