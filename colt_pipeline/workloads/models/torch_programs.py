"""Models of PyTorch: an exported program (``.pt2``), or a module with example inputs.

PyTorch is imported when a model needs it; the extra ``torch`` names it.
"""

from __future__ import annotations

import warnings
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
from colt_pipeline.workloads.models.rewrites import in_numpy
from colt_pipeline.workloads.workload import Array

if TYPE_CHECKING:
    import torch

_KEPT = ("scaled_dot_product_attention", "linear")
"""Operators that PyTorch would take apart into pieces that TVM does not fuse again."""


def read_exported(path: Path, where: str) -> Parts:
    """The model in a ``.pt2`` file.

    Raises:
        ConfigError: PyTorch is missing, the file holds no exported program, or TVM does not know one of its operators.
    """
    torch = required("torch", "torch", where)
    try:
        with quiet():
            program = torch.export.load(str(path))
    except (RuntimeError, ValueError, OSError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"{where} is not an archive of torch.export.save that this PyTorch {torch.__version__} reads: "
            f"{_first_line(error)}"
        ) from error
    return of_exported(program, where)


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
        files = required("safetensors.torch", "torch", where)
        try:
            module.load_state_dict(files.load_file(str(weights)), assign=True)
        except (RuntimeError, OSError, ValueError, files.SafetensorError) as error:
            raise ConfigError(
                f"workload.weights={weights} is not the state of {where}: {_first_line(error)}"
            ) from error
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
        raise ConfigError(f"{where} cannot be exported by torch.export: {_first_line(error)}") from error


def of_exported(program: torch.export.ExportedProgram, where: str) -> Parts:
    """An exported program as a Relax module.

    Raises:
        ConfigError: TVM does not know one of its operators.
    """
    import torch
    from tvm import relax
    from tvm.relax.frontend.torch import from_exported_program

    examples = program.example_inputs
    if examples is not None and examples[1]:
        raise ConfigError(f"{where} takes keyword arguments ({', '.join(examples[1])}); export it with positional ones")
    try:
        with quiet(), torch.no_grad():
            simpler = program.run_decompositions(_decompositions(torch))
            module = from_exported_program(simpler, keep_params_as_input=True, run_ep_decomposition=False)
    except (
        RuntimeError,
        ValueError,
        AssertionError,
        NotImplementedError,
        KeyError,
        AttributeError,
        TypeError,
    ) as error:
        raise ConfigError(f"{where} has an operator that TVM does not import: {_first_line(error)}") from error
    module, of_functions = relax.frontend.detach_params(module)
    weights = [in_numpy(tensor) for tensor in of_functions.get("main", ())]
    given = [array_of(x) for x in (examples[0] if examples is not None else ()) if isinstance(x, torch.Tensor)]
    return Parts(module, weights, _reference(program.module()), f"PyTorch {torch.__version__}", tuple(given) or None)


def _decompositions(torch: Any) -> Mapping[Any, Callable[..., Any]]:
    table = torch.export.default_decompositions()
    for name in _KEPT:
        table.pop(getattr(torch.ops.aten, name).default, None)
    found: Mapping[Any, Callable[..., Any]] = table
    return found


def _reference(module: Any) -> Callable[[Sequence[Array]], list[Array]]:
    def computed(inputs: Sequence[Array]) -> list[Array]:
        import torch

        with torch.no_grad():
            return [array_of(x) for x in flat(module(*map(tensor_of, inputs)))]

    return computed


def flat(outputs: Any) -> list[Any]:
    """The tensors among a module's outputs, in the order in which PyTorch's export returns them."""
    import torch
    from torch.utils import _pytree

    return [x for x in _pytree.tree_leaves(outputs) if isinstance(x, torch.Tensor)]


def array_of(tensor: torch.Tensor) -> Array:
    """The tensor as an array, without a copy where it is contiguous on the CPU."""
    plain = tensor.detach().cpu().contiguous()
    name = str(plain.dtype).removeprefix("torch.")
    if name in SPECIAL:  # NumPy has no such type
        import torch

        return plain.view(torch.uint8 if plain.element_size() == 1 else torch.int16).numpy().view(numpy_dtype(name))
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
    """Without the warnings of PyTorch about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


__all__ = ["array_of", "flat", "of_exported", "of_module", "read_exported", "tensor_of"]
assert tvm  # imported before PyTorch: tvm_ffi decides then how tensors are exchanged
