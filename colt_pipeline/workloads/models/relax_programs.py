"""Models as Relax modules, with their weights as constants or in a file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm
from tvm import relax

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.data import numpy_dtype
from colt_pipeline.workloads.models.model import NUM_INPUT
from colt_pipeline.workloads.models.packages import required
from colt_pipeline.workloads.models.rewrites import inputs_first
from colt_pipeline.workloads.workload import Array

MAIN = "main"


@dataclass(frozen=True)
class Parts:
    """What a file says about a model, before its sizes are bound."""

    module: tvm.IRModule
    """One Relax function ``main``(inputs, weights)."""
    weights: Sequence[Array]
    reference: Callable[[Sequence[Array]], list[Array]] | None
    """None = the model itself, as it is."""
    referee: str
    examples: tuple[Array, ...] | None


def of_relax(module: tvm.IRModule, function: str | None, weights: Path | None, where: str) -> Parts:
    """A Relax module; those of its parameters that a file has are its weights.

    Raises:
        ConfigError: it has no such function, or several, or the file does not fit.
    """
    models = {var.name_hint: f for var, f in module.functions.items() if isinstance(f, relax.Function)}
    public = [name for name, f in models.items() if (f.attrs or {}).get("global_symbol")] or list(models)
    if function is not None and function not in models:
        raise ConfigError(f"workload.function={function} is not in {where}, which holds {', '.join(models) or 'none'}")
    if function is None and len(public) != 1:
        raise ConfigError(
            f"{where} holds several Relax functions; choose one with workload.function: {', '.join(public)}"
        )
    name = public[0] if function is None else function
    if name != MAIN:
        module = _renamed(module, name)
    main = module[MAIN]
    values = {} if weights is None else _values(weights, where)
    count = (main.attrs or {}).get(NUM_INPUT)
    if weights is None:
        if count is not None and int(count) < len(main.params):
            raise ConfigError(
                f"{where} has {len(main.params) - int(count)} weights as parameters (num_input={int(count)}); give "
                "their values with workload.weights=FILE.safetensors or .npz"
            )
        return Parts(inputs_first(module, range(len(main.params))), [], None, "TVM, unscheduled", None)
    needed = {p.name for p in main.params} if count is None else {p.name for p in main.params[int(count) :]}
    chosen = {name: value for name, value in values.items() if name in needed}
    if count is not None and (missing := sorted(needed - chosen.keys())):
        raise ConfigError(f"workload.weights={weights} lacks {', '.join(missing)} of {where}")
    module = inputs_first(module, [i for i, p in enumerate(main.params) if p.name not in chosen])
    main = module[MAIN]
    ordered = []
    for parameter in main.params[int(main.attrs[NUM_INPUT]) :]:
        value, shape = chosen[parameter.name], tuple(int(n) for n in parameter.ty.shape)
        if value.shape != shape or value.dtype != numpy_dtype(str(parameter.ty.dtype)):
            raise ConfigError(
                f"workload.weights={weights}: {parameter.name} has shape {value.shape} and type {value.dtype}; {where} "
                f"needs {shape} and {parameter.ty.dtype}"
            )
        ordered.append(value)
    return Parts(module, ordered, None, "TVM, unscheduled", None)


def _renamed(module: tvm.IRModule, name: str) -> tvm.IRModule:
    """The module with the function `name` as ``main``, and no other Relax function that nothing calls."""
    out = tvm.IRModule({var: f for var, f in module.functions.items() if var.name_hint != name})
    out[MAIN] = module[name].with_attr("global_symbol", MAIN)
    return out


def _values(path: Path, where: str) -> dict[str, Array]:
    if path.suffix == ".npz":
        try:
            with zipfile.ZipFile(path), np.load(path) as file:
                return {name: file[name] for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ConfigError(f"workload.weights={path} cannot be read as .npz: {error}") from error
    files = required("safetensors.numpy", "torch", where)
    unreadable = required("safetensors", "torch", where).SafetensorError
    try:
        return dict(files.load_file(str(path)))
    except (OSError, ValueError, unreadable) as error:
        raise ConfigError(f"workload.weights={path} cannot be read as .safetensors: {error}") from error
