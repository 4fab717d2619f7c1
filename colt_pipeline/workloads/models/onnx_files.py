"""Models in ONNX files. The extra ``onnx`` names the packages; large weights stay in their files until used."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.data import FLOATS_IN, INTEGERS
from colt_pipeline.workloads.models.model import check_sizes
from colt_pipeline.workloads.models.packages import required
from colt_pipeline.workloads.models.relax_programs import Parts
from colt_pipeline.workloads.models.rewrites import inputs_first
from colt_pipeline.workloads.workload import Array

_WEIGHT_BYTES = 1024
"""Initializers of at least this size become parameters; smaller ones may be shapes, which must be constants."""
_SIZES = 64
"""At most so many numbers are taken for sizes."""
_OF_SIZES = (
    *("Add", "Cast", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Identity", "Max", "Min", "Mod"),
    *("Mul", "Neg", "Range", "Reshape", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where"),
)
"""Operators with which exporters compute sizes."""
_ERRORS = (
    RuntimeError,
    ValueError,
    AssertionError,
    NotImplementedError,
    KeyError,
    AttributeError,
    TypeError,
    IndexError,
)
"""What TVM's importer raises."""


def read_onnx(path: Path, where: str, sizes: Mapping[str, int]) -> Parts:
    """The model in an ONNX file, with values for its symbolic sizes: TVM imports fewer operators of unknown sizes.

    Raises:
        ConfigError: a package is missing, the file is no ONNX model or lacks data, TVM does not know an operator, or a
            size is unknown or missing.
    """
    onnx = required("onnx", "onnx", where)
    required("onnx.reference", "onnx", where)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # what protobuf raises depends on its implementation
        raise ConfigError(f"{where} is not an ONNX model: {_last_line(error)}") from error
    if not model.graph.node or not model.graph.output:
        raise ConfigError(f"{where} is not an ONNX model: it has no operators or no outputs")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    kept = _true_inputs(model)
    for value in kept:
        if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
            raise ConfigError(f"{where}: the input {value.name} must be a tensor of known dimensions")
    _bind(kept, sizes, where)
    _read_attributes(onnx, model.graph, path.parent, where)
    weights = _weights_apart(onnx, model, path.parent, where)
    _compute_sizes(onnx, model)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names that are no identifiers are changed
            from tvm.relax.frontend.onnx import from_onnx

            with redirect_stdout(io.StringIO()):  # it prints the operator that it failed at
                module = from_onnx(model)
    except tvm.error.OpNotImplemented as error:
        raise ConfigError(f"{where} has an operator that TVM does not import: {_last_line(error)}") from error
    except _ERRORS as error:
        raise ConfigError(f"TVM cannot import {where}: {_last_line(error)}") from error
    # By position: the importer changes names, and two may become one.
    names = list(dict.fromkeys(v.name for v in _true_inputs(model)))
    module = inputs_first(module, [i for i, name in enumerate(names) if name not in weights])
    given = [weights[name] for name in names if name in weights]
    return Parts(module, given, _reference(onnx, path, where), _referee(), None)


def _bind(inputs: Sequence[Any], sizes: Mapping[str, int], where: str) -> None:
    """Give the symbolic sizes of these inputs their values; one without a name is INPUT_DIMENSION."""
    symbolic: dict[str, list[str]] = {}
    found = []
    for value in inputs:
        for at, size in enumerate(value.type.tensor_type.shape.dim):
            if size.HasField("dim_value") and size.dim_value > 0:
                continue
            plain = re.sub(r"\W", "_", size.dim_param.strip(" ?") or f"{value.name}_{at}")
            symbolic.setdefault(plain, []).append(f"dimension {at} of {value.name}")
            found.append((size, plain))
    check_sizes(symbolic, sizes, where)
    for size, plain in found:
        size.dim_value = sizes[plain]


