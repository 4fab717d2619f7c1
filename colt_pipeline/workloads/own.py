"""A user's own kernel as a workload."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tvm
from tvm.s_tir.analysis import estimate_tir_flops

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.checks import check
from colt_pipeline.workloads.data import is_float, tolerance
from colt_pipeline.workloads.reference import computed
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
    check(main, name)
    parameters = [main.params[i] for i in written(main)]
    flop = int(estimate_tir_flops(tvm.IRModule({"main": main})))

    def reference(*inputs: Array) -> list[Array]:
        found = computed(main, inputs)
        for parameter, out in zip(parameters, found, strict=True):
            if is_float(str(parameter.ty.dtype)) and not np.isfinite(out.astype(np.float64)).all():
                raise ConfigError(
                    f"{name}: unscheduled, it leaves NaN or infinity in {parameter.name}, so that no schedule can be "
                    "checked: it leaves elements unwritten, or these inputs do not suit it; workload.inputs=FILE.npz "
                    "gives your own"
                )
        return found

    rtols = tuple(tolerance(str(p.ty.dtype)) for p in parameters)
    return Workload(name, dict(shape), main, reference, flop, rtols, True, inputs_file)
