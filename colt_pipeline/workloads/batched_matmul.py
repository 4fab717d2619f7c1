"""Batched matrix products with a transposed second operand. Not in the paper.

The default shape is that of the attention scores Q K^T of BERT-base: 12 heads of 64, 128 tokens (public config).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tvm import te

from colt_pipeline.workloads.workload import Workload, in_float64


def batched_matmul_nt(name: str, batch: int, tokens: int, inner: int, outer: int) -> Workload:
    """C[b, i, j] = sum_k A[b, i, k] * B[b, j, k]."""
    a = te.placeholder((batch, tokens, inner), name="A")
    b = te.placeholder((batch, outer, inner), name="B")
    k = te.reduce_axis((0, inner), name="k")
    c = te.compute((batch, tokens, outer), lambda n, i, j: te.sum(a[n, i, k] * b[n, j, k], axis=k), name="matmul_nt")

    def reference(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(a @ b.transpose(0, 2, 1))

    return Workload(
        name=name,
        shape={"batch": batch, "tokens": tokens, "inner": inner, "outer": outer},
        main=te.create_prim_func([a, b, c]),
        reference=in_float64(reference),
        flop=2 * batch * tokens * inner * outer,
        rtols=(1e-4,),
    )
