"""Rewrites of a whole model before it is split into kernels: equal models with fewer, larger kernels.

Importers write what a framework does step by step. TVM fuses a product with what follows it, unless a reshape stands
between them, and does not see that two transpositions undo each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import tvm
from tvm import relax, te, tirx, topi
from tvm.relax.expr_functor import PyExprMutator, mutator

from colt_pipeline.workloads.models.model import NUM_INPUT
from colt_pipeline.workloads.workload import Array

_LARGE_BYTES = 4096
"""Constants of at least this size are weights."""
_UNARY = ("erf", "exp", "negative", "nn.gelu", "nn.gelu_tanh", "nn.relu", "nn.silu", "sigmoid", "sqrt", "tanh")
_NORMS = ("nn.layer_norm", "nn.rms_norm")
_CONV2D = tvm.ir.Op.get("relax.nn.conv2d")
_NORM_IN = {"bfloat16": "float32", "float64": "float64"}
"""Types that TVM does not normalize, and the type in which that is computed."""
_BINARY = ("add", "divide", "maximum", "minimum", "multiply", "power", "subtract")


def with_weights_as_parameters(module: tvm.IRModule) -> tuple[tvm.IRModule, list[Array]]:
    """The module with its large constants as further parameters of ``main``, and their values."""
    lift = _Constants(module)
    main = module["main"]
    body = lift.visit_expr(main)
    changed = relax.Function([*main.params, *lift.parameters], body.body, main.ret_ty, main.is_pure, main.attrs)
    out = module.clone()
    out.update_func(module.get_global_var("main"), changed)
    return out, lift.values


@mutator
class _Constants(PyExprMutator):  # type: ignore[misc]  # TVM has no types
    """Replaces large constants by variables."""

    def __init__(self, module: tvm.IRModule) -> None:
        super().__init__(module)
        self.parameters: list[relax.Var] = []
        self.values: list[Array] = []
        self._known: list[tuple[Any, relax.Var]] = []

    def visit_generic_const_(self, constant: tvm.ir.GenericConst) -> relax.Expr:
        tensor = constant.value
        if not isinstance(tensor, tvm.runtime.Tensor):
            return constant
        value = in_numpy(tensor)
        if value.nbytes < _LARGE_BYTES:
            return constant
        for known, var in self._known:
            if known.same_as(tensor):
                return var
        var = relax.Var(f"constant{len(self.values)}", constant.ty)
        self._known.append((tensor, var))
        self.parameters.append(var)
        self.values.append(value)
        return var


def in_numpy(tensor: tvm.runtime.Tensor) -> Array:
    """A tensor of this machine's memory as an array, without a copy where NumPy knows the type."""
    try:
        return np.from_dlpack(tensor)
    except (BufferError, RuntimeError, TypeError):
        return np.asarray(tensor.numpy())


def with_folded_norms(module: tvm.IRModule) -> tvm.IRModule:
    """The module whose batch normalizations are part of the weights of the convolutions before them, and one sum."""
    out = module.clone()
    out.update_func(module.get_global_var("main"), _FoldNorms(module).visit_expr(module["main"]))
    return relax.transform.CanonicalizeBindings()(out)


@mutator
class _FoldNorms(PyExprMutator):  # type: ignore[misc]
    """x -> x scale + shift per channel, where TVM would subtract, divide, multiply and add."""

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not isinstance(call, relax.Call) or not isinstance(call.op, tvm.ir.Op):
            return call
        is_norm = call.op.name == "relax.nn.batch_norm" and not call.attrs.training and int(call.attrs.axis) == 1
        if not is_norm or _shape(call.args[0]) is None:
            return call
        x, gamma, beta, mean, variance = call.args
        emit, op, dtype = self.builder_.emit, relax.op, str(mean.ty.dtype)
        spread = emit(op.sqrt(emit(op.add(variance, relax.const(float(call.attrs.epsilon), dtype)))))
        scale = emit(op.divide(gamma, spread)) if call.attrs.scale else emit(op.divide(op.ones_like(spread), spread))
        shift = emit(op.negative(emit(op.multiply(mean, scale))))
        shift = emit(op.add(beta, shift)) if call.attrs.center else shift
        made = self.lookup_binding(x) if isinstance(x, relax.Var) else None
        conv = made if isinstance(made, relax.Call) and made.op.same_as(_CONV2D) else None
        if conv is not None and conv.attrs.kernel_layout == "OIHW" and str(conv.args[1].ty.dtype) == dtype:
            weight = emit(op.multiply(conv.args[1], emit(op.reshape(scale, (-1, 1, 1, 1)))))
            x = emit(relax.Call(conv.op, [conv.args[0], weight], conv.attrs))
        else:
            x = emit(op.multiply(x, emit(op.reshape(scale, self._channels(x)))))
        return relax.Tuple([emit(op.add(x, emit(op.reshape(shift, self._channels(x))))), mean, variance])

    def _channels(self, x: relax.Expr) -> tuple[int, ...]:
        return (1, -1, *(1 for _ in list(x.ty.shape)[2:]))


