"""A workload: one kernel to tune, with everything needed to time and check it.

A workload carries its IRModule (one PrimFunc ``main``, float32; the last parameter is the output), a reference, its
FLOP count and a tolerance.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tvm
from numpy.typing import NDArray

Array = NDArray[np.float32]
Reference = Callable[..., NDArray[np.float64]]


@dataclass(frozen=True)
class Workload:
    """One kernel at one shape."""

    name: str
    shape: dict[str, int]
    """Sizes by name, as configured in ``conf/workload``."""
    main: tvm.tirx.PrimFunc
    """The unoptimized program: inputs first, the output last."""
    reference: Reference
    """Inputs in parameter order (float64) -> expected output (float64)."""
    flop: int
    """Floating-point operations of the unoptimized program; a multiply-add counts as two."""
    rtol: float
    """Largest allowed max|out - reference| / max|reference|."""

    @cached_property
    def module(self) -> tvm.IRModule:
        """One PrimFunc ``main``; inputs first, the output last."""
        return tvm.IRModule({"main": self.main.with_attr("global_symbol", "main")})

    @cached_property
    def text(self) -> str:
        """The unoptimized program as TVMScript."""
        return str(self.module.script(show_meta=False))

    @cached_property
    def hash(self) -> str:
        """sha256 of the program text: independent of machine and Python version."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def parameter_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of all parameters in order, the output last."""
        return [tuple(int(n) for n in parameter.ty.shape) for parameter in self.main.params]

    @property
    def compulsory_bytes(self) -> int:
        """Bytes that any program must move: every input and the output, once."""
        return np.dtype(np.float32).itemsize * sum(math.prod(shape) for shape in self.parameter_shapes)

    def inputs(self) -> list[Array]:
        """Seeded standard normal inputs in parameter order (zeros would hide wrong indices)."""
        return [
            np.random.default_rng([2026, i]).standard_normal(shape, dtype=np.float32)
            for i, shape in enumerate(self.parameter_shapes[:-1])
        ]

    def expected(self, inputs: Sequence[Array]) -> NDArray[np.float64]:
        """The reference output for `inputs`, computed in float64."""
        return self.reference(*(x.astype(np.float64) for x in inputs))
