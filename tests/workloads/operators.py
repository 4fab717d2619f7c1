"""Operators as TVM's tensor expressions, and what they compute in NumPy where that takes one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import te, topi

from colt_pipeline.workloads.workload import Array

Make = Callable[[], tvm.tirx.PrimFunc]


def program(*tensors: Any) -> tvm.tirx.PrimFunc:
    return te.create_prim_func(list(tensors))


def tensor(name: str, *shape: int, dtype: str = "float32") -> Any:
    return te.placeholder(shape, dtype, name)


def gemm(
    left: str, right: str, summed: str, m: int = 32, n: int = 32, k: int = 32, turned: bool = False
) -> tvm.tirx.PrimFunc:
    """A matrix product; `turned`: of the transposed right matrix."""
    a, b = tensor("A", m, k, dtype=left), tensor("B", *((n, k) if turned else (k, n)), dtype=right)
    r = te.reduce_axis((0, k), "r")
    product = te.compute(
        (m, n),
        lambda i, j: te.sum(a[i, r].astype(summed) * (b[j, r] if turned else b[r, j]).astype(summed), axis=r),
        name="matmul",
    )
    return program(a, b, product)


def packed() -> tvm.tirx.PrimFunc:
    """A product of bytes in the layout that TVM's intrinsics for AVX-512 and VNNI are made for."""
    a, b, r = tensor("A", 16, 64, dtype="uint8"), tensor("B", 2, 16, 16, 4, dtype="int8"), te.reduce_axis((0, 64), "r")
    product = te.compute(
        (16, 32),
        lambda i, j: te.sum(a[i, r].astype("int32") * b[j // 16, r // 4, j % 16, r % 4].astype("int32"), axis=r),
        name="matmul",
    )
    return program(a, b, product)


def over(operator: Callable[..., Any], *shapes: tuple[int, ...]) -> Make:
    """A program that applies `operator` to float32 tensors of these shapes."""

    def make() -> tvm.tirx.PrimFunc:
        inputs = [tensor(name, *shape) for name, shape in zip("xyz", shapes, strict=False)]
        return program(*inputs, operator(*inputs))

    return make


def gelu_of_product() -> tvm.tirx.PrimFunc:
    a, b, r = tensor("A", 32, 32), tensor("B", 32, 32), te.reduce_axis((0, 32), "r")
    c = te.compute((32, 32), lambda i, j: te.sum(a[i, r] * b[r, j], axis=r), name="matmul")
    gelu = te.compute((32, 32), lambda i, j: c[i, j] * 0.5 * (1 + tvm.tirx.erf(c[i, j] * 0.70710678)), name="gelu")
    return program(a, b, gelu)


def attention() -> tvm.tirx.PrimFunc:
    q, k, v = (tensor(name, 2, 16, 8) for name in "qkv")
    weights = topi.nn.softmax(topi.nn.batch_matmul(q, k, transpose_b=True), -1)
    return program(q, k, v, topi.nn.batch_matmul(weights, v, transpose_b=False))


def triangular_sum() -> tvm.tirx.PrimFunc:
    x, k = tensor("x", 8, 32), te.reduce_axis((0, 32), "k")
    total = te.compute((8, 32), lambda i, j: te.sum(te.if_then_else(k <= j, x[i, k], 0.0), axis=k), name="cumsum")
    return program(x, total)


def sum_and_maximum() -> tvm.tirx.PrimFunc:
    x = tensor("x", 32, 64)
    return program(x, topi.sum(x, 1), topi.max(x, 1))


def taken(dtype: str, *shape: int) -> Make:
    """Rows of a table of 20 by their numbers."""

    def make() -> tvm.tirx.PrimFunc:
        x, i = tensor("x", 20, 8), tensor("i", *shape, dtype=dtype)
        return program(x, i, topi.take(x, i, 0))

    return make


def taken_in_steps() -> tvm.tirx.PrimFunc:
    """Every third row of a table of 20, by numbers that the program computes first."""
    x, i = tensor("x", 20, 8), tensor("i", 200, dtype="int32")
    rows = te.compute((200,), lambda n: i[n] * 3, name="rows")
    return program(x, i, te.compute((200, 8), lambda n, c: x[rows[n], c], name="out"))


def scattered() -> tvm.tirx.PrimFunc:
    x, i, u = tensor("x", 64), tensor("i", 16, dtype="int32"), tensor("u", 16)
    return program(x, i, u, topi.scatter_elements(x, i, u, 0, "add"))


def masked() -> tvm.tirx.PrimFunc:
    x, m = tensor("x", 16, 16), tensor("m", 16, 16, dtype="bool")
    return program(x, m, te.compute((16, 16), lambda i, j: te.if_then_else(m[i, j], x[i, j], 0.0)))


def product(summed: str) -> Callable[..., list[Array]]:
    return lambda a, b: [a.astype(summed) @ b.astype(summed)]


def softmax(x: Array) -> Array:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def normalized(x: Array) -> Array:
    return np.asarray((x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5))


def gated() -> tvm.tirx.PrimFunc:
    """silu(X Y) * (X Z)."""
    x, y, z = te.placeholder((16, 64), name="x"), te.placeholder((64, 32), name="y"), te.placeholder((64, 32), name="z")
    k, m = te.reduce_axis((0, 64), "k"), te.reduce_axis((0, 64), "m")
    gate = te.compute((16, 32), lambda i, j: te.sum(x[i, k] * y[k, j], axis=k), name="gate")
    up = te.compute((16, 32), lambda i, j: te.sum(x[i, m] * z[m, j], axis=m), name="up")
    out = te.compute((16, 32), lambda i, j: gate[i, j] * tvm.tirx.sigmoid(gate[i, j]) * up[i, j], name="out")
    return te.create_prim_func([x, y, z, out])


TUNABLE: dict[str, tuple[Make, Callable[..., list[Array]] | None]] = {
    "float32": (lambda: gemm("float32", "float32", "float32"), product("float32")),
    "float64": (lambda: gemm("float64", "float64", "float64"), product("float64")),
    "float16": (lambda: gemm("float16", "float16", "float16"), product("float32")),
    "float16 in float32": (lambda: gemm("float16", "float16", "float32"), product("float32")),
    "float16 weights": (lambda: gemm("float32", "float16", "float32"), product("float32")),
    "bfloat16 in float32": (lambda: gemm("bfloat16", "bfloat16", "float32"), product("float32")),
    # TVM reads subnormal numbers of this type as other values than ml_dtypes does.
    "float8 in float32": (lambda: gemm("float8_e4m3fn", "float8_e4m3fn", "float32"), None),
    "int8 in int32": (lambda: gemm("int8", "int8", "int32"), product("int32")),
    "uint8 x int8 in int32": (lambda: gemm("uint8", "int8", "int32"), product("int32")),
    "transposed weights": (lambda: gemm("float32", "float32", "float32", turned=True), lambda a, b: [a @ b.T]),
    "prime sizes": (lambda: gemm("float32", "float32", "float32", 31, 29, 37), product("float32")),
    "matrix x vector": (lambda: gemm("float32", "float32", "float32", 1, 128, 64), product("float32")),
    "conv2d NCHW, stride 2": (
        over(lambda x, y: topi.nn.conv2d_nchw(x, y, 2, 1, 1), (1, 8, 12, 12), (8, 8, 3, 3)),
        None,
    ),
    "conv2d NHWC, stride 2": (
        over(lambda x, y: topi.nn.conv2d_nhwc(x, y, 2, 1, 1), (1, 12, 12, 8), (3, 3, 8, 8)),
        None,
    ),
    "depthwise conv2d": (
        over(lambda x, y: topi.nn.depthwise_conv2d_nchw(x, y, 1, 1, 1), (1, 8, 12, 12), (8, 1, 3, 3)),
        None,
    ),
    "transposed conv2d": (
        over(
            lambda x, y: topi.nn.conv2d_transpose_nchw(x, y, (2, 2), (1, 1), "float32", (0, 0)),
            *((1, 8, 6, 6), (8, 4, 4, 4)),
        ),
        None,
    ),
    # With its usual rules TVM gives up on a block that consumes two products.
    "silu(gate) x up": (gated, lambda x, y, z: [(x @ y) / (1 + np.exp(-(x @ y))) * (x @ z)]),
    "softmax": (over(lambda x: topi.nn.softmax(x, -1), (16, 64)), lambda x: [softmax(x)]),
    "layer norm": (
        over(lambda x, y, z: topi.nn.layer_norm(x, y, z, [1], 1e-5), (32, 64), (64,), (64,)),
        lambda x, y, z: [normalized(x) * y + z],
    ),
    "RMS norm": (
        over(lambda x, y: topi.nn.rms_norm(x, y, [1], 1e-5), (32, 64), (64,)),
        lambda x, y: [x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-5) * y],
    ),
    "GELU of a product": (gelu_of_product, None),
    "sum of rows": (over(lambda x: topi.sum(x, 1), (32, 64)), lambda x: [x.sum(1)]),
    "sum": (over(topi.sum, (32, 64)), lambda x: [x.sum()]),
    "argmax": (over(lambda x: topi.argmax(x, 1), (32, 64)), lambda x: [x.argmax(1)]),
    "two outputs": (sum_and_maximum, lambda x: [x.sum(1), x.max(1)]),
    "cumsum as a reduction": (triangular_sum, lambda x: [np.cumsum(x, 1)]),
    "max pool": (
        over(lambda x: topi.nn.pool2d(x, (2, 2), (2, 2), (1, 1), (0, 0, 0, 0), "max"), (1, 8, 12, 12)),
        lambda x: [x.reshape(1, 8, 6, 2, 6, 2).max((3, 5))],
    ),
}
"""Operator -> program, and what it computes."""

FIXED: dict[str, Make] = {
    "elementwise": over(topi.tanh, (32, 64)),
    "transposition": over(topi.transpose, (32, 64)),
    "gather": taken("int32", 10),
    "embedding": taken("int64", 4, 8),
    "masked": masked,
    "topi.cumsum": over(lambda x: topi.cumsum(x, 1), (8, 64)),
    "topi.scatter_elements": scattered,
}
"""Operators about which there is nothing to decide."""

EXTERN: dict[str, Make] = {
    "sort": over(topi.sort, (8, 64)),
    "top-k": over(lambda x: topi.topk(x, 4, ret_type="values"), (8, 64)),
}
"""Operators that TVM does not write in TIR."""
