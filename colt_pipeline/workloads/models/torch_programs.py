"""Models of PyTorch: an exported program (``.pt2``), or a module with example inputs.

PyTorch is imported when a model needs it; the extra ``torch`` names it.
"""

from __future__ import annotations

import logging
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tvm

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.data import SPECIAL, numpy_dtype
from colt_pipeline.workloads.models.packages import required
from colt_pipeline.workloads.models.relax_programs import Parts
from colt_pipeline.workloads.models.torch_operators import CONVERT
from colt_pipeline.workloads.workload import Array

if TYPE_CHECKING:
    import torch

_KEPT = ("scaled_dot_product_attention", "linear")
"""Operators that PyTorch would take apart into pieces that TVM does not fuse again."""
_CONSTANT = re.compile(r"tensor_\w+|\w+\.json|")
"""Names of an archive's constants that are tensors, and of their list."""
_SAFE, _UNSAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


def read_exported(path: Path, where: str) -> Parts:
    """The model in a ``.pt2`` file.

    Raises:
        ConfigError: PyTorch is missing, the file holds no exported program, or TVM does not know one of its operators.
    """
    torch = required("torch", "torch", where)
    try:
        _refuse_objects(path, where)
        with quiet(), _only_tensors():
            program = torch.export.load(str(path))
    except (
        RuntimeError,
        ValueError,
        OSError,
        LookupError,
        AttributeError,
        TypeError,
        AssertionError,
        EOFError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as error:
        raise ConfigError(
            f"{where} is not an archive of torch.export.save that this PyTorch {torch.__version__} reads: "
            f"{_said(error)}"
        ) from error
    return of_exported(program, where)


def _refuse_objects(path: Path, where: str) -> None:
    """An archive may hold pickled objects beside its tensors, which would execute code."""
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            _, is_constant, file = name.lower().partition("/constants/")
            if is_constant and not _CONSTANT.fullmatch(file):
                raise ConfigError(f"{where} holds {name}, not a tensor; only tensors are read from a .pt2 file")


@contextmanager
def _only_tensors() -> Iterator[None]:
    """PyTorch unpickles nothing but tensors: what `torch.export.load` calls would execute code otherwise."""
    before = {name: os.environ.pop(name, None) for name in (_SAFE, _UNSAFE)}
    os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        del os.environ[_SAFE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def of_module(
    module: torch.nn.Module,
    examples: Sequence[Any],
    where: str,
    dynamic_shapes: Any = None,
    weights: Path | None = None,
) -> Parts:
    """A module, exported with these example inputs.

    Args:
        module: the module; it may be on PyTorch's device ``meta`` if `weights` has its weights.
        examples: inputs in order.
        where: what messages call it.
        dynamic_shapes: as `torch.export.export` takes them.
        weights: a ``.safetensors`` file with its state.

    Raises:
        ConfigError: a package is missing, the module cannot be exported or does not have these weights, or TVM does not
            know one of its operators.
    """
    required("torch", "torch", where)
    if weights is not None:
        _load(module, weights, where)
    if lacking := [name for name, value in module.state_dict().items() if value.device.type == "meta"]:
        raise ConfigError(
            f"{where} is on the device meta, so that {lacking[0]} has no values; give them with "
            "workload.weights=FILE.safetensors"
        )
    return of_exported(exported(module, examples, where, dynamic_shapes), where)


def exported(module: torch.nn.Module, examples: Sequence[Any], where: str, dynamic_shapes: Any = None) -> Any:
    """The exported program of a module, for inference.

    Raises:
        ConfigError: it cannot be exported.
    """
    import torch

    try:
        with quiet(), torch.no_grad():
            return torch.export.export(module.eval(), tuple(examples), dynamic_shapes=dynamic_shapes)
    except Exception as error:  # whatever the user's module raises
        raise ConfigError(f"{where} cannot be exported by torch.export: {_said(error)}") from error


def _load(module: torch.nn.Module, weights: Path, where: str) -> None:
    """Give a module the state in a file, of which a tensor that has several names may be there under one."""
    if weights.suffix != ".safetensors":
        raise ConfigError(f"workload.weights={weights} of a torch.nn.Module must be a .safetensors file")
    files = required("safetensors.torch", "torch", where)
    unreadable = required("safetensors", "torch", where).SafetensorError
    try:
        values = files.load_file(str(weights))
        own = module.state_dict(keep_vars=True)
        there = {id(own[name]): value for name, value in values.items() if name in own}
        values |= {name: there[id(x)] for name, x in own.items() if name not in values and id(x) in there}
        with quiet():
            module.load_state_dict(values, assign=True)
    except (RuntimeError, OSError, ValueError, unreadable) as error:
        raise ConfigError(f"workload.weights={weights} is not the state of {where}: {_said(error)}") from error


def of_exported(program: torch.export.ExportedProgram, where: str) -> Parts:
    """An exported program as a Relax module.

    Raises:
        ConfigError: TVM does not know one of its operators.
    """
    import torch
    from tvm import relax
    from tvm.relax.frontend.torch import from_exported_program

    for spec in program.graph_signature.input_specs:
        if (
            spec.kind.name == "USER_INPUT"
            and type(spec.arg).__name__ == "ConstantArgument"
            and spec.arg.value is not None
        ):
            raise ConfigError(f"{where} takes {spec.arg.name}, a Python {type(spec.arg.value).__name__}; pass a tensor")
    for spec in program.graph_signature.output_specs:
        if spec.kind.name.endswith("MUTATION"):
            raise ConfigError(f"{where} changes {spec.target} while it runs; make a new tensor of it instead")
    examples = program.example_inputs
    if examples is not None and examples[1]:
        raise ConfigError(f"{where} takes keyword arguments ({', '.join(examples[1])}); export it with positional ones")
    try:
        with quiet(), torch.no_grad():
            simpler = program.run_decompositions(_decompositions(torch))
            module = from_exported_program(
                simpler,
                keep_params_as_input=True,
                run_ep_decomposition=False,
                custom_convert_map=CONVERT,
            )
    except (
        RuntimeError,
        ValueError,
        AssertionError,
        LookupError,
        AttributeError,
        TypeError,
    ) as error:
        raise ConfigError(f"TVM cannot import {where}: {_said(error)}") from error
    module, _ = relax.frontend.detach_params(module)  # they are copies
    weights = [array_of(tensor) for tensor in _weights(simpler)]
    given = () if examples is None else examples[0]
    arrays = tuple(map(array_of, flat(given)))
    reference = _reference(program.module(), given)
    return Parts(module, weights, reference, f"PyTorch {torch.__version__}", arrays or None)


def _weights(program: torch.export.ExportedProgram) -> Iterator[torch.Tensor]:
    """The parameters in the order in which the program takes them; TVM makes constants of buffers."""
    for spec in program.graph_signature.input_specs:
        if spec.kind.name == "PARAMETER":
            yield program.state_dict[spec.target]


def _decompositions(torch: Any) -> Mapping[Any, Callable[..., Any]]:
    table = torch.export.default_decompositions()
    for name in _KEPT:
        table.pop(getattr(torch.ops.aten, name).default, None)
    found: Mapping[Any, Callable[..., Any]] = table
    return found


def _reference(module: Any, examples: Sequence[Any]) -> Callable[[Sequence[Array]], list[Array]]:
    """What runs a module; arguments that are not tensors stay as in the examples."""

    def computed(inputs: Sequence[Array]) -> list[Array]:
        import torch
        from torch.utils import _pytree

        given = iter([tensor_of(x) for x in inputs])
        leaves, form = _pytree.tree_flatten(tuple(examples))
        arguments = _pytree.tree_unflatten([next(given) if isinstance(x, torch.Tensor) else x for x in leaves], form)
        with torch.no_grad():
            return [array_of(x) for x in flat(module(*arguments, *given))]

    return computed


def flat(values: Any) -> list[Any]:
    """The tensors among a module's outputs or arguments, in the order of PyTorch's export."""
    import torch
    from torch.utils import _pytree

    return [x for x in _pytree.tree_leaves(values) if isinstance(x, torch.Tensor)]


def array_of(tensor: torch.Tensor) -> Array:
    """The tensor as an array, without a copy where it is contiguous on the CPU."""
    plain = tensor.detach().cpu().contiguous()
    name = str(plain.dtype).removeprefix("torch.")
    if name in SPECIAL:  # NumPy has no such type
        import torch

        plain, own = plain.view(torch.uint8 if plain.element_size() == 1 else torch.int16), numpy_dtype(name)
        special: Array = plain.numpy().view(own)
        return special
    found: Array = plain.numpy()
    return found


def tensor_of(array: Array) -> torch.Tensor:
    """The array as a tensor."""
    import torch

    if str(array.dtype) in SPECIAL:
        bits = torch.from_numpy(array.view(np.uint8 if array.itemsize == 1 else np.int16))
        return bits.view(getattr(torch, str(array.dtype)))
    return torch.from_numpy(array if array.flags.writeable else array.copy())


@contextmanager
def quiet() -> Iterator[None]:
    """Without what PyTorch warns of and logs; its errors say what is wrong."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _said(error: Exception) -> str:
    """The first line of a message, and the one after it where the first only introduces it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    count = 2 if lines and lines[0].endswith(":") else 1
    return " ".join(lines[:count])[:300] if lines else type(error).__name__


__all__ = ["array_of", "flat", "of_exported", "of_module", "read_exported", "tensor_of"]
assert tvm  # imported before PyTorch: tvm_ffi decides then how tensors are exchanged
