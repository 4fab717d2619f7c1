"""Dense projections: activations (batch, tokens, inner) times weights (inner, outer).

Llama-3-8B attention: hidden size 4096 (Llama-3-8B public config), the projection shown in the paper's prompt (appendix
B). DeepSeek-R1 MoE: hidden 7168, expert intermediate 2048 (DeepSeek-V3 technical report). Llama-4-Scout MLP: hidden
5120, expert intermediate 8192 (Llama 4 public config). The paper does not state the last two shapes; that "the layer"
is the up-projection of one expert is an assumption.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tvm import te

from colt_pipeline.workloads.workload import Workload, in_float64


def projection(name: str, batch: int, tokens: int, inner: int, outer: int) -> Workload:
    """C[b, i, j] = sum_k A[b, i, k] * B[k, j]."""
    a = te.placeholder((batch, tokens, inner), name="A")
    b = te.placeholder((inner, outer), name="B")
    k = te.reduce_axis((0, inner), name="k")
    c = te.compute((batch, tokens, outer), lambda n, i, j: te.sum(a[n, i, k] * b[k, j], axis=k), name="matmul")

    def reference(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(a @ b)

    return Workload(
        name=name,
        shape={"batch": batch, "tokens": tokens, "inner": inner, "outer": outer},
        main=te.create_prim_func([a, b, c]),
        reference=in_float64(reference),
        flop=2 * batch * tokens * inner * outer,
        rtols=(1e-4,),
    )
