"""The kernels as ONNX models, with each choice of operators that a model might use."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from colt_pipeline.workloads.workload import Array

_OPSET = 23
_MICROSOFT = "com.microsoft"
"""ONNX Runtime's own operators."""
_OUT = "out"


@dataclass
class _Graph:
    """Operators in order; values are known by name."""

    onnx: Any
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def op(self, kind: str, *inputs: str, domain: str = "", out: str | None = None, **attributes: Any) -> str:
        name = out or f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def constant(self, value: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.ascontiguousarray(value)
        return name


@dataclass(frozen=True)
class Model:
    """One way to compute a kernel."""

    label: str
    """The operators that make the difference."""
    serialized: bytes
    """Its weights are constants."""
    activations: Mapping[str, Array]
    """Name -> input."""
    out: str
    shape: tuple[int, ...]
    """Of the output."""
    arranged: Callable[[Array], Array] = lambda out: out
    """Its result in the layout of our kernel."""


def _model(
    label: str,
    graph: _Graph,
    activations: Mapping[str, Array],
    shape: Sequence[int],
    arranged: Callable[[Array], Array] = lambda out: out,
) -> Model:
    helper, numpy_helper = graph.onnx.helper, graph.onnx.numpy_helper
    kinds = {name: helper.np_dtype_to_tensor_dtype(x.dtype) for name, x in activations.items()}
    inputs = [helper.make_tensor_value_info(name, kinds[name], x.shape) for name, x in activations.items()]
    outputs = [helper.make_tensor_value_info(_OUT, graph.onnx.TensorProto.FLOAT, shape)]
    constants = [numpy_helper.from_array(x, name) for name, x in graph.constants.items()]
    body = helper.make_graph(graph.nodes, "kernel", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
    made = helper.make_model(body, opset_imports=opsets, ir_version=10)
    given = {name: np.ascontiguousarray(x) for name, x in activations.items()}
    return Model(label, made.SerializeToString(), given, _OUT, tuple(shape), arranged)


def _projection(onnx: Any, x: Array, w: Array) -> list[Model]:
    graph = _Graph(onnx)
    graph.op("MatMul", "x", graph.constant(w), out=_OUT)
    return [_model("MatMul", graph, {"x": x}, (*x.shape[:-1], w.shape[1]))]


def _convolution(
    onnx: Any, x: Array, w: Array, bias: Array | None = None, stride: int = 1, groups: int = 1
) -> list[Model]:
    graph, width = _Graph(onnx), w.shape[-1] // 2
    rest = () if bias is None else (graph.constant(bias),)
    settings: dict[str, Any] = {"strides": [stride] * 2, "pads": [width] * 4, "group": groups}
    y = graph.op("Conv", "x", graph.constant(w), *rest, out=_OUT if bias is None else None, **settings)
    if bias is not None:
        graph.op("Relu", y, out=_OUT)
    size = [-(-n // stride) for n in x.shape[2:]]
    return [_model("Conv", graph, {"x": x}, (x.shape[0], w.shape[0], *size))]


def _products(onnx: Any, q: Array, key: Array, value: Array, mask: Array | None) -> Model:
    """Attention by matrix products, with heads that lie one after the other and a mask that is added to the scores."""
    graph = _Graph(onnx)
    turned = graph.op("Transpose", "key", perm=[0, 2, 1])
    scores = graph.op("MatMul", "q", turned)
    logits = graph.op("Mul", scores, graph.constant(np.asarray(1 / math.sqrt(q.shape[-1]), np.float32)))
    activations = {"q": q, "key": key, "value": value}
    if mask is not None:
        logits = graph.op("Add", logits, "mask")
        activations["mask"] = mask
    graph.op("MatMul", graph.op("Softmax", logits, axis=-1), "value", out=_OUT)
    return _model("MatMul, Softmax, MatMul", graph, activations, (*q.shape[:-1], value.shape[-1]))


def _fused(onnx: Any, q: Array, key: Array, value: Array, mask: Array | None) -> list[Model]:
    """Attention as one operator: of ONNX, and of ONNX Runtime, which takes the heads of a token together."""
    heads, tokens, dim = q.shape
    standard = _Graph(onnx)
    apart = {"q": q[None], "key": key[None], "value": value[None]}
    masked = {} if mask is None else {"mask": np.broadcast_to(mask, (1, 1, tokens, key.shape[1]))}
    standard.op("Attention", *apart, *masked, out=_OUT)
    found = [_model("Attention", standard, apart | masked, (1, *q.shape[:-1], value.shape[-1]), lambda out: out[0])]
    if heads != key.shape[0]:
        return found
    own = _Graph(onnx)
    together = {name: x[0].swapaxes(0, 1).reshape(1, x.shape[2], -1) for name, x in apart.items()}
    absent = ("", "") if masked else ()  # bias of the projections, padding
    own.op("MultiHeadAttention", *together, *absent, *masked, domain=_MICROSOFT, out=_OUT, num_heads=heads)
    return [
        *found,
        _model(
            "MultiHeadAttention",
            own,
            together | masked,
            (1, tokens, heads * dim),
            lambda out: out[0].reshape(tokens, heads, dim).swapaxes(0, 1),
        ),
    ]


def _attention(onnx: Any, q: Array, key: Array, value: Array, mask: Array | None = None) -> list[Model]:
    return [_products(onnx, q, key, value, mask), *_fused(onnx, q, key, value, mask)]


def _causal_attention(onnx: Any, q: Array, key: Array, value: Array) -> list[Model]:
    """Grouped-query attention of the last positions of a context."""
    heads, tokens, context = q.shape[0], q.shape[1], key.shape[1]
    group = heads // key.shape[0]
    visible = np.tril(np.ones((tokens, context), bool), context - tokens)
    stacked = q.reshape(key.shape[0], group * tokens, -1)
    hidden = np.tile(np.where(visible, np.float32(0), np.float32(-1e30)), (group, 1))
    by_products = _products(onnx, stacked, key, value, hidden)
    unstacked = Model(
        **{**vars(by_products), "arranged": lambda out: out.reshape(heads, tokens, -1)},
    )
    return [unstacked, *_fused(onnx, q, key, value, visible)]


def _batched_matmul_nt(onnx: Any, a: Array, b: Array) -> list[Model]:
    graph = _Graph(onnx)
    graph.op("MatMul", "a", graph.op("Transpose", "b", perm=[0, 2, 1]), out=_OUT)
    return [_model("MatMul", graph, {"a": a, "b": b}, (*a.shape[:-1], b.shape[1]))]


def _gated_mlp(onnx: Any, x: Array, gain: Array, to_gate: Array, to_up: Array, down: Array) -> list[Model]:
    graph = _Graph(onnx)
    norm = graph.op("RMSNormalization", "x", graph.constant(gain), axis=-1, epsilon=1e-5)
    gate, up = (graph.op("MatMul", norm, graph.constant(w)) for w in (to_gate, to_up))
    gated = graph.op("Mul", graph.op("Mul", gate, graph.op("Sigmoid", gate)), up)
    graph.op("MatMul", gated, graph.constant(down), out=_OUT)
    return [_model("RMSNormalization, MatMul", graph, {"x": x}, x.shape)]


def _normalized_gelu(onnx: Any, x: Array, gain: Array, shift: Array, w: Array, bias: Array) -> list[Model]:
    graph = _Graph(onnx)
    norm = graph.op("LayerNormalization", "x", graph.constant(gain), graph.constant(shift), axis=-1, epsilon=1e-5)
    product = graph.op("Gemm", norm, graph.constant(w), graph.constant(bias))
    graph.op("Gelu", product, out=_OUT)
    return [_model("LayerNormalization, Gemm, Gelu", graph, {"x": x}, (x.shape[0], w.shape[1]))]


MODELS: dict[str, Callable[..., list[Model]]] = {
    "llama3_8b_attention": _projection,
    "deepseek_r1_moe": _projection,
    "flux_attention": _attention,
    "flux_conv": _convolution,
    "llama4_scout_mlp": _projection,
    "llama3_8b_attention_core": _causal_attention,
    "batched_matmul_nt": _batched_matmul_nt,
    "depthwise_conv": lambda onnx, x, w: _convolution(onnx, x, w[:, None], groups=w.shape[0]),
    "bert_large_attention": _attention,
    "rmsnorm_gated_mlp": _gated_mlp,
    "pointwise_conv_relu": lambda onnx, x, w, b: _convolution(onnx, x, w[:, :, None, None], b),
    "strided_conv_relu": lambda onnx, x, w, b: _convolution(onnx, x, w, b, stride=2),
    "layernorm_matmul_gelu": _normalized_gelu,
}
"""Kernel -> its models, from the module onnx and the inputs. All compute the same."""


def session(onnxruntime: Any, model: Model, threads: int) -> tuple[Callable[[], object], Callable[[], Array]]:
    """What runs a model on inputs and into an output that are there already, and what returns that output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(model.serialized, options, providers=["CPUExecutionProvider"])
    binding = made.io_binding()
    for name, x in model.activations.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(x))
    out = onnxruntime.OrtValue.ortvalue_from_shape_and_type(model.shape, np.float32)
    binding.bind_ortvalue_output(model.out, out)
    return lambda: made.run_with_iobinding(binding), lambda: model.arranged(out.numpy())
