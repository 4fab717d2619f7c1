"""What a model computes as it is: the reference for models without a framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

from colt_pipeline.workloads.workload import Array


def run_unscheduled(module: tvm.IRModule, arguments: Sequence[Array]) -> list[Array]:
    """The outputs of ``main``, compiled by TVM without a schedule."""
    compiled = tvm.compile(module, target=tvm.target.Target({"kind": "llvm"}))
    main = relax.VirtualMachine(compiled, tvm.cpu())["main"]
    return [np.asarray(x.numpy()) for x in flat(main(*(tvm.runtime.tensor(x, tvm.cpu()) for x in arguments)))]


def flat(outputs: Any) -> list[tvm.runtime.Tensor]:
    """The tensors among the outputs of a model, in order."""
    if isinstance(outputs, tvm.runtime.Tensor):
        return [outputs]
    return [tensor for part in outputs for tensor in flat(part)]
