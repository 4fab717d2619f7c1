"""A whole model: a Relax function of inputs and weights, the weights, and what it should compute."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tvm
from tvm import relax

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.data import SEED, numpy_dtype, random_values
from colt_pipeline.workloads.workload import Array, Parameter

NUM_INPUT = "num_input"
"""TVM's attribute of a Relax function: how many of its parameters are inputs; those after them are weights."""

_TAKE = tvm.ir.Op.get("relax.take")


@dataclass(frozen=True, eq=False)
class Model:
    """A model with the sizes of its inputs."""

    name: str
    module: tvm.IRModule
    """One Relax function ``main``(inputs, weights)."""
    weights: Callable[[], Sequence[Array]]
    """Its weights in order. They may be maps of files, so that what is not read takes no memory."""
    reference: Callable[[Sequence[Array]], list[Array]]
    """Inputs -> what the model should compute."""
    referee: str
    """What computes that, such as PyTorch."""
    examples: tuple[Array, ...] | None = None
    """Inputs that came with the model; None = random ones."""
    as_is: bool = False
    """Whether it is split as it was written, without rewrites."""

    @cached_property
    def inputs_of_main(self) -> tuple[Parameter, ...]:
        """The inputs, without the weights."""
        main = self.module["main"]
        return tuple(Parameter.of(p) for p in main.params[: int(main.attrs[NUM_INPUT])])

    def inputs(self) -> list[Array]:
        """The examples if they fit the sizes, or else seeded random values.

        Raises:
            ConfigError: there are no random values of such a type.
        """
        wanted = [(p.shape, numpy_dtype(p.dtype)) for p in self.inputs_of_main]
        if self.examples is not None and [(x.shape, x.dtype) for x in self.examples] == wanted:
            return list(self.examples)
        limits = _index_limits(self.module["main"])
        return [
            np.asarray(random_values(p.shape, p.dtype, np.random.default_rng([SEED, i]), limits.get(i)))
            for i, p in enumerate(self.inputs_of_main)
        ]


def _index_limits(main: relax.Function) -> dict[int, int]:
    """Position of a parameter -> how many rows there are where it says which to take."""
    positions = {p: i for i, p in enumerate(main.params)}
    made = {binding.var: binding.value for block in main.body.blocks for binding in block.bindings}
    found: dict[int, int] = {}
    for call in made.values():
        if not isinstance(call, relax.Call) or not call.op.same_as(_TAKE) or call.args[0].ty.shape is None:
            continue
        rows = call.args[0].ty.shape[0 if call.attrs.axis is None else int(call.attrs.axis)]
        seen, open_values = set(), [call.args[1]]
        while open_values:
            value = open_values.pop()
            if isinstance(value, relax.Var) and value in seen:
                continue
            if value in positions and isinstance(rows, tvm.tirx.IntImm):
                found[positions[value]] = min(int(rows), found.get(positions[value], int(rows)))
            elif isinstance(value, relax.Var):
                seen.add(value)
                open_values.append(made.get(value))
            elif isinstance(value, relax.Call):  # what computes an index of an integer
                open_values += [x for x in value.args if isinstance(x.ty, relax.TensorType) and _is_integer(x)]
    return found


def _is_integer(value: relax.Expr) -> bool:
    return str(value.ty.dtype).startswith(("int", "uint", "bool"))


def bound(module: tvm.IRModule, sizes: Mapping[str, int], where: str) -> tvm.IRModule:
    """The module with values for the symbolic sizes of its inputs.

    Raises:
        ConfigError: a size is unknown, missing or out of bounds, or a parameter is not a tensor; the message names it.
    """
    main = module["main"]
    symbolic: dict[str, list[str]] = {}
    for parameter in main.params:
        if not isinstance(parameter.ty, relax.TensorType) or parameter.ty.shape is None:
            raise ConfigError(f"{where}: the parameter {parameter.name} must be a tensor of known dimensions")
        for at, size in enumerate(parameter.ty.shape):
            for var in tvm.tirx.analysis.undefined_vars(size):
                symbolic.setdefault(str(var.name), []).append(f"dimension {at} of {parameter.name}")
    check_sizes(symbolic, sizes, where)
    attributes = main.attrs or {}
    for name, value in sizes.items():
        least, most = (attributes.get(f"tir_var_{end}_bound", {}).get(name) for end in ("lower", "upper"))
        if (least is not None and value < int(least)) or (most is not None and value > int(most)):
            limits = f"at least {least}" if most is None else f"from {least} to {most}"
            raise ConfigError(f"workload.bind.{name}={value}: the model in {where} was exported for sizes {limits}")
    return relax.transform.BindSymbolicVars(dict(sizes), "main")(module) if sizes else module


def check_sizes(symbolic: Mapping[str, Sequence[str]], sizes: Mapping[str, int], where: str) -> None:
    """Each symbolic size, of which `symbolic` says where it is, has a value.

    Raises:
        ConfigError: a size is unknown, missing or below one; the message names them.
    """
    if unknown := [name for name in sizes if name not in symbolic]:
        has = f"has the symbolic sizes {', '.join(symbolic)}" if symbolic else "has no symbolic size"
        raise ConfigError(f"workload.bind.{unknown[0]}={sizes[unknown[0]]}: the model in {where} {has}")
    if missing := [name for name in symbolic if name not in sizes]:
        named = "; ".join(f"{name} ({', '.join(symbolic[name])})" for name in missing)
        raise ConfigError(
            f"{where}: symbolic sizes without a value: {named}; bind them, for example with "
            + " ".join(f"workload.bind.{name}=8" for name in missing)
        )
    if small := [name for name, value in sizes.items() if value < 1]:
        raise ConfigError(f"workload.bind.{small[0]}={sizes[small[0]]}: sizes must be at least 1")
