"""A test bench for one workload: inputs, expected output, and the timing and checking of kernels on a device."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import tvm

from colt_pipeline.config.schema import MeasureConfig
from colt_pipeline.measurement.timing import Timer, first_runs, time_kernel, times
from colt_pipeline.records import Measurement, StopReason
from colt_pipeline.workloads.data import unwritten
from colt_pipeline.workloads.workload import Parameter, Workload

TVM_ERRORS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError, OSError, MemoryError)
"""What TVM and the compilers it calls raise for a program that they cannot build or run."""

_CHUNK = 1 << 14
"""Elements compared at once."""
_COLD_RUNS = 3
"""With cold caches, of a kernel with constant inputs."""
_COLD_MIB = 64
"""What is overwritten before each, at least: more than a core's share of a cache."""

Packed = Sequence[tuple[int, Parameter]]
"""See `packing.Split`."""


class Bench:
    """The inputs and the expected output of one workload, created once."""

    def __init__(self, workload: Workload) -> None:
        inputs = workload.inputs()
        self._workload = workload
        self.expected = workload.expected(inputs)
        # On the host: a kernel on the CPU reads them in place, another device gets a copy.
        tensors = (tvm.runtime.tensor(x, tvm.cpu()) for x in inputs)
        self._inputs = dict(zip(workload.inputs_at, tensors, strict=True))

    def measure(
        self,
        kernel: Any,
        device: Any,
        settings: MeasureConfig,
        best_secs: float | None,
        turn: AbstractContextManager[None] | None = None,
        packed: Packed = (),
    ) -> Measurement:
        """Time and check ``main`` of a loaded module; packing its constant inputs is not timed.

        Args:
            kernel: the module.
            device: TVM's device, local or remote.
            settings: how to time.
            best_secs: the best latency so far, if any.
            turn: entered while the kernel runs, after everything that may overlap with other kernels.
            packed: the inputs that its function ``pack`` packs.

        Raises:
            TVM_ERRORS: the device rejects the kernel or the data.
        """
        outputs, timer = self._prepared(kernel, device, settings, packed)
        with turn or nullcontext():
            run_secs, stop = time_kernel(timer, settings, best_secs)
        measured = self._checked(outputs, run_secs, stop)
        cold_runs = max(settings.cold_runs, _COLD_RUNS if self._workload.constants else 0)
        if cold_runs and best_secs is None and measured.error is None and _is_host(device):
            flushed = replace(settings, cache_flush_mib=max(settings.cache_flush_mib, _COLD_MIB))
            _, cold_timer = self._prepared(kernel, device, flushed, packed)
            measured = replace(measured, cold_secs=tuple(times(cold_timer(1, cold_runs))))
        return measured

    def turns(
        self, kernel: Any, device: Any, settings: MeasureConfig, packed: Packed = ()
    ) -> Generator[Measurement, int]:
        """Run ``main`` of a loaded module turn by turn.

        Args:
            kernel: the module.
            device: TVM's device.
            settings: how to time.
            packed: see `measure`.

        Yields:
            First a cold run and then warm ones, checked; after that as many warm runs as it is sent.

        Raises:
            TVM_ERRORS: the device rejects the kernel or the data.
        """
        outputs, timer = self._prepared(kernel, device, settings, packed)
        cold, first, number = first_runs(timer, settings)
        runs = (first,) if number == 1 else tuple(times(timer(number, 1)))
        repeats = yield self._checked(outputs, (cold, *runs), None)
        while True:
            timer(1, 1)  # others have used the caches since
            repeats = yield Measurement(tuple(times(timer(number, repeats))))

    def _prepared(self, kernel: Any, device: Any, settings: MeasureConfig, packed: Packed) -> tuple[list[Any], Timer]:
        """Where a kernel leaves its outputs, and what runs it."""
        on_host = _is_host(device)
        inputs = self._inputs
        if not on_host:
            inputs = {i: tvm.runtime.tensor(x.numpy(), device) for i, x in inputs.items()}
        parameters = self._workload.parameters
        outputs = {
            i: tvm.runtime.tensor(unwritten(parameters[i].shape, parameters[i].dtype), device)
            for i in self._workload.outputs
        }
        if packed:
            forms = [tvm.runtime.empty(form.shape, form.dtype, device) for _, form in packed]
            kernel.get_function("pack")(*(inputs[i] for i, _ in packed), *forms)
            inputs = {**inputs, **{i: form for (i, _), form in zip(packed, forms, strict=True)}}
        arguments = [tensor for _, tensor in sorted({**inputs, **outputs}.items())]
        run = _on_host if on_host else _on_device
        return list(outputs.values()), partial(run, kernel, device, arguments, settings.cache_flush_mib)

    def _checked(self, outputs: Sequence[Any], run_secs: tuple[float, ...], stop: StopReason | None) -> Measurement:
        """The measurement of a kernel that computed these outputs."""
        errors = [relative_error(out.numpy(), expected) for out, expected in zip(outputs, self.expected, strict=True)]
        rtols = self._workload.rtols
        for number, (error, rtol) in enumerate(zip(errors, rtols, strict=True)):
            if not error <= rtol:
                which = f"{self._workload.parameters[self._workload.outputs[number]].name}: " if len(rtols) > 1 else ""
                detail = f"{which}relative error {error:.3g}, allowed {rtol:g}"
                finite = error if math.isfinite(error) else None
                return Measurement(run_secs, "wrong_result", detail, finite, stop)
        return Measurement(run_secs, max_relative_error=max(errors), stop=stop)


def _is_host(device: Any) -> bool:
    return bool(device.dlpack_device_type() == tvm.cpu().dlpack_device_type())


def relative_error(found: Any, expected: Any) -> float:
    """The largest difference of two arrays of one shape, relative to the largest expected magnitude; NaN if any is.

    Where everything expected is zero, the largest magnitude found.
    """
    found, expected = np.asarray(found).reshape(-1), np.asarray(expected).reshape(-1)
    difference, scale = np.float64(0), np.float64(0)
    for start in range(0, expected.size, _CHUNK):  # within the cache: a fifth of the time
        there = found[start : start + _CHUNK].astype(np.float64)
        wanted = expected[start : start + _CHUNK].astype(np.float64)
        difference = np.maximum(difference, np.abs(there - wanted).max())
        scale = np.maximum(scale, np.abs(wanted).max())
    return float(difference) if scale == 0 else float(difference) / float(scale)


def _on_host(kernel: Any, device: Any, arguments: list[Any], flush_mib: int, number: int, repeat: int) -> list[float]:
    """Run times on this machine's CPU; TVM's time_evaluator would discard one run per call."""
    main, times = kernel.get_function("main"), []
    for _ in range(repeat):
        if flush_mib:
            np.empty(flush_mib << 18, np.float32).fill(1)
        begin = time.perf_counter()
        for _ in range(number):
            main(*arguments)
        times.append((time.perf_counter() - begin) / number)
    return times


def _on_device(kernel: Any, device: Any, arguments: list[Any], flush_mib: int, number: int, repeat: int) -> list[float]:
    """Run times by the device's own clock (CUDA events) or the server's, after a run that TVM discards."""
    flush = flush_mib << 20
    evaluate = kernel.time_evaluator("main", device, number=number, repeat=repeat, cache_flush_bytes=flush)
    return [float(t) for t in evaluate(*arguments).results]


def last_line(error: Exception) -> str:
    """The message without native stack frames, which contain paths and addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
