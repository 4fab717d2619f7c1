"""Files that hold a user's own model.

================  ====================================================================================================
``.onnx``         ONNX, with external data if there is any; needs the extra ``onnx``
``.pt2``          an archive of ``torch.export.save``; needs the extra ``torch``
``.py``           Python, which is **executed**: a Relax module, or a function without arguments that returns a Relax
                  module, or a ``torch.nn.Module`` and example inputs (and, if sizes are dynamic, ``dynamic_shapes``)
other             a Relax module as JSON (``tvm.ir.save_json``)
================  ====================================================================================================

Only a .py file can execute code: of a .pt2 file nothing but tensors is unpickled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import relax

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.models.model import Model, bound
from colt_pipeline.workloads.models.onnx_files import read_onnx
from colt_pipeline.workloads.models.relax_programs import Parts, of_relax
from colt_pipeline.workloads.models.torch_programs import of_exported, of_module, read_exported
from colt_pipeline.workloads.models.unscheduled import run_unscheduled
from colt_pipeline.workloads.program_files import EXECUTED_AS, executed, loaded, source_text
from colt_pipeline.workloads.workload import Array


def read_model(
    name: str, path: Path, function: str | None, sizes: Mapping[str, int], weights: Path | None = None
) -> Model:
    """The model in a file.

    Args:
        name: what to call it.
        path: the file.
        function: which of its functions; None = the only one.
        sizes: symbolic sizes.
        weights: a file with weights by name, for modules without values.

    Raises:
        ConfigError: the file holds no such model; the message says why, and what to do.
    """
    where = f"workload.source={path}"
    if not path.is_file():
        raise ConfigError(f"{where} is not a file")
    if path.suffix in _WHOLE and function is not None:
        raise ConfigError(f"workload.function={function} is for .py files and Relax modules; {where} holds one model")
    if path.suffix in _WHOLE and weights is not None:
        raise ConfigError(f"workload.weights={weights} is for .py files and Relax modules; {where} has weights")
    if path.suffix == ".onnx":
        parts, sizes = read_onnx(path, where, sizes), {}
    elif path.suffix == ".pt2":
        parts = read_exported(path, where)
    elif path.suffix == ".py":
        parts = _of_python(path, function, weights, where)
    else:
        parts = _of_json(path, function, weights, where)
    return of_parts(name, parts, sizes, where)


_WHOLE = (".onnx", ".pt2")
"""Endings of files that hold one model with its weights."""


def of_parts(name: str, parts: Parts, sizes: Mapping[str, int], where: str) -> Model:
    """The model with values for its symbolic sizes.

    Raises:
        ConfigError: a size is unknown or missing.
    """
    module = bound(parts.module, sizes, where)
    weights = parts.weights

    def reference(inputs: Sequence[Array]) -> list[Array]:
        if parts.reference is not None:
            return parts.reference(inputs)
        return run_unscheduled(module, [*inputs, *weights])

    return Model(name, module, lambda: weights, reference, parts.referee, parts.examples)


def _of_json(path: Path, function: str | None, weights: Path | None, where: str) -> Parts:
    found = loaded(source_text(path, where), where)
    if not isinstance(found, tvm.IRModule) or not _has_relax(found):
        raise ConfigError(f"{where} holds no Relax module; a model is .onnx, .pt2, .py, or JSON of tvm.ir.save_json")
    return of_relax(found, function, weights, where)


def _of_python(path: Path, function: str | None, weights: Path | None, where: str) -> Parts:
    with executed(path, where, source_text(path, where)) as objects:
        modules = [name for name, value in objects.items() if isinstance(value, tvm.IRModule) and _has_relax(value)]
        functions = [name for name, value in objects.items() if _is_own_function(value) and not name.startswith("_")]
        if function in objects:
            chosen, function = function, None
        elif len(modules or functions) == 1:
            (chosen,) = modules or functions
        else:
            raise ConfigError(
                f"{where} must hold one Relax module, or one function that returns a model; it holds "
                f"{', '.join([*modules, *functions]) or 'neither'}; choose one with workload.function=NAME"
            )
        value = objects[chosen]
        if not isinstance(value, tvm.IRModule):
            value = _returned(value, f"{where}, {chosen}")
    return _of_value(value, function, weights, f"{where}, {chosen}")


def _returned(function: Any, where: str) -> Any:
    try:
        return function()
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise ConfigError(f"{where} raised {type(error).__name__}: {str(error)[:300]}") from error


def _of_value(value: Any, function: str | None, weights: Path | None, where: str) -> Parts:
    """What a .py file holds, or a function of it returned."""
    if isinstance(value, tvm.IRModule):
        return of_relax(value, function, weights, where)
    if type(value).__name__ == "ExportedProgram":
        return of_exported(value, where)
    if isinstance(value, tuple) and len(value) in (2, 3) and hasattr(value[0], "state_dict"):
        module, examples, *dynamic = value
        examples = examples if isinstance(examples, tuple | list) else (examples,)
        return of_module(module, examples, where, dynamic[0] if dynamic else None, weights)
    raise ConfigError(
        f"{where} returned {type(value).__name__}; return a Relax module, or a torch.nn.Module and its example inputs "
        "(MODULE, (INPUT, ...))"
    )


def _is_own_function(value: Any) -> bool:
    return callable(value) and getattr(value, "__module__", None) == EXECUTED_AS and not isinstance(value, type)


def _has_relax(module: tvm.IRModule) -> bool:
    return any(isinstance(f, relax.Function) for f in module.functions.values())
