"""A whole model with tuned kernels, compiled, run and checked in a separate process.

``python -m colt_pipeline.measurement.whole_model`` reads one JSON request from standard input (model, target, modules,
settings) and answers with one JSON line, the fields of a Measurement. The process uses the target's number of threads
and frees its gigabytes when it exits.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import tvm
from tvm import relax

from colt_pipeline.config.schema import MeasureConfig
from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement.bench import TVM_ERRORS, last_line, relative_error
from colt_pipeline.measurement.timing import time_kernel
from colt_pipeline.measurement.vector_math import pipeline
from colt_pipeline.records import Measurement
from colt_pipeline.workloads.extracted import extracted
from colt_pipeline.workloads.llama import Llama

RTOL = 1e-4
"""Largest allowed max|logits - reference| / max|reference|, float32 through all layers on both sides."""
_PREPARE_SECS = 600.0
"""For weights, reference and compilation, in addition to the runs."""


def measure_model(
    model: Llama, modules: Mapping[str, tvm.IRModule], target: dict[str, Any], settings: MeasureConfig
) -> Measurement:
    """Latency of one prefill of `model` with tuned kernels.

    Args:
        model: the model.
        modules: task -> scheduled module; other tasks stay unscheduled.
        target: TVM's target dict.
        settings: how to time.

    Raises:
        DeviceError: it cannot be compiled or run, or its logits differ from the NumPy reference.
    """
    request = {"model": asdict(model), "target": target, "settings": vars(settings)}
    request["modules"] = {name: tvm.ir.save_json(module) for name, module in modules.items()}
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
    answer = json.loads(done.stdout.splitlines()[-1])
    measured = Measurement(**{**answer, "run_secs": tuple(answer["run_secs"])})
    if measured.latency_secs is None:
        raise DeviceError(f"the whole model failed: {measured.error} ({measured.detail})")
    return measured


def _measured(
    model: Llama, modules: Mapping[str, tvm.IRModule], target: dict[str, Any], settings: MeasureConfig
) -> Measurement:
    given = model.parameters()
    expected = model.reference(given)
    arguments = [tvm.runtime.tensor(given.pop(name), tvm.cpu()) for name in model.parameter_shapes]
    try:
        compiled = tvm.compile(
            extracted(model).replaced(modules),
            target=tvm.target.Target(target),
            tir_pipeline=pipeline(settings.vector_math),
        )
        run = relax.VirtualMachine(compiled, tvm.cpu())["main"]
        logits = run(*arguments).numpy()
    except TVM_ERRORS as error:
        return Measurement(error="build_error", detail=last_line(error))
    difference = relative_error(logits, expected)
    if not difference <= RTOL:
        return Measurement(error="wrong_result", detail=f"relative error {difference:.3g}, allowed {RTOL:g}")

    def timer(number: int, repeat: int) -> list[float]:
        times = []
        for _ in range(repeat):
            begin = time.perf_counter()
            for _ in range(number):
                run(*arguments)
            times.append((time.perf_counter() - begin) / number)
        return times

    run_secs, stop = time_kernel(timer, settings, None)
    return Measurement(run_secs, max_relative_error=difference, stop=stop)


def main() -> None:
    """Answer one request."""
    # TVM and LLVM occasionally print to standard output, so the answer gets its own channel.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    modules = {name: tvm.ir.load_json(text) for name, text in request["modules"].items()}
    settings = MeasureConfig(**request["settings"])
    print(json.dumps(asdict(_measured(Llama(**request["model"]), modules, request["target"], settings))), file=answers)


if __name__ == "__main__":
    main()
