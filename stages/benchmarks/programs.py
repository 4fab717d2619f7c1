"""Kernels that no rule of the design space was developed on, each with its reference in NumPy.

OWN are compared with other frameworks (torch); UNSEEN show what the additions to the design space bring (additions).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import tvm
from numpy.typing import NDArray
from scipy.special import erf
from tvm import te

from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.own import of_program
from colt_pipeline.workloads.workload import Workload, in_float64

Values = NDArray[np.float64]

_EPSILON = 1e-5
"""Of normalizations."""


@dataclass(frozen=True)
class Kernel:
    """A program, and what it computes."""

    program: tvm.tirx.PrimFunc
    reference: Callable[..., Values]
    """In float64, of the inputs in the order of the parameters."""

    def workload(self, name: str) -> Workload:
        """The kernel with its reference; `name` says what to call it."""
        return replace(of_program(name, self.program, {}), reference=in_float64(self.reference))


def masked_attention(heads: int = 16, tokens: int = 384, dim: int = 64) -> Kernel:
    """Attention with an additive mask over the keys, as in BERT: softmax(Q K^T / sqrt(dim) + M) V."""
    q, key, value = (te.placeholder((heads, tokens, dim), name=name) for name in "QKV")
    mask = te.placeholder((tokens,), name="M")
    scale = 1 / math.sqrt(dim)
    d, m, s, k = (te.reduce_axis((0, n), name=x) for n, x in ((dim, "d"), (tokens, "m"), (tokens, "s"), (tokens, "k")))
    square, rows = (heads, tokens, tokens), (heads, tokens)
    scores = te.compute(square, lambda h, i, j: te.sum(q[h, i, d] * key[h, j, d], axis=d), name="scores")
    logits = te.compute(square, lambda h, i, j: scores[h, i, j] * te.const(scale, "float32") + mask[j], name="logits")
    peak = te.compute(rows, lambda h, i: te.max(logits[h, i, m], axis=m), name="peak")
    weight = te.compute(square, lambda h, i, j: te.exp(logits[h, i, j] - peak[h, i]), name="weight")
    total = te.compute(rows, lambda h, i: te.sum(weight[h, i, s], axis=s), name="total")
    attend = te.compute(square, lambda h, i, j: weight[h, i, j] / total[h, i], name="attend")
    out = te.compute(
        (heads, tokens, dim), lambda h, i, e: te.sum(attend[h, i, k] * value[h, k, e], axis=k), name="context"
    )

    def reference(q: Values, key: Values, value: Values, mask: Values) -> Values:
        return np.asarray(_softmax(q @ key.transpose(0, 2, 1) * scale + mask) @ value)

    return Kernel(te.create_prim_func([q, key, value, mask, out]), reference)


def gated_mlp(tokens: int = 16, hidden: int = 1024, inner: int = 3072) -> Kernel:
    """RMSNorm, then a gated MLP with SiLU, as in Llama and Qwen: (silu(n Wg) * (n Wu)) Wd."""
    x, gain = te.placeholder((tokens, hidden), name="X"), te.placeholder((hidden,), name="G")
    to_gate, to_up = te.placeholder((hidden, inner), name="Wg"), te.placeholder((hidden, inner), name="Wu")
    down = te.placeholder((inner, hidden), name="Wd")
    r, a, b, k = (
        te.reduce_axis((0, n), name=x) for n, x in ((hidden, "r"), (hidden, "a"), (hidden, "b"), (inner, "k"))
    )
    squares = te.compute((tokens,), lambda i: te.sum(x[i, r] * x[i, r], axis=r), name="squares")
    norm = te.compute(
        (tokens, hidden),
        lambda i, j: x[i, j] * gain[j] / te.sqrt(squares[i] * te.const(1 / hidden, "float32") + _EPSILON),
        name="norm",
    )
    gate = te.compute((tokens, inner), lambda i, j: te.sum(norm[i, a] * to_gate[a, j], axis=a), name="gate")
    up = te.compute((tokens, inner), lambda i, j: te.sum(norm[i, b] * to_up[b, j], axis=b), name="up")
    gated = te.compute((tokens, inner), lambda i, j: gate[i, j] * te.sigmoid(gate[i, j]) * up[i, j], name="gated")
    out = te.compute((tokens, hidden), lambda i, j: te.sum(gated[i, k] * down[k, j], axis=k), name="down")

    def reference(x: Values, gain: Values, to_gate: Values, to_up: Values, down: Values) -> Values:
        norm = x * gain / np.sqrt((x * x).mean(axis=-1, keepdims=True) + _EPSILON)
        gate = norm @ to_gate
        return np.asarray((gate * _sigmoid(gate) * (norm @ to_up)) @ down)

    return Kernel(te.create_prim_func([x, gain, to_gate, to_up, down, out]), reference)


def pointwise_convolution(channels: int = 64, filters: int = 256, size: int = 56) -> Kernel:
    """A 1x1 convolution in NCHW with bias and ReLU, as in ResNet-50."""
    x, w = te.placeholder((1, channels, size, size), name="X"), te.placeholder((filters, channels), name="W")
    bias, c = te.placeholder((filters,), name="B"), te.reduce_axis((0, channels), name="c")
    shape = (1, filters, size, size)
    conv = te.compute(shape, lambda n, f, i, j: te.sum(x[n, c, i, j] * w[f, c], axis=c), name="conv")
    out = te.compute(shape, lambda n, f, i, j: te.max(conv[n, f, i, j] + bias[f], te.const(0, "float32")), name="relu")

    def reference(x: Values, w: Values, bias: Values) -> Values:
        return np.asarray(np.maximum(np.einsum("nchw,fc->nfhw", x, w) + bias[:, None, None], 0))

    return Kernel(te.create_prim_func([x, w, bias, out]), reference)


def strided_convolution(channels: int = 128, filters: int = 128, size: int = 56) -> Kernel:
    """A 3x3 convolution in NCHW with stride 2, padding 1, bias and ReLU, as in ResNet-50."""
    x, w = te.placeholder((1, channels, size, size), name="X"), te.placeholder((filters, channels, 3, 3), name="W")
    bias = te.placeholder((filters,), name="B")
    padded = _padded(x, 1)
    c, dy, dx = (te.reduce_axis((0, n), name=x) for n, x in ((channels, "c"), (3, "dy"), (3, "dx")))
    shape = (1, filters, (size + 1) // 2, (size + 1) // 2)
    conv = te.compute(
        shape,
        lambda n, f, i, j: te.sum(padded[n, c, 2 * i + dy, 2 * j + dx] * w[f, c, dy, dx], axis=[c, dy, dx]),
        name="conv",
    )
    out = te.compute(shape, lambda n, f, i, j: te.max(conv[n, f, i, j] + bias[f], te.const(0, "float32")), name="relu")

    def reference(x: Values, w: Values, bias: Values) -> Values:
        found = np.einsum("nchwij,fcij->nfhw", _windows(x, 3, 1)[:, :, ::2, ::2], w, optimize=True)
        return np.asarray(np.maximum(found + bias[:, None, None], 0))

    return Kernel(te.create_prim_func([x, w, bias, out]), reference)


def normalized_gelu(rows: int = 128, hidden: int = 768, columns: int = 3072) -> Kernel:
    """LayerNorm, then a matrix product with bias and GELU (by erf), as in the MLP of BERT and ViT."""
    x, gain, shift = te.placeholder((rows, hidden), name="X"), *(te.placeholder((hidden,), name=n) for n in ("G", "S"))
    w, bias = te.placeholder((hidden, columns), name="W"), te.placeholder((columns,), name="B")
    r, v, k = (te.reduce_axis((0, hidden), name=name) for name in "rvk")
    part = te.const(1 / hidden, "float32")
    total = te.compute((rows,), lambda i: te.sum(x[i, r], axis=r), name="total")
    centred = te.compute((rows, hidden), lambda i, j: x[i, j] - total[i] * part, name="centred")
    squares = te.compute((rows,), lambda i: te.sum(centred[i, v] * centred[i, v], axis=v), name="squares")
    norm = te.compute(
        (rows, hidden),
        lambda i, j: centred[i, j] / te.sqrt(squares[i] * part + _EPSILON) * gain[j] + shift[j],
        name="norm",
    )
    product = te.compute((rows, columns), lambda i, j: te.sum(norm[i, k] * w[k, j], axis=k), name="product")
    biased = te.compute((rows, columns), lambda i, j: product[i, j] + bias[j], name="biased")
    half, root = te.const(0.5, "float32"), te.const(math.sqrt(0.5), "float32")
    out = te.compute(
        (rows, columns), lambda i, j: half * biased[i, j] * (1.0 + te.erf(biased[i, j] * root)), name="gelu"
    )

    def reference(x: Values, gain: Values, shift: Values, w: Values, bias: Values) -> Values:
        centred = x - x.mean(axis=-1, keepdims=True)
        norm = centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + _EPSILON) * gain + shift
        biased = norm @ w + bias
        return np.asarray(0.5 * biased * (1 + erf(biased * math.sqrt(0.5))))

    return Kernel(te.create_prim_func([x, gain, shift, w, bias, out]), reference)


def softmax(rows: int = 512, columns: int = 1024) -> Kernel:
    """A softmax over rows."""
    x = te.placeholder((rows, columns), name="X")
    m, s = (te.reduce_axis((0, columns), name=name) for name in "ms")
    peak = te.compute((rows,), lambda i: te.max(x[i, m], axis=m), name="peak")
    weight = te.compute((rows, columns), lambda i, j: te.exp(x[i, j] - peak[i]), name="weight")
    total = te.compute((rows,), lambda i: te.sum(weight[i, s], axis=s), name="total")
    out = te.compute((rows, columns), lambda i, j: weight[i, j] / total[i], name="softmax")
    return Kernel(te.create_prim_func([x, out]), _softmax)


def depthwise_5x5(channels: int = 240, size: int = 28) -> Kernel:
    """A depthwise 5x5 convolution in NCHW with padding 2, as in MobileNetV3 and EfficientNet."""
    x, w = te.placeholder((1, channels, size, size), name="X"), te.placeholder((channels, 5, 5), name="W")
    padded = _padded(x, 2)
    dy, dx = (te.reduce_axis((0, 5), name=name) for name in ("dy", "dx"))
    out = te.compute(
        (1, channels, size, size),
        lambda n, c, i, j: te.sum(padded[n, c, i + dy, j + dx] * w[c, dy, dx], axis=[dy, dx]),
        name="depthwise",
    )

    def reference(x: Values, w: Values) -> Values:
        return np.asarray(np.einsum("nchwij,cij->nchw", _windows(x, 5, 2), w, optimize=True))

    return Kernel(te.create_prim_func([x, w, out]), reference)


OWN: dict[str, Callable[[], Kernel]] = {
    "bert_large_attention": masked_attention,
    "rmsnorm_gated_mlp": gated_mlp,
    "pointwise_conv_relu": pointwise_convolution,
    "strided_conv_relu": strided_convolution,
    "layernorm_matmul_gelu": normalized_gelu,
}
"""Name -> kernel that is compared with other frameworks, besides the catalogue's."""


