"""One model as it is, tuned, and in other frameworks, in one process: the same inputs, equal threads, in turn."""

from __future__ import annotations

import copy
import importlib
import io
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tvm

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement.bench import relative_error
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.measurement.whole_model import prepared
from colt_pipeline.workloads.catalogue import extracted, model
from colt_pipeline.workloads.data import tolerance
from colt_pipeline.workloads.models.torch_programs import flat as tensors
from colt_pipeline.workloads.models.unscheduled import flat
from colt_pipeline.workloads.program_files import executed, source_text
from colt_pipeline.workloads.workload import Array
from stages.benchmarks.frameworks.model_runs import best_modules, directory
from stages.benchmarks.frameworks.onnx_models import Model, session
from stages.benchmarks.frameworks.sitting import COMPILED, EAGER, ONNX, Timed
from stages.benchmarks.rounds import in_turn

UNTUNED = "untuned"
_SLOW_SECS, _SLOW_RUNS = 1.0, 3
"""What takes longer is timed on its own, so many times: in turn it would take most of the sitting."""
_LAYOUTS = ("as it is", "channels_last")
_PICTURES = 4
"""Dimensions of inputs that have channels."""


@dataclass(frozen=True)
class Side:
    """One way to run the model."""

    name: str
    label: str
    """Layout, if there is a choice."""
    run: Callable[[], object]
    result: Callable[[], Array]
    """Runs it, and returns what it computes."""


def tuned(samples: int) -> str:
    """What the model is called after a run with so many samples."""
    return f"tuned_{samples}"


def compared(
    configs: Mapping[int, Config], scratch: Path, target: dict[str, Any], lock: str, rounds: int
) -> dict[str, Timed]:
    """Time a model on all sides; for a process of its own, whose settings it changes.

    Args:
        configs: samples -> the finished run with so many.
        scratch: for what PyTorch compiles.
        target: TVM's target dict; each side gets its number of threads.
        lock: held while models run.
        rounds: how often each is timed.

    Returns:
        Side -> its fastest layout.

    Raises:
        DeviceError: a result differs from that of PyTorch.
    """
    threads = int(target["num-cores"])
    # Each is read when its threads start, or at the import below.
    os.environ |= dict.fromkeys(("TVM_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str((scratch / "inductor").resolve())
    # After TVM, which would import it with itself (stack.py). By name, because neither need be installed.
    torch, onnxruntime = (importlib.import_module(name) for name in ("torch", "onnxruntime"))
    torch.set_num_threads(threads)
    module, examples = _module(next(iter(configs.values())))
    ours = list(_ours(configs, target))
    exported = _exported(torch, module, examples)
    with torch.inference_mode():
        (expected,) = (x.numpy() for x in tensors(module(*examples)))
        run, output = session(onnxruntime, Model("", *exported, expected.shape), threads)
        sides = [*ours, *_in_torch(torch, module, examples), Side(ONNX, "", run, partial(_after, run, output))]
        errors = [checked(side, expected) for side in sides]
        with device_lock(lock):
            secs = timed(sides, rounds)
    found = [Timed(side.label, each, error) for side, each, error in zip(sides, secs, errors, strict=True)]
    versions: dict[str, list[Timed]] = {}
    for side, each in zip(sides, found, strict=True):
        versions.setdefault(side.name, []).append(each)
    return {name: min(of_side, key=lambda each: each.secs) for name, of_side in versions.items()}


def _module(config: Config) -> tuple[Any, tuple[Any, ...]]:
    """The module of PyTorch that was tuned, with its inputs."""
    source, function = config.workload.source, config.workload.function
    assert source is not None and function is not None
    with executed(Path(source), source, source_text(Path(source), source)) as objects:
        module, examples = objects[function]()
    return module.eval(), tuple(examples)


def _ours(configs: Mapping[int, Config], target: dict[str, Any]) -> Iterator[Side]:
    """The model without and with the kernels of each run."""
    for samples, config in configs.items():
        whole = extracted(model(**vars(config.workload)), config.prepack)
        ready = partial(prepared, whole, target=target, vector_math=config.measure.vector_math)
        inputs = whole.model.inputs()
        if samples == min(configs):
            yield _of_tvm(UNTUNED, ready(modules={}, inputs=inputs))
        yield _of_tvm(tuned(samples), ready(modules=best_modules(directory(config)), inputs=inputs))


def _of_tvm(name: str, run: Callable[[], Any]) -> Side:
    def result() -> Array:
        (out,) = flat(run())
        assert isinstance(out, tvm.runtime.Tensor)
        return np.asarray(out.numpy())

    return Side(name, "", run, result)


def _in_torch(torch: Any, module: Any, examples: Sequence[Any]) -> Iterator[Side]:
    """The module, eager and compiled, with pictures in both layouts."""
    torch._inductor.config.freezing = True
    torch._inductor.config.compile_threads = 1  # no processes that stay
    for label in _LAYOUTS:
        its, given = module, list(examples)
        if label != _LAYOUTS[0]:
            if all(x.dim() != _PICTURES for x in examples):
                continue
            its = copy.deepcopy(module).to(memory_format=torch.channels_last)
            given = [x.to(memory_format=torch.channels_last) if x.dim() == _PICTURES else x for x in examples]
        for name, call in ((EAGER, its), (COMPILED, torch.compile(its, dynamic=False))):
            run = partial(call, *given)
            yield Side(name, label, run, partial(_of_torch, run))


def _of_torch(run: Callable[[], Any]) -> Array:
    (out,) = tensors(run())
    return np.asarray(out.contiguous().numpy())


def _exported(torch: Any, module: Any, examples: Sequence[Any]) -> tuple[bytes, dict[str, Array], str]:
    """The module as ONNX, its inputs by name, and the name of its output."""
    with torch.no_grad():
        program = torch.onnx.export(module, tuple(examples), dynamo=True, verbose=False)
    graph = program.model_proto.graph
    (out,) = graph.output
    names = [value.name for value in graph.input]
    buffer = io.BytesIO()
    program.save(buffer)
    return buffer.getvalue(), dict(zip(names, (x.numpy() for x in examples), strict=True)), out.name


def _after(run: Callable[[], object], output: Callable[[], Array]) -> Array:
    run()
    return output()


def checked(side: Side, expected: Array) -> float:
    """The relative error of a side's result.

    Raises:
        DeviceError: it is too large.
    """
    out, rtol = side.result(), tolerance(str(expected.dtype))
    error = relative_error(out, expected) if out.shape == expected.shape else float("inf")
    if not error <= rtol:
        raise DeviceError(f"{side.name} {side.label}: relative error {error:.3g} to PyTorch, allowed {rtol:g}")
    return error


def timed(sides: Sequence[Side], rounds: int) -> list[float]:
    """Median seconds of a call of each: in turn, but for those that are slow."""
    slow = {i: secs for i, side in enumerate(sides) if (secs := _slow_secs(side.run)) is not None}
    others = in_turn({str(i): side.run for i, side in enumerate(sides) if i not in slow}, rounds)
    return [slow[i] if i in slow else others[str(i)] for i in range(len(sides))]


def _slow_secs(run: Callable[[], object]) -> float | None:
    """Median seconds of a few calls, if one takes long; it is warm, because its result was checked."""
    secs: list[float] = []
    while not secs or (secs[0] > _SLOW_SECS and len(secs) < _SLOW_RUNS):
        begin = time.perf_counter()
        run()
        secs.append(time.perf_counter() - begin)
    return statistics.median(secs) if secs[0] > _SLOW_SECS else None
