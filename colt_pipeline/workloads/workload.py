"""A workload: one kernel to tune, with everything needed to time and check it.

A workload carries its IRModule (one PrimFunc ``main`` with any number of inputs and outputs), a reference, its FLOP
count and a tolerance for each output.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray

from colt_pipeline.workloads.data import SEED, given_values, numpy_dtype, random_values
from colt_pipeline.workloads.indices import index_limits

Array = NDArray[Any]
Reference = Callable[..., Sequence[Array]]
"""Inputs in parameter order -> expected outputs in parameter order."""
CONSTANTS = "layout_free_buffers"
"""TVM's attribute of a function: positions of inputs that never change, so that a schedule may choose their layout."""


@dataclass(frozen=True)
class Parameter:
    """One buffer that a kernel is called with."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """TVM's name of the type, such as ``bfloat16``."""

    @classmethod
    def of(cls, parameter: tvm.tirx.Var) -> Parameter:
        """What TVM says about a parameter, all of whose sizes are known."""
        return cls(parameter.name, tuple(int(n) for n in parameter.ty.shape), str(parameter.ty.dtype))

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * numpy_dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Workload:
    """One kernel at one shape."""

    name: str
    shape: dict[str, int]
    """Sizes by name, as configured in ``conf/workload``; of a user's own kernel those that were bound."""
    main: tvm.tirx.PrimFunc
    """The unoptimized program."""
    reference: Reference
    flop: int
    """Floating-point operations of the unoptimized program; a multiply-add counts as two."""
    rtols: tuple[float, ...]
    """For each output, the largest allowed max|out - reference| / max|reference|."""
    is_own: bool = False
    """Whether a user brought it, so that only `main` can rebuild it; the others are rebuilt from name and shape."""
    inputs_file: Path | None = None
    """The user's own inputs (``.npz``); None = random ones."""

    @cached_property
    def module(self) -> tvm.IRModule:
        """One PrimFunc ``main``."""
        return tvm.IRModule({"main": self.main.with_attr("global_symbol", "main")})

    @cached_property
    def text(self) -> str:
        """The unoptimized program as TVMScript."""
        return str(self.module.script(show_meta=False))

    @cached_property
    def hash(self) -> str:
        """sha256 of the program text: independent of machine and Python version."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """All parameters in order."""
        return tuple(Parameter.of(p) for p in self.main.params)

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """Positions of the parameters that the program writes."""
        return written(self.main)

    @property
    def constants(self) -> tuple[int, ...]:
        """Positions of the inputs that never change, see `packing`."""
        return tuple(int(i) for i in (self.main.attrs or {}).get(CONSTANTS, ()))

    @property
    def inputs_at(self) -> tuple[int, ...]:
        """Positions of the other parameters."""
        return tuple(i for i in range(len(self.parameters)) if i not in self.outputs)

    @property
    def rtol(self) -> float:
        """The largest of the tolerances."""
        return max(self.rtols)

    @property
    def compulsory_bytes(self) -> int:
        """Bytes that any program must move: every input and output, once."""
        return sum(parameter.bytes for parameter in self.parameters)

    def inputs(self) -> list[Array]:
        """Inputs in parameter order: the user's, or seeded random ones (zeros would hide wrong indices), of which
        those that are used as indices stay within what they index.

        Raises:
            ConfigError: the user's file does not have an array of the right shape and type for each input.
        """
        wanted = [(i, self.parameters[i]) for i in self.inputs_at]
        if self.inputs_file is not None:
            return given_values(self.inputs_file, [(p.name, p.shape, p.dtype) for _, p in wanted])
        limits = index_limits(self.main)
        return [random_values(p.shape, p.dtype, np.random.default_rng([SEED, i]), limits.get(i)) for i, p in wanted]

    def expected(self, inputs: Sequence[Array]) -> list[Array]:
        """The reference outputs for `inputs`."""
        return list(self.reference(*inputs))


def written(main: tvm.tirx.PrimFunc) -> tuple[int, ...]:
    """Positions of the parameters that a program stores to."""
    found: set[int] = set()

    def store(node: Any) -> None:
        found.update(i for i, p in enumerate(main.params) if p.same_as(node.buffer))

    tvm_ffi.structural_walk(main.body, [(tvm.tirx.BufferStore, store)])
    return tuple(sorted(found))


def in_float64(reference: Callable[..., NDArray[np.float64]]) -> Reference:
    """A reference with one output that computes in float64, whatever the inputs' type."""
    return lambda *inputs: (reference(*(x.astype(np.float64) for x in inputs)),)