def _compute_sizes(onnx: Any, model: Any) -> None:
    """Replace what computes sizes by their values, now that those of the inputs are known.

    TVM does not see what a shape is made of, which an exporter writes operator by operator.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, ValueError):
        return
    sizes = {}
    for value in (*inferred.input, *inferred.value_info):
        shape = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(size.dim_value > 0 for size in shape):
            sizes[value.name] = [size.dim_value for size in shape]
    known = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if math.prod(tensor.dims) <= _SIZES and tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32)
    }
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    rest, made = [], {}
    for node in model.graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Shape" and node.input[0] in sizes:
            found = np.array(sizes[node.input[0]], np.int64)[attributes.get("start", 0) : attributes.get("end")]
        elif node.op_type == "Constant" and isinstance(tensor := attributes.get("value"), onnx.TensorProto):
            rest.append(node)
            if math.prod(tensor.dims) <= _SIZES:
                known[node.output[0]] = onnx.numpy_helper.to_array(tensor)
            continue
        elif node.op_type in _OF_SIZES and all(name in known for name in node.input):
            given = {name: known[name] for name in node.input}
            found = np.asarray(onnx.reference.ReferenceEvaluator(node, opsets=opsets).run(None, given)[0])
        else:
            rest.append(node)
            continue
        known[node.output[0]] = made[node.output[0]] = found
    if made:
        nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in rest]
        del model.graph.node[:]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in made.items())


def _read_attributes(onnx: Any, graph: Any, directory: Path, where: str) -> None:
    """Tensors within operators, and weights of the branches of conditions, may be external data, too."""
    tensors = []
    for node in graph.node:
        for attribute in node.attribute:
            tensors += [attribute.t] if attribute.HasField("t") else list(attribute.tensors)
            for branch in [attribute.g] if attribute.HasField("g") else list(attribute.graphs):
                _read_attributes(onnx, branch, directory, where)
                tensors += branch.initializer
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(_value(onnx, tensor, directory, where)), tensor.name))


def _weights_apart(onnx: Any, model: Any, directory: Path, where: str) -> dict[str, Array]:
    """Turn large initializers into inputs of the graph, and return their values."""
    found: dict[str, Array] = {}
    kept = []
    inputs = {value.name for value in model.graph.input}
    if model.graph.sparse_initializer:
        raise ConfigError(f"{where} has sparse weights; write them as dense ones")
    for tensor in model.graph.initializer:
        value = _value(onnx, tensor, directory, where)
        if value.nbytes < _WEIGHT_BYTES or str(value.dtype) not in FLOATS_IN:
            is_external = tensor.data_location == onnx.TensorProto.EXTERNAL
            kept.append(onnx.numpy_helper.from_array(np.array(value), tensor.name) if is_external else tensor)
            continue
        found[tensor.name] = value
        if tensor.name not in inputs:  # old models list them there, too
            described = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(described)
    for described in model.graph.input:
        if described.name in found:  # what is there may be wrong
            tensor_type = described.type.tensor_type
            tensor_type.elem_type = onnx.helper.np_dtype_to_tensor_dtype(found[described.name].dtype)
            del tensor_type.shape.dim[:]
            for size in found[described.name].shape:
                tensor_type.shape.dim.add().dim_value = size
    copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
    del model.graph.initializer[:]
    model.graph.initializer.extend(copies)
    return found


def _value(onnx: Any, tensor: Any, directory: Path, where: str) -> Array:
    """An initializer; one with external data is a map of its file."""
    try:
        dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except KeyError as error:
        raise ConfigError(f"{where}: the type {tensor.data_type} of {tensor.name} is unknown") from error
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        try:
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{where}: the data of {tensor.name} does not have its shape: {error}") from error
    # Also because a map of objects would be one of addresses.
    if str(dtype) not in (*FLOATS_IN, *INTEGERS):
        raise ConfigError(f"{where}: {tensor.name} is external data of the type {dtype}, which is not read")
    at = {entry.key: entry.value for entry in tensor.external_data}
    try:
        path = (directory / at.get("location", "")).resolve()
        offset, shape = int(at.get("offset", 0)), tuple(tensor.dims)
        size = math.prod(shape) * dtype.itemsize
        if not path.is_relative_to(directory.resolve()):
            raise ValueError("it lies outside of the model's directory")
        if min(shape, default=0) < 0 or offset < 0 or int(at.get("length", size)) != size:
            raise ValueError(f"shape {shape} of {dtype}, offset {offset} and length {at.get('length')} do not match")
        if not path.is_file():
            raise ValueError("it is not a file")
        if offset + size > (there := path.stat().st_size):
            raise ValueError(f"it has {there} bytes of {offset + size}")
        return np.memmap(path, dtype, "c", offset, shape) if size else np.empty(shape, dtype)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{where}: the data of {tensor.name} cannot be read from {at.get('location')}: {error}"
        ) from error


def _reference(onnx: Any, path: Path, where: str) -> Callable[[Sequence[Array]], list[Array]]:
    def computed(inputs: Sequence[Array]) -> list[Array]:
        names = [v.name for v in _true_inputs(onnx.load(str(path), load_external_data=False))]
        given = dict(zip(names, inputs, strict=True))
        try:
            try:
                from onnxruntime import InferenceSession, SessionOptions
            except ImportError:
                from onnx.reference import ReferenceEvaluator

                found = ReferenceEvaluator(str(path)).run(None, given)
            else:
                options = SessionOptions()
                options.log_severity_level = 3
                found = InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, given)
        except Exception as error:  # those of ONNX Runtime have no other class in common
            raise ConfigError(f"{_referee()} cannot run {where}: {_last_line(error)}") from error
        return [np.asarray(x) for x in found]

    return computed


def _true_inputs(model: Any) -> list[Any]:
    initialized = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in initialized]


def _referee() -> str:
    try:
        import onnxruntime
    except ImportError:
        import onnx

        return f"ONNX's reference {onnx.__version__}"
    return f"ONNX Runtime {onnxruntime.__version__}"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
