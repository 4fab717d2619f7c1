"""A whole model as a library, its weights, and programs that run it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tvm import relax

from colt_pipeline.errors import ExportError
from colt_pipeline.exports.bench_files import BUILD, DATA, MAIN, RUN, Buffer, keep, random_digest
from colt_pipeline.exports.library import compiled_for, identifier, linked
from colt_pipeline.exports.model_run import TunedModel
from colt_pipeline.exports.rendering import render
from colt_pipeline.measurement.bench import TVM_ERRORS, last_line
from colt_pipeline.workloads.data import SEED, SPECIAL, tolerance
from colt_pipeline.workloads.extracted import Ready
from colt_pipeline.workloads.models.model import Model
from colt_pipeline.workloads.models.weights import transformed

LIBRARY = "model.so"
WEIGHTS = "weights"
_STEM = "model"


@dataclass(frozen=True)
class Weight:
    """One parameter of ``main``, after the inputs."""

    file: str
    """Below `WEIGHTS`."""
    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class Written:
    """What `write_model` wrote."""

    unlinked: str
    """Why there are object files in place of a library; "" if there is a library."""
    objects: tuple[str, ...]
    buffers: tuple[Buffer, ...]
    """Inputs, then outputs."""
    weights: tuple[Weight, ...]

    @property
    def link(self) -> str:
        """How to link the object files elsewhere."""
        return f"g++ -shared -o {LIBRARY} {' '.join(self.objects)}"


def write_model(directory: Path, tuned: TunedModel, target: dict[str, Any]) -> Written:
    """Write the library, the weights, the programs, and what they compare with.

    Args:
        directory: where to.
        tuned: the model.
        target: TVM's target dict to compile for.

    Raises:
        ExportError: the model does not compile for the target.
    """
    ready = tuned.whole.ready(tuned.modules)
    compiled = compiled_for(ready.module, target, tuned.vector_math, "the model")
    unlinked = linked(compiled, directory / LIBRARY)
    objects = _objects(compiled, directory) if unlinked else ()
    buffers = tuple(_buffers(directory, tuned.whole.model))
    (directory / WEIGHTS).mkdir()
    weights = tuple(_weights(directory / WEIGHTS, tuned, ready))
    values: dict[str, Any] = {"name": identifier(tuned.name), "library": LIBRARY, "threads": int(target["num-cores"])}
    values |= {"buffers": buffers, "weights": weights, "build": BUILD, "seed": SEED}
    (directory / RUN).write_text(render("model_run.py.j2", **values, rows=[asdict(each) for each in buffers]))
    (directory / MAIN).write_text(render("model_main.cc.j2", **values))
    return Written(unlinked, objects, buffers, weights)


def _objects(compiled: Any, directory: Path) -> tuple[str, ...]:
    """What a linker would get, beside each other."""
    names: list[str] = []

    def copied(_: str, files: Sequence[str], **__: Any) -> None:
        for number, file in enumerate(files):
            names.append(f"{_STEM}_{number}{Path(file).suffix}")
            shutil.copy(file, directory / names[-1])

    compiled.export_library(str(directory / LIBRARY), fcompile=copied)
    return tuple(names)


def _weights(directory: Path, tuned: TunedModel, ready: Ready) -> Iterator[Weight]:
    """Write the weights one by one, as they are made."""
    whole = tuned.whole
    try:
        for number, tensor in enumerate(transformed(ready.transforms, [*whole.model.weights(), *whole.values])):
            values, dtype = tensor.numpy(), str(tensor.dtype)
            if dtype in SPECIAL:  # .npy knows no such type
                values = values.view(f"u{values.dtype.itemsize}")
            weight = Weight(f"{number:04d}.npy", tuple(values.shape), dtype, values.nbytes)
            np.save(directory / weight.file, values)
            yield weight
    except TVM_ERRORS as error:
        if isinstance(error, OSError):
            raise
        raise ExportError(f"the weights of {tuned.name} cannot be packed: {last_line(error)}") from error


def _buffers(directory: Path, model: Model) -> Iterator[Buffer]:
    """Write the inputs that are not random, and what the outputs should be."""
    data = directory / DATA
    data.mkdir()
    inputs = model.inputs()
    expected = model.reference(inputs)
    for position, (parameter, values) in enumerate(zip(model.inputs_of_main, inputs, strict=True)):
        name = f"{position}_{identifier(parameter.name)}"
        sha256 = random_digest(data, position, name, values, parameter.dtype)
        yield Buffer(parameter.name, parameter.shape, parameter.dtype, f"{name}.npy", None, "", sha256)
    types = list(_tensors(model.module["main"].ret_ty))
    for number, (of, values) in enumerate(zip(types, expected, strict=True)):
        name, dtype = f"output_{number}", str(of.dtype.dtype)
        sample = keep(data, name, values, dtype)
        yield Buffer(name, tuple(values.shape), dtype, f"{name}.npy", tolerance(dtype), sample, "")


def _tensors(of: Any) -> Iterator[relax.TensorType]:
    """The tensors of a type, in order."""
    if isinstance(of, relax.TensorType):
        yield of
    else:
        for field in of.fields:
            yield from _tensors(field)
