"""Kernels that really misbehave, for tests and the fault table; all have the parameters of `workload()`."""

from __future__ import annotations

from collections.abc import Callable

import tvm
from tvm import te

from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.workload import Workload

SHAPE = {"batch": 1, "tokens": 4, "inner": 32, "outer": 16}


def workload() -> Workload:
    """A matrix product (1, 4, 32) x (32, 16), which faulty kernels can replace."""
    return build("deepseek_r1_moe", SHAPE)


def _kernel(compute: Callable[[te.Tensor, te.Tensor], te.Tensor]) -> tvm.IRModule:
    a, b = te.placeholder((1, 4, 32), name="A"), te.placeholder((32, 16), name="B")
    main = te.create_prim_func([a, b, compute(a, b)]).with_attr("global_symbol", "main")
    return tvm.IRModule({"main": main})


def scaled(factor: float) -> tvm.IRModule:
    """The workload's product times a factor: wrong unless it is 1."""
    k = te.reduce_axis((0, 32), name="k")
    return _kernel(
        lambda a, b: te.compute(
            (1, 4, 16), lambda n, i, j: te.sum(a[n, i, k] * b[k, j] * te.const(factor, "float32"), axis=k)
        )
    )


def out_of_bounds() -> tvm.IRModule:
    """Writes 6 GB beyond the end of the output."""
    module = _kernel(lambda a, b: te.compute((1, 4, 16), lambda n, i, j: a[n, i, j] + b[i, j], name="C"))
    text = str(module.script()).replace("C[v_n, v_i, v_j] =", "C[v_n, v_i + 100000000, v_j] =")
    return tvm.script.from_source(text)


def endless() -> tvm.IRModule:
    """A loop of about a century."""
    k, m = te.reduce_axis((0, 2**31 - 1), name="k"), te.reduce_axis((0, 64), name="m")
    return _kernel(
        lambda a, b: te.compute(
            (1, 4, 16), lambda n, i, j: te.sum(te.sin(a[n, i, k % 32] * b[(k + m) % 32, j]), axis=[k, m])
        )
    )


def hungry(buffers: int = 13) -> tvm.IRModule:
    """Allocates and fills 8 GB per buffer, 104 GB by default."""

    def compute(a: te.Tensor, b: te.Tensor) -> te.Tensor:
        big = [
            te.compute((2_000_000, 1000), lambda i, j: a[0, i % 4, j % 32] + b[j % 32, i % 16], name=f"big{n}")
            for n in range(buffers)
        ]
        return te.compute((1, 4, 16), lambda n, i, j: sum((x[i, j] for x in big), a[n, i, j]), name="C")

    return _kernel(compute)


def unlinked() -> tvm.IRModule:
    """Calls a function that does not exist."""
    return _kernel(
        lambda a, b: te.compute(
            (1, 4, 16), lambda n, i, j: tvm.tirx.call_extern("float32", "no_such_function", a[n, i, j] + b[i, j])
        )
    )