def channels_last(module: tvm.IRModule) -> tvm.IRModule:
    """The module with convolutions in the layout in which vectors lie along the channels, if TVM can change it.

    There are more channels than a picture has columns.
    """
    found: set[str] = set()

    def visit(value: relax.Expr) -> None:
        if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.Op):
            found.add(value.op.name)

    relax.analysis.post_order_visit(module["main"], visit)
    if "relax.nn.conv2d" not in found or "relax.nn.conv2d_transpose" in found:  # TVM has no kernel of that one
        return module
    out = module.clone()
    out.update_func(module.get_global_var("main"), _PlainAxes(module).visit_expr(module["main"]))
    try:
        return relax.transform.ConvertLayout({"relax.nn.conv2d": ["NHWC", "HWIO"]})(out)
    except tvm.error.InternalError:  # it knows no layout of some operator between them
        return module


@mutator
class _PlainAxes(PyExprMutator):  # type: ignore[misc]
    """Counts axes from the first: TVM's ConvertLayout asks for gigabytes otherwise."""

    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not isinstance(call, relax.Call) or not isinstance(call.op, tvm.ir.Op):
            return call
        if call.op.name == "relax.permute_dims":
            return relax.op.permute_dims(call.args[0], _axes(call))
        if call.op.name == "relax.squeeze" and call.attrs.axis is not None:
            count = len(call.args[0].ty.shape)
            return relax.op.squeeze(call.args[0], [int(axis) % count for axis in call.attrs.axis])
        return call


def simplified(module: tvm.IRModule) -> tvm.IRModule:
    """The module without transpositions that undo each other, and with reshapes moved behind what can be fused."""
    rewrite = _Simplify(module)
    out = module.clone()
    out.update_func(module.get_global_var("main"), rewrite.visit_expr(module["main"]))
    return relax.transform.DeadCodeElimination()(relax.transform.CanonicalizeBindings()(out))


