"""Operators of PyTorch as Relax's, where TVM's own importer makes other ones of them.

It computes products and convolutions in float32, whatever their type is, drops the scale of attention, and takes few of
its masks. Each function here takes a call in PyTorch's graph and TVM's importer, which knows the values of other calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import relax

from colt_pipeline.workloads.models.rewrites import LOWEST

_SPATIAL = "DHW"
_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


def attention(node: Any, importer: Any) -> relax.Expr:
    """``scaled_dot_product_attention`` of two to four dimensions.

    Raises:
        ValueError: it drops elements out, or has more dimensions.
    """
    given = {**dict(zip(_NAMES, node.args, strict=False)), **node.kwargs}
    emit, env = importer.block_builder.emit, importer.env
    query, key, value = (env[given[name]] for name in _NAMES[:3])
    rank = len(query.ty.shape)
    if not 2 <= rank <= 4:
        raise ValueError(f"scaled_dot_product_attention of {rank} dimensions; reshape to 4")
    if given.get("dropout_p"):
        raise ValueError(f"scaled_dot_product_attention has dropout_p={given['dropout_p']}; export the model in eval()")

    def heads_last(x: relax.Expr) -> relax.Expr:
        """(..., tokens, dimension) as (batch, tokens, heads, dimension)."""
        whole = x if rank == 4 else emit(relax.op.expand_dims(x, list(range(4 - rank))))
        return emit(relax.op.permute_dims(whole, [0, 2, 1, 3]))

    mask = given.get("attn_mask")
    bias = None if mask is None else _bias(emit, env[mask], str(query.ty.dtype), key.ty.shape[rank - 2])
    found = relax.op.nn.attention(
        *map(heads_last, (query, key, value)), bias, given.get("scale"), "TopLeft" if given.get("is_causal") else None
    )
    out = emit(relax.op.permute_dims(emit(found), [0, 2, 1, 3]))
    return out if rank == 4 else emit(relax.op.squeeze(out, list(range(4 - rank))))


def _bias(emit: Any, mask: relax.Expr, dtype: str, context: Any) -> relax.Expr:
    """What a mask adds to scores, with four dimensions."""
    if str(mask.ty.dtype) == "bool":
        masked = relax.const(LOWEST.get(dtype, -1e30), dtype)
        mask = emit(relax.op.where(mask, relax.const(0, dtype), masked))
    elif str(mask.ty.dtype) != dtype:
        mask = emit(relax.op.astype(mask, dtype))
    shape: Sequence[Any] = list(mask.ty.shape)
    if len(shape) < 4:
        mask = emit(relax.op.expand_dims(mask, list(range(4 - len(shape)))))
        shape = list(mask.ty.shape)
    if shape[-1] != context:
        mask = emit(relax.op.broadcast_to(mask, [*shape[:-1], context]))
    return mask


def product(node: Any, importer: Any) -> relax.Expr:
    """``matmul``, ``mm`` and ``bmm``."""
    left, right = (importer.env[x] for x in node.args)
    found: relax.Expr = importer.block_builder.emit(relax.op.matmul(left, right))
    return found


def linear(node: Any, importer: Any) -> relax.Expr:
    """``linear``."""
    x, weight, *bias = (importer.env[given] for given in node.args if given is not None)
    emit = importer.block_builder.emit
    out: relax.Expr = emit(relax.op.matmul(x, emit(relax.op.permute_dims(weight))))
    return emit(relax.op.add(out, bias[0])) if bias else out


def add_product(node: Any, importer: Any) -> relax.Expr:
    """``addmm``: beta times the first argument, plus alpha times the product of the others."""
    first, left, right = (importer.env[x] for x in node.args)
    emit, dtype = importer.block_builder.emit, str(first.ty.dtype)

    def times(x: relax.Expr, factor: float) -> relax.Expr:
        return x if factor == 1 else emit(relax.op.multiply(x, relax.const(factor, dtype)))

    out = times(emit(relax.op.matmul(left, right)), node.kwargs.get("alpha", 1))
    beta = node.kwargs.get("beta", 1)
    found: relax.Expr = out if beta == 0 else emit(relax.op.add(out, times(first, beta)))
    return found


def convolution(node: Any, importer: Any) -> relax.Expr:
    """``convolution`` of one to three dimensions, also transposed."""
    given, weight, bias, strides, padding, dilation, transposed, output_padding, groups = node.args
    emit, x, kernel = importer.block_builder.emit, importer.env[given], importer.env[weight]
    count = len(x.ty.shape) - 2
    spatial = _SPATIAL[-count:]
    options: dict[str, Any] = {"strides": list(strides), "dilation": list(dilation), "groups": groups}
    options |= {"data_layout": f"NC{spatial}", "kernel_layout": f"{'IO' if transposed else 'OI'}{spatial}"}
    if transposed:
        options["output_padding"] = list(output_padding)
    operator = getattr(relax.op.nn, f"conv{count}d{'_transpose' if transposed else ''}")
    out: relax.Expr = emit(operator(x, kernel, padding=list(padding), **options))
    if bias is None:
        return out
    return emit(relax.op.add(out, emit(relax.op.reshape(importer.env[bias], [1, -1, *[1] * count]))))


CONVERT: dict[str, Callable[[Any, Any], relax.Expr]] = {
    "scaled_dot_product_attention.default": attention,
    "linear.default": linear,
    "matmul.default": product,
    "mm.default": product,
    "bmm.default": product,
    "addmm.default": add_product,
    "convolution.default": convolution,
}
"""PyTorch's name -> what makes an expression of a call."""
