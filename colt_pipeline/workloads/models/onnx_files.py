"""Models in ONNX files. The extra ``onnx`` names the packages; large weights stay in their files until used."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.models.packages import required
from colt_pipeline.workloads.models.relax_programs import Parts
from colt_pipeline.workloads.models.rewrites import inputs_first
from colt_pipeline.workloads.workload import Array

_WEIGHT_BYTES = 1024
"""Initializers of at least this size become parameters; smaller ones may be shapes, which must be constants."""
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


def read_onnx(path: Path, where: str) -> Parts:
    """The model in an ONNX file.

    Raises:
        ConfigError: a package is missing, the file is no ONNX model or lacks data, or TVM does not know an operator.
    """
    onnx = required("onnx", "onnx", where)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # what protobuf raises depends on its implementation
        raise ConfigError(f"{where} is not an ONNX model: {error}") from error
    weights = _weights_apart(onnx, model, path.parent, where)
    names = {_sanitized(name) for name in weights}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names that are no identifiers are changed
            from tvm.relax.frontend.onnx import from_onnx

            module = from_onnx(model)
    except tvm.error.OpNotImplemented as error:
        raise ConfigError(f"{where} has an operator that TVM does not import: {_last_line(error)}") from error
    except _ERRORS as error:
        raise ConfigError(f"TVM cannot import {where}: {_last_line(error)}") from error
    module, _ = inputs_first(module, lambda name: name not in names)
    in_order = {_sanitized(name): weights[name] for name in weights}
    main = module["main"]
    given = [in_order[p.name] for p in main.params[int(main.attrs["num_input"]) :]]
    return Parts(module, given, _reference(onnx, path), _referee(), None)


def _weights_apart(onnx: Any, model: Any, directory: Path, where: str) -> dict[str, Array]:
    """Turn large initializers into inputs of the graph, and return their values."""
    found: dict[str, Array] = {}
    kept = []
    inputs = {value.name for value in model.graph.input}
    for tensor in model.graph.initializer:
        value = _value(onnx, tensor, directory, where)
        if value.nbytes < _WEIGHT_BYTES or value.dtype.kind not in "fV":
            kept.append(onnx.numpy_helper.from_array(np.array(value), tensor.name))
            continue
        found[tensor.name] = value
        if tensor.name not in inputs:  # old models list them there, too
            described = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            model.graph.input.append(described)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    return found


def _value(onnx: Any, tensor: Any, directory: Path, where: str) -> Array:
    """An initializer; one with external data is a map of its file."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    at = {entry.key: entry.value for entry in tensor.external_data}
    path = (directory / at.get("location", "")).resolve()
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    try:
        offset = int(at.get("offset", 0))
        if not path.is_relative_to(directory.resolve()):
            raise ValueError("it lies outside of the model's directory")
        return np.memmap(path, dtype, "c", offset, tuple(tensor.dims))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{where}: the data of {tensor.name} cannot be read from {at.get('location')}: {error}"
        ) from error


def _sanitized(name: str) -> str:
    """The name that TVM's importer gives to an input."""
    plain = name.removeprefix("onnx::").replace(".", "_")
    return plain if plain[:1].isalpha() or plain.startswith("_") else f"input_{plain}"


def _reference(onnx: Any, path: Path) -> Callable[[Sequence[Array]], list[Array]]:
    def computed(inputs: Sequence[Array]) -> list[Array]:
        names = [v.name for v in _true_inputs(onnx.load(str(path), load_external_data=False))]
        given = dict(zip(names, inputs, strict=True))
        try:
            from onnxruntime import InferenceSession
        except ImportError:
            from onnx.reference import ReferenceEvaluator

            return [np.asarray(x) for x in ReferenceEvaluator(str(path)).run(None, given)]
        session = InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return [np.asarray(x) for x in session.run(None, given)]

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
