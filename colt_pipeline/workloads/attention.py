"""Attention cores: scores, scale (and causal mask), softmax, context.

FLUX: 24 heads of 128 (hidden 3072, FLUX.1 public config), full attention. The paper does not state the sequence length;
the default of 512 tokens is an assumption that keeps the unoptimized program within seconds. Llama-3-8B: 32 query heads
over 8 key/value heads of 128 (public config); the last `tokens` positions of `context` attend causally.
"""

from __future__ import annotations

import math

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import te

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.workload import Workload, in_float64

# FLOP per element of the score matrix: scale, max, subtract, exp, sum, divide.
_SOFTMAX_FLOP = 6


def attention_core(
    name: str, heads: int, kv_heads: int, head_dim: int, tokens: int, context: int, causal: bool
) -> Workload:
    """softmax(Q K^T / sqrt(head_dim) [+ mask]) V; Q (heads, tokens, dim); K, V (kv_heads, context, dim).

    Query head h reads key/value head h // (heads / kv_heads). If `causal`, query i is position context - tokens + i and
    sees keys up to itself.

    Raises:
        ConfigError: heads is not a multiple of kv_heads, or a causal context is shorter than tokens.
    """
    if heads % kv_heads:
        raise ConfigError(f"workload.shape of {name}: heads={heads} must be a multiple of kv_heads={kv_heads}")
    if causal and context < tokens:
        raise ConfigError(f"workload.shape of {name}: context={context} must be at least tokens={tokens}")
    group = heads // kv_heads
    q = te.placeholder((heads, tokens, head_dim), name="Q")
    key = te.placeholder((kv_heads, context, head_dim), name="K")
    value = te.placeholder((kv_heads, context, head_dim), name="V")
    d = te.reduce_axis((0, head_dim), name="d")
    scores = te.compute(
        (heads, tokens, context),
        lambda h, i, j: te.sum(q[h, i, d] * key[te.indexdiv(h, group), j, d], axis=d),
        name="scores",
    )
    scale = 1.0 / math.sqrt(head_dim)

    def scaled(h: tvm.tirx.Var, i: tvm.tirx.Var, j: tvm.tirx.Var) -> tvm.tirx.PrimExpr:
        logit = scores[h, i, j] * te.const(scale, "float32")
        if not causal:
            return logit
        return te.if_then_else(j <= i + (context - tokens), logit, te.const(-1e30, "float32"))

    logits = te.compute((heads, tokens, context), scaled, name="logits")
    m = te.reduce_axis((0, context), name="m")
    peak = te.compute((heads, tokens), lambda h, i: te.max(logits[h, i, m], axis=m), name="peak")
    weight = te.compute((heads, tokens, context), lambda h, i, j: te.exp(logits[h, i, j] - peak[h, i]), name="weight")
    s = te.reduce_axis((0, context), name="s")
    total = te.compute((heads, tokens), lambda h, i: te.sum(weight[h, i, s], axis=s), name="total")
    attend = te.compute((heads, tokens, context), lambda h, i, j: weight[h, i, j] / total[h, i], name="attend")
    j = te.reduce_axis((0, context), name="j")
    out = te.compute(
        (heads, tokens, head_dim),
        lambda h, i, e: te.sum(attend[h, i, j] * value[te.indexdiv(h, group), j, e], axis=j),
        name="context",
    )

    def reference(q: NDArray[np.float64], key: NDArray[np.float64], value: NDArray[np.float64]) -> NDArray[np.float64]:
        logits = q @ np.repeat(key, group, axis=0).transpose(0, 2, 1) * scale
        if causal:
            visible = np.arange(context)[None, :] <= np.arange(tokens)[:, None] + (context - tokens)
            logits = np.where(visible, logits, -1e30)
        weight = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(weight / weight.sum(axis=-1, keepdims=True) @ np.repeat(value, group, axis=0))

    shape = {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim, "tokens": tokens, "context": context}
    return Workload(
        name=name,
        shape=shape,
        main=te.create_prim_func([q, key, value, out]),
        reference=in_float64(reference),
        flop=heads * tokens * context * (4 * head_dim + _SOFTMAX_FLOP),
        rtols=(1e-4,),
    )
