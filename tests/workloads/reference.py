"""Compares what a compiled workload computes with its reference."""

import numpy as np
import tvm

from colt_pipeline.workloads.workload import Workload


def relative_error(workload: Workload) -> float:
    """How far the result of the unoptimized program is from the reference."""
    kernel = tvm.compile(workload.module, target=tvm.target.Target({"kind": "llvm"})).mod
    inputs = workload.inputs()
    out = tvm.runtime.tensor(np.full(workload.parameters[-1].shape, np.nan, "float32"), tvm.cpu())
    kernel["main"](*(tvm.runtime.tensor(x, tvm.cpu()) for x in inputs), out)
    (expected,) = workload.expected(inputs)
    return float(np.abs(out.numpy() - expected).max() / np.abs(expected).max())