@mutator
class _Simplify(PyExprMutator):  # type: ignore[misc]
    def visit_call_(self, call: relax.Call) -> relax.Expr:
        call = self.visit_expr_post_order(call)
        if not isinstance(call, relax.Call) or not isinstance(call.op, tvm.ir.Op):
            return call
        name = call.op.name.removeprefix("relax.")
        if name in _NORMS and str(call.args[0].ty.dtype) in _NORM_IN:
            return self._normalized(call, name == "nn.layer_norm")
        if name == "permute_dims":
            return self._transposed(call)
        if name == "reshape":
            return self._reshaped(call)
        if name == "matmul":
            return self._moved(call, lambda x: relax.op.matmul(x, call.args[1], call.attrs.out_dtype))
        if name in _UNARY:
            return self._moved(call, lambda x: relax.Call(call.op, [x], call.attrs))
        if name in _BINARY:
            return self._of_two(call)
        return call

    def _normalized(self, call: relax.Call, centered: bool) -> relax.Expr:
        """Layer and RMS normalization step by step: TVM has a kernel only for float32 and float16."""
        x, scale, *shift = call.args
        dtype = str(x.ty.dtype)
        wide, axes = _NORM_IN[dtype], [int(axis) for axis in call.attrs.axes]

        def emit(value: relax.Expr) -> relax.Expr:
            return self.builder_.emit(value)

        def widened(value: relax.Expr) -> relax.Expr:
            return value if wide == dtype else emit(relax.op.astype(value, wide))

        x = widened(x)
        if centered:
            x = emit(relax.op.subtract(x, emit(relax.op.mean(x, axes, True))))
        spread = emit(relax.op.mean(emit(relax.op.multiply(x, x)), axes, True))
        root = emit(relax.op.sqrt(emit(relax.op.add(spread, relax.const(float(call.attrs.epsilon), wide)))))
        out = emit(relax.op.divide(x, root))
        if not centered or call.attrs.scale:
            out = emit(relax.op.multiply(out, widened(scale)))
        if centered and call.attrs.center:
            out = emit(relax.op.add(out, widened(shift[0])))
        return out if wide == dtype else relax.op.astype(out, dtype)

    def _made_by(self, value: relax.Expr, name: str) -> relax.Call | None:
        """The call of this operator that a variable is bound to."""
        made = self.lookup_binding(value) if isinstance(value, relax.Var) else None
        if not isinstance(made, relax.Call) or not isinstance(made.op, tvm.ir.Op):
            return None
        return made if made.op.name == f"relax.{name}" else None

    def _transposed(self, call: relax.Call) -> relax.Expr:
        inner = self._made_by(call.args[0], "permute_dims")
        if inner is None:
            return call
        first, second = _axes(inner), _axes(call)
        axes = [first[axis] for axis in second]
        return inner.args[0] if axes == sorted(axes) else relax.op.permute_dims(inner.args[0], axes)

    def _reshaped(self, call: relax.Call) -> relax.Expr:
        inner = self._made_by(call.args[0], "reshape")
        source = call.args[0] if inner is None else inner.args[0]
        if _shape(source) is not None and _shape(source) == _shape(call):
            return source
        if inner is None or self._without_lead(call) is not None:
            return call
        return relax.op.reshape(source, call.args[1])

    def _without_lead(self, value: relax.Expr) -> relax.Expr | None:
        """What a value is a reshape of that drops one leading dimension of size 1."""
        made = value if isinstance(value, relax.Call) else self._made_by(value, "reshape")
        shape = None if made is None else _shape(made.args[0])
        dropped = shape is not None and len(shape) > 1 and shape[0] == 1 and shape[1:] == _shape(value)
        return made.args[0] if made is not None and dropped else None

    def _moved(self, call: relax.Call, make: Callable[[relax.Expr], relax.Expr]) -> relax.Expr:
        source = self._without_lead(call.args[0])
        shape = _shape(call)
        if source is None or shape is None or (len(call.args) > 1 and len(_shape(call.args[1]) or ()) > len(shape)):
            return call
        return relax.op.reshape(self.builder_.emit(make(source)), shape)

    def _of_two(self, call: relax.Call) -> relax.Expr:
        left, right = (self._without_lead(argument) for argument in call.args)
        shape = _shape(call)
        if shape is None or (left is None and right is None):
            return call
        for source, value in ((left, call.args[0]), (right, call.args[1])):
            if source is None and len(_shape(value) or ()) > len(shape):
                return call
        arguments = [
            value if source is None else source for source, value in zip((left, right), call.args, strict=True)
        ]
        return relax.op.reshape(self.builder_.emit(relax.Call(call.op, arguments, call.attrs)), shape)


def _shape(value: relax.Expr) -> list[int] | None:
    """The sizes of a tensor, if all are known."""
    ty = value.ty
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        return None
    sizes = list(ty.shape)
    return [int(n) for n in sizes] if all(isinstance(n, tirx.IntImm) for n in sizes) else None


def _axes(call: relax.Call) -> list[int]:
    count = len(call.ty.shape)
    axes = call.attrs.axes
    return [int(axis) % count for axis in axes] if axes is not None else list(reversed(range(count)))


LOWEST = {"float16": -3e4}
"""Type -> the score of what a mask hides, if not -1e30: sums with it must stay finite."""