def _full_attention(heads: int, tokens: int, dim: int) -> Workload:
    shape = {"heads": heads, "kv_heads": heads, "head_dim": dim, "tokens": tokens, "context": tokens}
    return build("flux_attention", shape)


UNSEEN: dict[str, Callable[[], Workload]] = {
    "softmax_512x1024": lambda: softmax().workload("softmax"),
    "attention_16x384x64": lambda: _full_attention(16, 384, 64),
    "depthwise_5x5_240x28x28": lambda: depthwise_5x5().workload("depthwise_5x5"),
    "batched_matmul_nt_16x256x64x256": lambda: build(
        "batched_matmul_nt", {"batch": 16, "tokens": 256, "inner": 64, "outer": 256}
    ),
    "matmul_256x768x768": lambda: build("llama3_8b_attention", {"batch": 1, "tokens": 256, "inner": 768, "outer": 768}),
    "attention_4x128x64": lambda: _full_attention(4, 128, 64),
}
"""Name -> kernel that shows what an addition to the design space brings: other shapes than the catalogue's."""


def _softmax(x: Values) -> Values:
    weight = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


def _sigmoid(x: Values) -> Values:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))  # does not overflow


def _padded(x: te.Tensor, width: int) -> te.Tensor:
    """`x` (batch, channels, height, width) with a border of zeros."""
    batch, channels, height, columns = (int(n) for n in x.shape)
    return te.compute(
        (batch, channels, height + 2 * width, columns + 2 * width),
        lambda n, c, i, j: te.if_then_else(
            te.all(i >= width, i < height + width, j >= width, j < columns + width),
            x[n, c, i - width, j - width],
            te.const(0, "float32"),
        ),
        name="pad",
    )


def _windows(x: Values, kernel: int, width: int) -> Values:
    """The neighbourhood of each pixel of `x`, padded with zeros: (batch, channels, height, width, kernel, kernel)."""
    padded = np.pad(x, ((0, 0), (0, 0), (width, width), (width, width)))
    return np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), axis=(2, 3))
