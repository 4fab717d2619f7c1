"""PyTorch's kernels for the same workloads on the same GPU, timed by CUDA events and the rules of a search."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

from colt_pipeline.config.schema import MeasureConfig
from colt_pipeline.measurement.bench import relative_error
from colt_pipeline.measurement.devices import CUDA_LOCK
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.measurement.timing import time_kernel
from colt_pipeline.workloads.catalogue import build
from stages.benchmarks import Row
from stages.benchmarks.frameworks.pytorch import VERSIONS
from stages.benchmarks.gpu.plan import Plan
from stages.benchmarks.rounds import own_process

_MS_PER_SEC = 1e3


def rows(plan: Plan) -> Iterator[Row]:
    """One row per workload: latency and largest relative error, with TF32 off and on; none without PyTorch.

    What PyTorch cannot do here is in its row; the other parts of the check do without.
    """
    if plan.dry or find_spec("torch") is None:
        return
    shapes = {config.workload.name: config.workload.shape for config in plan.configs}
    settings = plan.configs[0].measure
    with own_process() as process:
        for name, shape in shapes.items():
            yield process.submit(_row, name, shape, settings).result()


def _row(name: str, shape: dict[str, int], settings: MeasureConfig) -> Row:
    columns = ("torch_ms", "torch_error", "torch_tf32_ms", "torch_tf32_error", "failure")
    row: Row = {"workload": name, "torch": "", **dict.fromkeys(columns)}
    try:
        return row | _measured(name, shape, settings)
    except (ImportError, RuntimeError) as error:  # its libraries, or CUDA: no GPU, no kernels for it, no memory
        return row | {"failure": str(error).partition("\n")[0]}


def _measured(name: str, shape: dict[str, int], settings: MeasureConfig) -> Row:
    import torch

    if not torch.cuda.is_available():
        return {"torch": torch.__version__, "failure": "PyTorch finds no CUDA GPU"}
    workload = build(name, shape)
    inputs = workload.inputs()
    (expected,) = workload.expected(inputs)
    version = VERSIONS[name](torch, *(torch.from_numpy(x).cuda() for x in inputs))[0]
    arguments = (*version.activations, *version.weights)
    row: Row = {"torch": torch.__version__}
    for label, tf32 in (("torch", False), ("torch_tf32", True)):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
        with torch.inference_mode(), device_lock(CUDA_LOCK):
            got = version.arranged(version.run(*arguments)).cpu().numpy()
            secs, _ = time_kernel(_timer(torch, lambda: version.run(*arguments)), settings, None)
        error = relative_error(got, expected)
        row |= {f"{label}_ms": round(_MS_PER_SEC * statistics.median(secs), 5), f"{label}_error": float(f"{error:.2g}")}
    return row


def _timer(torch: Any, run: Callable[[], object]) -> Callable[[int, int], list[float]]:
    def timer(number: int, repeat: int) -> list[float]:
        times = []
        for _ in range(repeat):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            for _ in range(number):
                run()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / _MS_PER_SEC / number)
        return times

    return timer
