"""Kernels that each reach one limit of a CPU: float32 multiply-adds, and reads.

Both are compiled by TVM for the same target as the schedules, and need a process of their own (``rounds.own_process``),
in which TVM starts its threads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray

from colt_pipeline.config.schema import MeasureConfig
from stages.benchmarks.rounds import median_secs

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_VECTORS = 12
"""Independent accumulators: more than two units with a latency of four cycles need; AVX2 has 16 registers."""
_LANES = (4, 8, 16)
"""float32 values per vector register: SSE and NEON, AVX2, AVX-512. A width that the target lacks is merely slower."""
_FMA_STEPS = 1_000_000

# Per thread: `steps` updates of accumulators that stay in registers. Their initial values differ; otherwise LLVM would
# merge them into one.
_KERNEL = """
@I.ir_module
class Module:
    @T.prim_func(s_tir=True)
    def main(X: T.Buffer(({length},), "float32"), OUT: T.Buffer(({threads} * {vectors} * {lanes},), "float32")):
        T.func_attr({{"tirx.noalias": True}})
        for t in T.parallel({threads}):
            acc = T.alloc_buffer(({vectors} * {lanes},), "float32", scope="local")
            for v in T.unroll({vectors}):
                acc[T.Ramp(v * {lanes}, 1, {lanes})] = T.Broadcast(T.Cast("float32", v), {lanes})
            for step in range({steps}):
                for v in T.unroll({vectors}):
                    acc[T.Ramp(v * {lanes}, 1, {lanes})] = {update}
            for v in T.unroll({vectors}):
                OUT[T.Ramp((t * {vectors} + v) * {lanes}, 1, {lanes})] = acc[T.Ramp(v * {lanes}, 1, {lanes})]
"""
_FMA = "acc[T.Ramp(v * {lanes}, 1, {lanes})] * X[T.Ramp(0, 1, {lanes})] + X[T.Ramp({lanes}, 1, {lanes})]"
_READ = "acc[T.Ramp(v * {lanes}, 1, {lanes})] + X[T.Ramp(((t * {steps} + step) * {vectors} + v) * {lanes}, 1, {lanes})]"


def flop_per_sec(target: Mapping[str, Any], settings: MeasureConfig) -> float:
    """float32 FLOP per second of multiply-adds, which count as two, with the target's threads."""
    return max(_flop_per_sec(target, lanes, settings) for lanes in _LANES)


def _flop_per_sec(target: Mapping[str, Any], lanes: int, settings: MeasureConfig) -> float:
    x = np.repeat(np.array([0.75, 0.25], np.float32), lanes)  # x * 0.75 + 0.25 tends to 1
    secs, out = _run(_FMA, target, x, lanes, _FMA_STEPS, settings)
    np.testing.assert_allclose(out, 1, rtol=1e-5)
    return 2 * out.size * _FMA_STEPS / secs


def bytes_per_sec(target: Mapping[str, Any], mib: int, settings: MeasureConfig) -> float:
    """Bytes per second that the target's threads read, each repeatedly reading its part of `mib` MiB."""
    lanes = _LANES[1]
    steps = (mib << 18) // (int(target["num-cores"]) * _VECTORS * lanes)
    x = np.ones(steps * int(target["num-cores"]) * _VECTORS * lanes, np.float32)  # zeros would all be one page
    secs, out = _run(_READ, target, x, lanes, steps, settings)
    np.testing.assert_allclose(out.min(), steps, rtol=1e-5)
    return x.nbytes / secs


def last_level_cache_mib() -> int:
    """Size in MiB of the first core's largest cache; 0 if Linux does not report it."""
    sizes = [re.fullmatch(r"(\d+)K\s*", path.read_text()) for path in _CACHES.glob("index*/size")]
    return max((int(size[1]) >> 10 for size in sizes if size), default=0)


def _run(
    update: str, target: Mapping[str, Any], x: NDArray[np.float32], lanes: int, steps: int, settings: MeasureConfig
) -> tuple[float, NDArray[np.float32]]:
    """Median seconds of a kernel, and the final values of its accumulators."""
    threads = int(target["num-cores"])
    os.environ["TVM_NUM_THREADS"] = str(threads)  # TVM reads it at its first parallel loop
    numbers = {"threads": threads, "vectors": _VECTORS, "lanes": lanes, "steps": steps}
    module = tvm.script.from_source(_KERNEL.format(length=x.size, update=update.format(**numbers), **numbers))
    kernel = tvm.compile(module, target=tvm.target.Target(dict(target))).mod.get_function("main")
    out = tvm.runtime.tensor(np.zeros(threads * _VECTORS * lanes, np.float32))
    arguments = (tvm.runtime.tensor(x), out)
    return median_secs(lambda: kernel(*arguments), settings), out.numpy()
