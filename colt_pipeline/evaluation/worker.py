"""The process that builds and runs kernels: ``python -m colt_pipeline.evaluation.worker``.

It reads one JSON request per line from standard input and answers with one JSON line. It lives on from program to
program, so TVM is imported and the inputs are made once; a kernel that kills it costs one sample. It never imports
TVM's tensor intrinsics and needs no C compiler: kernels are linked in memory.

Requests: {"op": "load", "workload", "shape"} and {"op": "measure", "module", "target", "max_repeats", "budget_secs"};
answers: {"ok": true} or the fields of a Measurement.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict
from typing import Any

import numpy as np
import tvm

from colt_pipeline.records import Measurement
from colt_pipeline.workloads import Workload, build

_PR_SET_PDEATHSIG = 1


class _Bench:
    """Inputs on the device and the expected output of one workload."""

    def __init__(self, workload: Workload) -> None:
        inputs = workload.inputs()
        self.expected = workload.expected(inputs)
        self.rtol = workload.rtol
        self._shape = workload.parameter_shapes[-1]
        self._inputs = [tvm.runtime.tensor(x, tvm.cpu()) for x in inputs]

    def measure(self, module: str, target: dict[str, Any], max_repeats: int, budget_secs: float) -> Measurement:
        """Build, time, check. Repeats fill `budget_secs`, at least one, at most `max_repeats`.

        TVM's evaluator warms up with one run that it discards.
        """
        try:
            kernel = tvm.compile(tvm.ir.load_json(module), target=tvm.target.Target(target)).mod
        except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:  # what TVM raises
            return Measurement(error="build_error", detail=_last_line(error))
        # NaN everywhere: an output that the kernel leaves unwritten shows as wrong.
        out = tvm.runtime.tensor(np.full(self._shape, np.nan, "float32"), tvm.cpu())
        try:
            timer = kernel.time_evaluator("main", tvm.cpu(), number=1, repeat=1)
            run_secs: tuple[float, ...] = (float(timer(*self._inputs, out).mean),)
            repeats = min(max_repeats, int(budget_secs / max(run_secs[0], 1e-9)))
            if repeats > 1:
                timer = kernel.time_evaluator("main", tvm.cpu(), number=1, repeat=repeats)
                run_secs = tuple(float(t) for t in timer(*self._inputs, out).results)
        except (RuntimeError, TypeError, ValueError) as error:
            return Measurement(error="run_error", detail=_last_line(error))
        difference = float(np.abs(out.numpy() - self.expected).max() / np.abs(self.expected).max())
        if not difference <= self.rtol:
            detail = f"relative error {difference:.3g}, allowed {self.rtol:g}"
            return Measurement(run_secs, "wrong_result", detail, difference if np.isfinite(difference) else None)
        return Measurement(run_secs, max_relative_error=difference)


def _last_line(error: Exception) -> str:
    """The message without native stack frames, which hold paths and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def _die_with_parent() -> None:
    """On Linux, let the kernel kill this process when its parent dies, even in the middle of a measurement."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve requests until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _die_with_parent()
    # TVM and LLVM print to standard output now and then; answers get a channel of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    bench: _Bench | None = None
    for line in sys.stdin:
        request = json.loads(line)
        operation = request.pop("op")
        if operation == "load":
            bench = _Bench(build(request["workload"], request["shape"]))
            answer: dict[str, Any] = {"ok": True}
        else:
            assert bench is not None, "measure before load"
            answer = asdict(bench.measure(**request))
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
