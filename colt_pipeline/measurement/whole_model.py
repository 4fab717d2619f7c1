"""A whole model with tuned kernels, compiled, run and checked in a separate process.

``python -m colt_pipeline.measurement.whole_model`` reads one JSON request from standard input (workload, prepack,
target, modules, settings, beside) and answers with one JSON line, a list of the fields of Measurements. The process
uses the target's number of threads and frees its gigabytes when it exits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from colt_pipeline import stack

stack.require()  # before TVM is imported

import tvm  # noqa: E402
from tvm import relax  # noqa: E402

from colt_pipeline.config.schema import MeasureConfig, WorkloadConfig  # noqa: E402
from colt_pipeline.errors import ColtError, DeviceError  # noqa: E402
from colt_pipeline.measurement.bench import TVM_ERRORS, last_line, relative_error  # noqa: E402
from colt_pipeline.measurement.timing import time_kernel  # noqa: E402
from colt_pipeline.measurement.vector_math import pipeline  # noqa: E402
from colt_pipeline.records import Measurement  # noqa: E402
from colt_pipeline.workloads.catalogue import extracted, model  # noqa: E402
from colt_pipeline.workloads.data import tolerance  # noqa: E402
from colt_pipeline.workloads.extracted import ExtractedModel  # noqa: E402
from colt_pipeline.workloads.models.unscheduled import flat  # noqa: E402
from colt_pipeline.workloads.models.weights import transformed  # noqa: E402
from colt_pipeline.workloads.workload import Array  # noqa: E402

ROUNDS = 10
"""Of a model and the untuned one, in turn."""
_PREPARE_SECS = 600.0
"""For weights, reference and compilation, in addition to the runs."""

Call = Callable[[], Any]
"""Runs a model once."""


def measure_model(
    workload: WorkloadConfig,
    prepack: bool,
    modules: Mapping[str, tvm.IRModule],
    target: dict[str, Any],
    settings: MeasureConfig,
    beside: bool = False,
) -> list[Measurement]:
    """Latency of one run of a model with tuned kernels.

    Args:
        workload: the model, see `catalogue.model`.
        prepack: whether its weights are packed ahead.
        modules: task -> scheduled module; other tasks stay unscheduled.
        target: TVM's target dict.
        settings: how to time.
        beside: whether the untuned model runs in turn with it, for a second Measurement.

    Raises:
        DeviceError: it cannot be compiled or run, or its outputs differ from the reference.
    """
    request = {"workload": vars(workload), "prepack": prepack, "target": target, "settings": vars(settings)}
    request |= {"modules": {name: tvm.ir.save_json(module) for name, module in modules.items()}, "beside": beside}
    command = [sys.executable, "-m", "colt_pipeline.measurement.whole_model"]
    environment = {**os.environ, "TVM_NUM_THREADS": str(target["num-cores"])}
    limit = _PREPARE_SECS + settings.run_timeout_secs
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, env=environment, timeout=limit
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"the whole model took longer than {limit:g} s; raise measure.run_timeout_secs") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"its process ended with status {done.returncode}"]
        raise DeviceError(f"the whole model failed: {said[0]}")
    measured = [Measurement.of(answer) for answer in json.loads(done.stdout.splitlines()[-1])]
    for each in measured:
        if each.latency_secs is None:
            raise DeviceError(f"the whole model failed: {each.error} ({each.detail})")
    return measured


def _measured(
    whole: ExtractedModel,
    modules: Mapping[str, tvm.IRModule],
    target: dict[str, Any],
    settings: MeasureConfig,
    beside: bool,
) -> list[Measurement]:
    inputs = whole.model.inputs()
    expected = whole.model.reference(inputs)
    calls, errors, checked_secs = [], [], []
    for each in (modules, {}) if beside else (modules,):
        try:
            call = prepared(whole, each, target, settings.vector_math, inputs)
            begin = time.perf_counter()
            outputs = [x.numpy() for x in flat(call())]
            checked_secs.append(time.perf_counter() - begin)
        except TVM_ERRORS as error:
            return [Measurement(error="build_error", detail=last_line(error))]
        wrong = _wrong(outputs, expected)
        if wrong is not None:
            return [wrong]
        calls.append(call)
        errors.append(max(relative_error(out, want) for out, want in zip(outputs, expected, strict=True)))
    if beside:
        return [Measurement(secs, max_relative_error=e) for secs, e in zip(in_turn(calls), errors, strict=True)]
    if settings.max_repeats == 1:  # of a model that takes minutes, the run that was checked is enough
        return [Measurement(tuple(checked_secs), max_relative_error=errors[0])]
    run_secs, stop = time_kernel(partial(_times, calls[0]), settings, None)
    return [Measurement(run_secs, max_relative_error=errors[0], stop=stop)]


def prepared(
    whole: ExtractedModel,
    modules: Mapping[str, tvm.IRModule],
    target: dict[str, Any],
    vector_math: bool,
    inputs: Sequence[Array],
) -> Call:
    """The model with these kernels, compiled, with its weights in memory.

    Raises:
        TVM_ERRORS: it cannot be compiled.
    """
    ready = whole.ready(modules)
    weights = list(transformed(ready.transforms, [*whole.model.weights(), *whole.values]))
    compiled = tvm.compile(ready.module, target=tvm.target.Target(target), tir_pipeline=pipeline(vector_math))
    main = relax.VirtualMachine(compiled, tvm.cpu())["main"]
    return partial(main, *(tvm.runtime.tensor(x, tvm.cpu()) for x in inputs), *weights)


def _wrong(outputs: Sequence[Array], expected: Sequence[Array]) -> Measurement | None:
    """What is wrong with a model's outputs, if anything."""
    if [x.shape for x in outputs] != [x.shape for x in expected]:
        return Measurement(
            error="wrong_result", detail=f"outputs {[x.shape for x in outputs]}, expected {[x.shape for x in expected]}"
        )
    for number, (out, want) in enumerate(zip(outputs, expected, strict=True)):
        error, rtol = relative_error(out, want), tolerance(str(out.dtype))
        if not error <= rtol:
            which = f"output {number}: " if len(outputs) > 1 else ""
            return Measurement(error="wrong_result", detail=f"{which}relative error {error:.3g}, allowed {rtol:g}")
    return None


def in_turn(calls: Sequence[Call]) -> list[tuple[float, ...]]:
    """The run times of each, one run a round, after a warm one; each round begins with another."""
    found: list[list[float]] = [[] for _ in calls]
    for round_ in range(ROUNDS):
        for i in [(round_ + k) % len(calls) for k in range(len(calls))]:
            calls[i]()
            found[i] += _times(calls[i], 1, 1)
    return [tuple(secs) for secs in found]


def _times(call: Call, number: int, repeat: int) -> list[float]:
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        for _ in range(number):
            call()
        times.append((time.perf_counter() - begin) / number)
    return times


def main() -> None:
    """Answer one request."""
    # TVM and LLVM occasionally print to standard output, so the answer gets its own channel.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    modules = {name: tvm.ir.load_json(text) for name, text in request["modules"].items()}
    settings = MeasureConfig(**request["settings"])
    try:
        whole = extracted(model(**request["workload"]), request["prepack"])
        measured = _measured(whole, modules, request["target"], settings, request["beside"])
    except ColtError as error:
        sys.exit(str(error))
    print(json.dumps([asdict(each) for each in measured]), file=answers)


if __name__ == "__main__":
    main()
