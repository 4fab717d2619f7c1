"""Matrix product with ReLU; its float16 weights are summed in float32."""

# mypy: ignore-errors
from tvm.script import tirx as T


@T.prim_func(s_tir=True)
def gemm_relu(
    A: T.Buffer((16, 32), "float32"), W: T.Buffer((32, 24), "float16"), C: T.Buffer((16, 24), "float32")
) -> None:
    Y = T.sblock_alloc_buffer((16, 24), "float32")
    for i, j, k in T.grid(16, 24, 32):
        with T.sblock("Y"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                Y[vi, vj] = T.float32(0)
            Y[vi, vj] = Y[vi, vj] + A[vi, vk] * T.Cast("float32", W[vk, vj])
    for i, j in T.grid(16, 24):
        with T.sblock("C"):
            vi, vj = T.axis.remap("SS", [i, j])
            C[vi, vj] = T.max(Y[vi, vj], T.float32(0))
