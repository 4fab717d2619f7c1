"""Small programs with the patterns that the rules look for, and some that only resemble them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import te, topi

from tests.workloads.operators import gated, gemm, program, tensor

Logit = Callable[..., Any]


def attention(
    heads: int = 2,
    shared_by: int = 1,
    dim: int = 16,
    tokens: int = 32,
    context: int = 32,
    causal: bool = False,
    masked: bool = False,
    kept: bool = False,
) -> tvm.tirx.PrimFunc:
    """softmax(Q K^T [+ mask]) V; with `kept` the scores are an output, too."""
    q, key = tensor("Q", heads, tokens, dim), tensor("K", heads // shared_by, context, dim)
    value, mask = tensor("V", heads // shared_by, context, dim), tensor("M", heads, tokens, context)
    d, m, s, k = (te.reduce_axis((0, n), x) for n, x in ((dim, "d"), (context, "m"), (context, "s"), (context, "k")))
    square = (heads, tokens, context)
    scores = te.compute(
        square, lambda h, i, j: te.sum(q[h, i, d] * key[te.indexdiv(h, shared_by), j, d], axis=d), name="scores"
    )

    def logit(h: Any, i: Any, j: Any) -> Any:
        if masked:
            return scores[h, i, j] + mask[h, i, j]
        if causal:
            return te.if_then_else(j <= i + (context - tokens), scores[h, i, j], te.const(-1e30, "float32"))
        return scores[h, i, j] * te.const(0.125, "float32")

    logits = te.compute(square, logit, name="logits")
    peak = te.compute(square[:2], lambda h, i: te.max(logits[h, i, m], axis=m), name="peak")
    weight = te.compute(square, lambda h, i, j: te.exp(logits[h, i, j] - peak[h, i]), name="weight")
    total = te.compute(square[:2], lambda h, i: te.sum(weight[h, i, s], axis=s), name="total")
    attend = te.compute(square, lambda h, i, j: weight[h, i, j] / total[h, i], name="attend")
    out = te.compute(
        (heads, tokens, dim),
        lambda h, i, e: te.sum(attend[h, i, k] * value[te.indexdiv(h, shared_by), k, e], axis=k),
        name="context",
    )
    return program(q, key, value, *([mask] if masked else []), *([scores] if kept else []), out)


def mlp(
    rows: int = 64, width: int = 32, hidden: int = 48, out: int = 32, normalized: bool = False
) -> tvm.tirx.PrimFunc:
    """tanh(X W1 + b) W2, of rows that are divided by their lengths if `normalized`."""
    x, up, bias, down = (
        tensor("X", rows, width),
        tensor("W1", width, hidden),
        tensor("B", hidden),
        tensor("W2", hidden, out),
    )
    a, k, f = te.reduce_axis((0, width), "a"), te.reduce_axis((0, width), "k"), te.reduce_axis((0, hidden), "f")
    given = x
    if normalized:
        squares = te.compute((rows,), lambda i: te.sum(x[i, a] * x[i, a], axis=a), name="squares")
        given = te.compute((rows, width), lambda i, j: x[i, j] / te.sqrt(squares[i] + 1e-5), name="given")
    first = te.compute((rows, hidden), lambda i, j: te.sum(given[i, k] * up[k, j], axis=k), name="first")
    active = te.compute((rows, hidden), lambda i, j: te.tanh(first[i, j] + bias[j]), name="active")
    second = te.compute((rows, out), lambda i, j: te.sum(active[i, f] * down[f, j], axis=f), name="second")
    return program(x, up, bias, down, second)


def product_and_more(reused: bool) -> tvm.tirx.PrimFunc:
    """relu(X W + b); if `reused`, a later block reads the product again."""
    x, w, b, k = tensor("X", 32, 64), tensor("W", 64, 48), tensor("B", 48), te.reduce_axis((0, 64), "k")
    product = te.compute((32, 48), lambda i, j: te.sum(x[i, k] * w[k, j], axis=k), name="product")
    out = te.compute((32, 48), lambda i, j: te.max(product[i, j] + b[j], te.const(0.0, "float32")), name="relu")
    if reused:
        out = te.compute((32, 48), lambda i, j: te.exp(out[i, j]) + product[i, j], name="reuse")
    return program(x, w, b, out)


def with_long_indices() -> tvm.tirx.PrimFunc:
    """A matrix product whose axes have 64 bits, as in kernels that TVM extracts from a model."""
    x, w, k = tensor("X", 32, 64), tensor("W", 64, 48), te.reduce_axis((0, 64), "k")
    product = te.compute((32, 48), lambda i, j: te.sum(x[i, k] * w[k, j], axis=k), name="product")
    return te.create_prim_func([x, w, product], index_dtype_override="int64")


def convolution(
    stride: int = 1, padding: int = 1, size: int = 3, image: int = 14, depthwise: bool = False
) -> tvm.tirx.PrimFunc:
    """A convolution and ReLU, NCHW."""
    x, w = tensor("X", 1, 8, image, image), tensor("W", 8 if depthwise else 16, 1 if depthwise else 8, size, size)
    convolve = topi.nn.depthwise_conv2d_nchw if depthwise else topi.nn.conv2d_nchw
    return program(x, w, topi.nn.relu(convolve(x, w, stride, padding, 1)))


FUSED: dict[str, Callable[[], tvm.tirx.PrimFunc]] = {
    "attention": attention,
    "causal, grouped queries": lambda: attention(heads=4, shared_by=2, tokens=32, context=64, causal=True),
    "mask of its own for each row": lambda: attention(tokens=48, masked=True),
    "14 rows": lambda: attention(heads=8, tokens=14, context=20),
    "odd context": lambda: attention(heads=4, tokens=16, context=35),
    "MLP": mlp,
    "normalized MLP": lambda: mlp(normalized=True),
    "normalized MLP, odd sizes": lambda: mlp(80, 20, 24, 36, normalized=True),
}
"""Chains that are computed row by row."""
TILED: dict[str, Callable[[], tvm.tirx.PrimFunc]] = {
    "attention of few rows": lambda: attention(heads=2, tokens=16),
    "scores are an output": lambda: attention(kept=True),
    "epilogue": lambda: product_and_more(reused=False),
    "product read twice": lambda: product_and_more(reused=True),
    "convolution": convolution,
    "stride 2": lambda: convolution(stride=2),
    "1x1": lambda: convolution(size=1, padding=0),
    "5x5": lambda: convolution(size=5, padding=2),
    "odd image": lambda: convolution(image=15),
    "depthwise": lambda: convolution(depthwise=True),
    "depthwise, stride 2": lambda: convolution(stride=2, depthwise=True),
    "depthwise 5x5": lambda: convolution(size=5, padding=2, image=28, depthwise=True),
    "transposed operand": lambda: gemm("float32", "float32", "float32", 30, 20, 50, turned=True),
    "many rows": lambda: gemm("float32", "float32", "float32", 64, 64, 64),
    "prime number of rows": lambda: gemm("float32", "float32", "float32", 17, 64, 128),
    "one row": lambda: gemm("float32", "float32", "float32", 1, 128, 64),
    "float16 in float32": lambda: gemm("float16", "float16", "float32"),
    "int8 in int32": lambda: gemm("int8", "int8", "int32"),
    "two products": gated,
    "indices of 64 bits": with_long_indices,
}
"""Contractions that get register tiles."""
NEITHER: dict[str, Callable[[], tvm.tirx.PrimFunc]] = {
    "softmax": lambda: program(x := tensor("X", 16, 64), topi.nn.softmax(x, -1)),
    "sum of rows": lambda: program(x := tensor("X", 32, 64), topi.sum(x, 1)),
    "three columns": lambda: gemm("float32", "float32", "float32", 16, 3, 16),
}
"""Programs that keep TVM's design spaces."""