def _attention(
    q: te.Tensor, k: te.Tensor, v: te.Tensor, bias: te.Tensor | None, scale: float | None, causal: str | None
) -> te.Tensor:
    """softmax(q k^T scale [+ bias]) v, in the layout of its inputs: (batch, tokens, heads, dimension).

    TVM's own form transposes and reshapes the inputs first, and divides before the second product.
    """
    batch, tokens, heads, dim = (int(n) for n in q.shape)
    context, kv_heads, width = int(k.shape[1]), int(k.shape[2]), int(v.shape[3])
    group, offset = heads // kv_heads, context - tokens if causal == "BottomRight" else 0
    dtype, size = q.dtype, (batch, heads, tokens, context)
    factor = dim**-0.5 if scale is None else float(scale)
    d = te.reduce_axis((0, dim), name="d")
    scores = te.compute(
        size, lambda b, h, i, j: te.sum(q[b, i, h, d] * k[b, j, te.indexdiv(h, group), d], axis=d), name="scores"
    )

    def logit(b: Any, h: Any, i: Any, j: Any) -> Any:
        value = scores[b, h, i, j] * te.const(factor, dtype)
        if bias is not None:
            at = [x if int(n) > 1 else 0 for x, n in zip((b, h, i, j), bias.shape, strict=True)]
            value = value + bias[tuple(at)]
        return (
            value
            if causal is None
            else te.if_then_else(j <= i + offset, value, te.const(LOWEST.get(str(dtype), -1e30), dtype))
        )

    logits = te.compute(size, logit, name="logits")
    m, s, j = (te.reduce_axis((0, context), name=name) for name in "msj")
    peak = te.compute(size[:3], lambda b, h, i: te.max(logits[b, h, i, m], axis=m), name="peak")
    weight = te.compute(size, lambda b, h, i, j: te.exp(logits[b, h, i, j] - peak[b, h, i]), name="weight")
    total = te.compute(size[:3], lambda b, h, i: te.sum(weight[b, h, i, s], axis=s), name="total")
    attend = te.compute(size, lambda b, h, i, j: weight[b, h, i, j] / total[b, h, i], name="attend")
    # A row's scores and its context in one order, as row fusion wants them; the order of the output comes last.
    context_of = te.compute(
        (batch, heads, tokens, width),
        lambda b, h, i, e: te.sum(attend[b, h, i, j] * v[b, j, te.indexdiv(h, group), e], axis=j),
        name="context",
    )
    return te.compute((batch, tokens, heads, width), lambda b, i, h, e: context_of[b, h, i, e], name="out")


def _legal_attention(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    q, k, v, *bias = call.args
    known = all(_shape(x) is not None for x in call.args)
    scale = None if call.attrs.scale is None else float(call.attrs.scale)
    causal, window = call.attrs.causal_mask, call.attrs.window_size
    if not known or window is not None or (bias and len(_shape(bias[0]) or ()) != 4):
        name = f"relax.nn.attention{'_bias' if bias else ''}"
        return tvm.ir.Op.get(name).get_attr("FLegalize")(builder, call)
    return builder.call_te(
        _attention,
        q,
        k,
        v,
        bias[0] if bias else None,
        scale,
        None if causal is None else str(causal),
        primfunc_name_hint="attention",
    )


def _legal_power(builder: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
    """Small whole powers as products: the C library's pow takes an element at a time."""
    base, exponent = call.args
    is_scalar = isinstance(exponent, tvm.ir.GenericConst) and not list(exponent.ty.shape)
    value = float(exponent.value.numpy()) if is_scalar else 0.0
    if value not in (2.0, 3.0):
        return builder.call_te(topi.power, base, exponent)

    def product(x: te.Tensor) -> te.Tensor:
        return te.compute(
            x.shape, lambda *i: x[i] * x[i] * x[i] if value == 3.0 else x[i] * x[i], name="power", tag="elemwise"
        )

    return builder.call_te(product, base, primfunc_name_hint="power")


LEGALIZE = {
    "relax.nn.attention": _legal_attention,
    "relax.nn.attention_bias": _legal_attention,
    "relax.power": _legal_power,
}
"""Operator -> how it becomes a kernel, where TVM's own way is slow."""


def inputs_first(module: tvm.IRModule, inputs: Collection[int]) -> tvm.IRModule:
    """The module with the parameters at these positions, its inputs, before the others, its weights."""
    main = module["main"]
    order = sorted(range(len(main.params)), key=lambda i: i not in inputs)
    parameters = [main.params[i] for i in order]
    changed = relax.Function(parameters, main.body, main.ret_ty, main.is_pure, main.attrs)
    out = module.clone()
    out.update_func(module.get_global_var("main"), changed.with_attr(NUM_INPUT, len(inputs)))
    return out
