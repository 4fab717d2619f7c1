"""RMSNorm and a gated MLP in one kernel: float16 activations and weights, sums in float32."""

from tvm.script import tirx as T

TOKENS, HIDDEN, INNER = 16, 512, 1408


@T.prim_func(s_tir=True)
def gated_mlp(
    X: T.Buffer((TOKENS, HIDDEN), "float16"),
    G: T.Buffer((HIDDEN,), "float16"),
    W1: T.Buffer((HIDDEN, INNER), "float16"),
    W3: T.Buffer((HIDDEN, INNER), "float16"),
    W2: T.Buffer((INNER, HIDDEN), "float16"),
    Y: T.Buffer((TOKENS, HIDDEN), "float16"),
):
    T.func_attr({"tirx.noalias": True})
    squares = T.sblock_alloc_buffer((TOKENS,), "float32")
    normed = T.sblock_alloc_buffer((TOKENS, HIDDEN), "float32")
    gate = T.sblock_alloc_buffer((TOKENS, INNER), "float32")
    up = T.sblock_alloc_buffer((TOKENS, INNER), "float32")
    act = T.sblock_alloc_buffer((TOKENS, INNER), "float32")
    out = T.sblock_alloc_buffer((TOKENS, HIDDEN), "float32")
    for i, k in T.grid(TOKENS, HIDDEN):
        with T.sblock("squares"):
            vi, vk = T.axis.remap("SR", [i, k])
            with T.init():
                squares[vi] = T.float32(0)
            squares[vi] = squares[vi] + T.Cast("float32", X[vi, vk]) * T.Cast("float32", X[vi, vk])
    for i, k in T.grid(TOKENS, HIDDEN):
        with T.sblock("normed"):
            vi, vk = T.axis.remap("SS", [i, k])
            normed[vi, vk] = (
                T.Cast("float32", X[vi, vk])
                * T.rsqrt(squares[vi] / T.float32(HIDDEN) + T.float32(1e-5))
                * T.Cast("float32", G[vk])
            )
    for i, j, k in T.grid(TOKENS, INNER, HIDDEN):
        with T.sblock("gate"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                gate[vi, vj] = T.float32(0)
            gate[vi, vj] = gate[vi, vj] + normed[vi, vk] * T.Cast("float32", W1[vk, vj])
    for i, j, k in T.grid(TOKENS, INNER, HIDDEN):
        with T.sblock("up"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                up[vi, vj] = T.float32(0)
            up[vi, vj] = up[vi, vj] + normed[vi, vk] * T.Cast("float32", W3[vk, vj])
    for i, j in T.grid(TOKENS, INNER):
        with T.sblock("act"):
            vi, vj = T.axis.remap("SS", [i, j])
            act[vi, vj] = gate[vi, vj] * T.sigmoid(gate[vi, vj]) * up[vi, vj]
    for i, j, k in T.grid(TOKENS, HIDDEN, INNER):
        with T.sblock("out"):
            vi, vj, vk = T.axis.remap("SSR", [i, j, k])
            with T.init():
                out[vi, vj] = T.float32(0)
            out[vi, vj] = out[vi, vj] + act[vi, vk] * T.Cast("float32", W2[vk, vj])
    for i, j in T.grid(TOKENS, HIDDEN):
        with T.sblock("Y"):
            vi, vj = T.axis.remap("SS", [i, j])
            Y[vi, vj] = T.Cast("float16", out[vi, vj])
