"""One kernel timed in all frameworks and as ours, in one process: the same inputs, equal threads, in turn."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from colt_pipeline.config.compose import composed
from colt_pipeline.errors import DeviceError
from colt_pipeline.exports.library import LIBRARY
from colt_pipeline.exports.write import export_run
from colt_pipeline.measurement.bench import relative_error
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.data import unwritten
from colt_pipeline.workloads.workload import Array, Workload
from stages.benchmarks.frameworks.onnx_models import MODELS, session
from stages.benchmarks.frameworks.pytorch import VERSIONS, Version, compiled
from stages.benchmarks.programs import OWN
from stages.benchmarks.rounds import in_turn

OURS, EAGER, COMPILED, ONNX = SIDES = ("ours", "eager", "compiled", "onnxruntime")


@dataclass(frozen=True)
class Timed:
    """One version of a kernel on one side."""

    label: str
    """Layout, function or operators."""
    secs: float
    error: float
    """See `relative_error`."""


Comparison = dict[str, list[Timed]]
"""Side -> its versions, fastest first."""


@dataclass(frozen=True)
class _Subject:
    side: str
    label: str
    run: Callable[[], object]
    result: Callable[[], Array]
    """Runs it, and returns what it computes in the layout of ours."""


def workload_of(kernel: str) -> Workload:
    """A kernel by name: of the catalogue with the configured shape, or one of this benchmark's own."""
    return OWN[kernel]().workload(kernel) if kernel in OWN else build(**vars(composed([f"workload={kernel}"]).workload))


def compared(workload: Workload, run: Path, scratch: Path, threads: int, lock: str, rounds: int) -> Comparison:
    """Time a kernel; for a process of its own, whose settings it changes.

    Args:
        workload: the kernel.
        run: the run that has our schedule of it.
        scratch: for our library and what PyTorch compiles.
        threads: for each side.
        lock: held while kernels run.
        rounds: how often each is timed.

    Raises:
        DeviceError: a result is wrong.
    """
    # Each is read when its threads start, or at the import below.
    os.environ |= dict.fromkeys(("TVM_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str((scratch / "inductor").resolve())
    # After TVM, which would import it with itself (stack.py). By name, because neither need be installed.
    torch, onnx, onnxruntime = (importlib.import_module(name) for name in ("torch", "onnx", "onnxruntime"))
    torch.set_num_threads(threads)
    inputs = workload.inputs()
    (expected,) = workload.expected(inputs)
    with torch.inference_mode():
        subjects = [
            _ours(workload, inputs, run, scratch),
            *_in_torch(torch, workload.name, inputs),
            *_in_onnxruntime(onnx, onnxruntime, workload.name, inputs, threads),
        ]
        errors = [_checked(workload, subject, expected) for subject in subjects]
        with device_lock(lock):
            secs = in_turn({f"{s.side}: {s.label}": s.run for s in subjects}, rounds)
    found: Comparison = {side: [] for side in SIDES}
    for subject, error in zip(subjects, errors, strict=True):
        found[subject.side].append(Timed(subject.label, secs[f"{subject.side}: {subject.label}"], error))
    return {side: sorted(versions, key=lambda each: each.secs) for side, versions in found.items()}


def _checked(workload: Workload, subject: _Subject, expected: Array) -> float:
    error = relative_error(subject.result(), expected)
    if not error <= workload.rtol:
        where = f"{workload.name}, {subject.side} ({subject.label})"
        raise DeviceError(f"{where}: relative error {error:.3g}, allowed {workload.rtol:g}")
    return error


def _ours(workload: Workload, inputs: list[Array], run: Path, scratch: Path) -> _Subject:
    """The kernel that a run found, as its user gets it: the library of an export."""
    directory = scratch / "exports" / workload.name
    export = export_run(run, directory)
    if export.unlinked:
        raise DeviceError(f"our {workload.name} has no library: {export.unlinked}; install g++")
    kernel = tvm.runtime.load_module(str(directory / LIBRARY))[export.function]
    (at,) = workload.outputs
    out = tvm.runtime.tensor(unwritten(workload.parameters[at].shape, workload.parameters[at].dtype))
    given = dict(zip(workload.inputs_at, map(tvm.runtime.tensor, inputs), strict=True))
    arguments = [tensor for _, tensor in sorted({**given, at: out}.items())]

    def result() -> Array:
        kernel(*arguments)
        return np.asarray(out.numpy())

    return _Subject(OURS, "", lambda: kernel(*arguments), result)


def _in_torch(torch: Any, name: str, inputs: list[Array]) -> Iterator[_Subject]:
    for version in VERSIONS[name](torch, *map(torch.from_numpy, inputs)):
        eager = partial(version.run, *version.activations, *version.weights)
        for side, run in ((EAGER, eager), (COMPILED, compiled(torch, version))):
            yield _Subject(side, version.label, run, partial(_arranged, version, run))


def _arranged(version: Version, run: Callable[[], Any]) -> Array:
    return np.asarray(version.arranged(run()).numpy())


def _in_onnxruntime(onnx: Any, onnxruntime: Any, name: str, inputs: list[Array], threads: int) -> Iterator[_Subject]:
    for model in MODELS[name](onnx, *inputs):
        run, output = session(onnxruntime, model, threads)

        def result(run: Callable[[], object] = run, output: Callable[[], Array] = output) -> Array:
            run()
            return output()

        yield _Subject(ONNX, model.label, run, result)
