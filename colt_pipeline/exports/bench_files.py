"""Programs that load an exported library, run it, check what it computes and time it, and the data that they need."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from colt_pipeline.exports.library import LIBRARY, identifier, packing
from colt_pipeline.exports.rendering import render
from colt_pipeline.measurement.bench import Packed
from colt_pipeline.workloads.data import SEED, is_float, random_values
from colt_pipeline.workloads.workload import Array, Workload

RUN = "run.py"
MAIN = "main.cc"
PROGRAM = "main"
"""What the build line of `MAIN` makes."""
_HERE = "import importlib.util, os; print(os.path.dirname(importlib.util.find_spec('tvm').origin))"
BUILD = (
    "python run.py --save-inputs",
    f'TVM_LIB=$(python -c "{_HERE}")/lib',
    "FFI_LIB=$(python -m tvm_ffi.config --libdir)",
    "g++ -O2 main.cc -o main $(python -m tvm_ffi.config --cxxflags) -L$FFI_LIB -ltvm_ffi \\",
    "  -L$TVM_LIB -Wl,--no-as-needed -ltvm_runtime -Wl,-rpath,$FFI_LIB:$TVM_LIB",
)
"""The commands that build `PROGRAM`."""
DATA = "data"
WHOLE_BYTES = 64 << 20
"""Size up to which a reference is kept whole."""
SAMPLED = 1 << 18
"""Elements of a larger one that are kept."""


@dataclass(frozen=True)
class Buffer:
    """One parameter of the kernel, as the programs know it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str
    """Its values, or those that are expected, below `DATA`."""
    rtol: float | None
    """The tolerance of an output; None for an input."""
    sample: str
    """File of the positions of those elements of an output that are checked; "" = all are."""
    sha256: str
    """Of a random input's bytes; "" for others."""
    packed: tuple[int, ...] | None = None
    """Shape of the packed form that the kernel takes in place of this input, if it is packed ahead."""

    @property
    def wide(self) -> bool:
        """Whether expected values are stored as float64 rather than as float32."""
        return stored(self.dtype) == np.float64


def write_bench(directory: Path, workload: Workload, function: str, threads: int, packed: Packed = ()) -> list[Buffer]:
    """Write the programs, what they compare with, and the inputs that are not random.

    Args:
        directory: where to.
        workload: the kernel.
        function: its name in the library.
        threads: as tuned.
        packed: its inputs that are packed ahead, see `packing.Split`.

    Returns:
        The kernel's parameters.
    """
    data = directory / DATA
    data.mkdir()
    inputs = workload.inputs()
    expected = iter(zip(workload.outputs, workload.expected(inputs), workload.rtols, strict=True))
    given = dict(zip(workload.inputs_at, inputs, strict=True))
    outputs = {position: (values, rtol) for position, values, rtol in expected}
    buffers, forms = [], {position: form.shape for position, form in packed}
    for position, parameter in enumerate(workload.parameters):
        name = f"{position}_{identifier(parameter.name)}"
        known = (parameter.name, parameter.shape, parameter.dtype, f"{name}.npy")
        if position in outputs:
            values, rtol = outputs[position]
            sample = keep(data, name, values, parameter.dtype)
            buffers.append(Buffer(*known, rtol, sample, ""))
        else:
            sha256 = random_digest(data, position, name, given[position], parameter.dtype)
            buffers.append(Buffer(*known, None, "", sha256, forms.get(position)))
    constants: dict[str, Any] = {"function": function, "threads": threads, "library": LIBRARY, "buffers": buffers}
    constants |= {"name": function, "pack": packing(function) if packed else None, "build": BUILD, "seed": SEED}
    (directory / RUN).write_text(render("run.py.j2", **constants, rows=[asdict(each) for each in buffers]))
    (directory / MAIN).write_text(render("main.cc.j2", **constants))
    return buffers


def made(library: str, buffers: Sequence[Buffer]) -> list[str]:
    """The files that the commands in the README make."""
    return [library, PROGRAM, *(f"{DATA}/{buffer.file}" for buffer in buffers if buffer.sha256)]


def random_digest(data: Path, position: int, name: str, values: Array, dtype: str) -> str:
    """The digest of an input that can be made again from its position; any other input is written."""
    again = random_values(values.shape, dtype, np.random.default_rng([SEED, position]))
    if again.tobytes() == values.tobytes():
        return hashlib.sha256(values.tobytes()).hexdigest()
    np.save(data / f"{name}.npy", np.ascontiguousarray(values))
    return ""


def keep(data: Path, name: str, values: Array, dtype: str) -> str:
    """Write what an output should be; if it is large, only some elements, and return the file of their positions."""
    flat, sample = np.ravel(values), ""
    kind = stored(dtype)
    if flat.size * kind.itemsize > WHOLE_BYTES:
        positions = np.sort(np.random.default_rng(SEED).choice(flat.size, SAMPLED, replace=False))
        sample = f"{name}_positions.npy"
        np.save(data / sample, positions.astype(np.int64))
        flat = flat[positions]
    np.save(data / f"{name}.npy", flat.astype(kind))
    return sample


def stored(dtype: str) -> np.dtype[Any]:
    """The type that expected values are stored as: more precise than the tolerance of an output of type `dtype`."""
    return np.dtype(np.float32 if is_float(dtype) and dtype != "float64" else np.float64)
