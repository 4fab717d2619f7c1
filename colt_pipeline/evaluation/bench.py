"""One workload on the test bench: inputs, expected output, and what a kernel does with them on a device."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import Any

import numpy as np
import tvm

from colt_pipeline.config import MeasureConfig
from colt_pipeline.evaluation.timing import time_kernel
from colt_pipeline.records import Measurement
from colt_pipeline.workloads import Workload

_RPC_DEVICE = 128
"""TVM adds this to the type of a device behind RPC."""

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
        on_host = device.dlpack_device_type() == tvm.cpu().dlpack_device_type()
        inputs = self._inputs if on_host else [tvm.runtime.tensor(x.numpy(), device) for x in self._inputs]
        # NaN everywhere: an output that the kernel leaves unwritten shows as wrong.
        out = tvm.runtime.tensor(np.full(self._shape, np.nan, "float32"), device)

        remote = device.dlpack_device_type() >= _RPC_DEVICE
        timer = self._timed_there if remote else self._timed_here
        try:
            run_secs, stop = time_kernel(partial(timer, kernel, device, [*inputs, out], settings), settings, best_secs)
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

    @staticmethod
    def _timed_here(
        kernel: Any, device: Any, arguments: list[Any], settings: MeasureConfig, number: int, repeat: int
    ) -> list[float]:
        """Like TVM's time_evaluator, but without its discarded run in each call: the kernel is warm already."""
        main, times = kernel.get_function("main"), []
        for _ in range(repeat):
            if settings.cache_flush_mib:
                np.zeros(settings.cache_flush_mib << 18, np.float32).fill(1)
            device.sync()
            begin = time.perf_counter()
            for _ in range(number):
                main(*arguments)
            device.sync()
            times.append((time.perf_counter() - begin) / number)
        return times

    @staticmethod
    def _timed_there(
        kernel: Any, device: Any, arguments: list[Any], settings: MeasureConfig, number: int, repeat: int
    ) -> list[float]:
        """On the server's clock, so that the network is not timed."""
        flush = settings.cache_flush_mib << 20
        evaluate = kernel.time_evaluator("main", device, number=number, repeat=repeat, cache_flush_bytes=flush)
        return [float(t) for t in evaluate(*arguments).results]


def last_line(error: Exception) -> str:
    """The message without native stack frames, which hold paths and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
