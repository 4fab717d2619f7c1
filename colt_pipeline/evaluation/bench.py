"""One workload on the test bench: inputs, expected output, and what a kernel does with them on a device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tvm

from colt_pipeline.config import MeasureConfig
from colt_pipeline.evaluation.timing import time_kernel
from colt_pipeline.records import Measurement
from colt_pipeline.workloads import Workload

TVM_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, KeyError)
"""What TVM raises for a program that it cannot build or run."""


class Bench:
    """Inputs and the expected output of one workload, made once."""

    def __init__(self, workload: Workload) -> None:
        inputs = workload.inputs()
        self.expected = workload.expected(inputs)
        self._rtol = workload.rtol
        self._shape = workload.parameter_shapes[-1]
        # On the host: a kernel on the CPU reads them where they are, another device gets a copy.
        self._inputs = [tvm.runtime.tensor(x, tvm.cpu()) for x in inputs]

    def measure(self, kernel: Any, device: Any, settings: MeasureConfig, best_secs: float | None) -> Measurement:
        """Time and check ``main`` of a loaded module on `device`, here or remote."""
        host = tvm.cpu()
        on_host = (device.dlpack_device_type(), device.index) == (host.dlpack_device_type(), host.index)
        inputs = self._inputs if on_host else [tvm.runtime.tensor(x.numpy(), device) for x in self._inputs]
        # NaN everywhere: an output that the kernel leaves unwritten shows as wrong.
        out = tvm.runtime.tensor(np.full(self._shape, np.nan, "float32"), device)

        def timer(number: int, repeat: int) -> list[float]:
            flush = settings.cache_flush_mib << 20
            evaluate = kernel.time_evaluator("main", device, number=number, repeat=repeat, cache_flush_bytes=flush)
            return [float(t) for t in evaluate(*inputs, out).results]

        try:
            run_secs, stop = time_kernel(timer, settings, best_secs)
        except TVM_ERRORS as error:
            return Measurement(error="run_error", detail=last_line(error))
        if not all(math.isfinite(t) and t > 0 for t in run_secs):
            return Measurement(error="run_error", detail=f"the device reports the run times {run_secs}")
        difference = float(np.abs(out.numpy() - self.expected).max() / np.abs(self.expected).max())
        if not difference <= self._rtol:
            detail = f"relative error {difference:.3g}, allowed {self._rtol:g}"
            finite = difference if math.isfinite(difference) else None
            return Measurement(run_secs, "wrong_result", detail, finite, stop)
        return Measurement(run_secs, max_relative_error=difference, stop=stop)


def last_line(error: Exception) -> str:
    """The message without native stack frames, which hold paths and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
