"""The best recorded schedules compared with PyTorch on this machine's CPU.

Both get the same inputs and number of threads, are timed in turn by the same rules, and are checked against the NumPy
reference. PyTorch runs eagerly in one persistent process, so it starts its threads only once; a schedule starts its
threads for each measurement. First runs do not count.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import MeasureConfig
from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.measurement.bench import relative_error
from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.workload import Workload
from stages.benchmarks import Row, command_line, names, positive, write_rows
from stages.benchmarks.recorded import best_schedules
from stages.benchmarks.rounds import median_secs, medians, own_process


def _convolution(torch: Any, x: Any, w: Any, groups: int = 1) -> Any:
    return torch.nn.functional.conv2d(x, w, padding=1, groups=groups)


def _attention(torch: Any, q: Any, key: Any, value: Any) -> Any:
    return torch.nn.functional.scaled_dot_product_attention(q[None], key[None], value[None])[0]


def _causal_attention(torch: Any, q: Any, key: Any, value: Any) -> Any:
    """Grouped-query attention of the last positions of a context."""
    tokens, context = q.shape[1], key.shape[1]
    visible = torch.ones(tokens, context, dtype=torch.bool).tril(context - tokens)
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(q[None], key[None], value[None], attn_mask=visible, enable_gqa=True)[0]


TORCH: dict[str, Callable[..., Any]] = {
    "llama3_8b_attention": lambda torch, a, b: torch.matmul(a, b),
    "deepseek_r1_moe": lambda torch, a, b: torch.matmul(a, b),
    "flux_attention": _attention,
    "flux_conv": _convolution,
    "llama4_scout_mlp": lambda torch, a, b: torch.matmul(a, b),
    "llama3_8b_attention_core": _causal_attention,
    "batched_matmul_nt": lambda torch, a, b: torch.bmm(a, b.transpose(1, 2)),
    "depthwise_conv": lambda torch, x, w: _convolution(torch, x, w[:, None], groups=w.shape[0]),
}
"""Workload -> function of the module torch and the input tensors that computes it."""


def rows(runs: Path, workloads: Sequence[str], rounds: int) -> list[Row]:
    """One row per workload: our latency, PyTorch's and their ratio; then the geometric mean of the ratios.

    Raises:
        ConfigError: PyTorch is not installed, or there are no finished runs.
        DeviceError: a recorded schedule does not run here, or PyTorch's result is wrong.
    """
    if find_spec("torch") is None:
        raise ConfigError("PyTorch is not installed; pip install -c constraints.txt -e '.[torch]'")
    settings = composed([]).measure
    with best_schedules(runs, workloads) as (backend, schedules), own_process() as process:
        threads = int(backend.target["num-cores"])

        def in_torch(workload: Workload) -> Callable[[], float]:
            arguments = (workload.name, tuple(workload.shape.items()), threads, settings)
            return lambda: process.submit(torch_secs, *arguments).result()

        subjects: dict[str, Callable[[], float]] = {}
        for s in schedules:
            subjects |= {s.workload.name: s.secs, f"{s.workload.name} in PyTorch": in_torch(s.workload)}
        found = medians(subjects, rounds, backend.device.lock)
    return table([s.workload.name for s in schedules], found, threads)


def table(workloads: list[str], secs: Mapping[str, float], threads: int) -> list[Row]:
    """The rows, from the median seconds of `NAME` and `NAME in PyTorch`."""
    found: list[Row] = []
    ratios = []
    for name in workloads:
        ours, theirs = secs[name], secs[f"{name} in PyTorch"]
        ratios.append(theirs / ours)
        row: Row = {"workload": name, "ours_ms": round(1e3 * ours, 4), "torch_ms": round(1e3 * theirs, 4)}
        found.append({**row, "torch/ours": round(ratios[-1], 3), "threads": threads})
    mean = round(statistics.geometric_mean(ratios), 3)
    return [*found, {"workload": "geometric mean", "torch/ours": mean, "threads": threads}]


def torch_secs(name: str, shape: tuple[tuple[str, int], ...], threads: int, settings: MeasureConfig) -> float:
    """Median seconds of a workload in PyTorch with this many threads, run in this process.

    Raises:
        DeviceError: the result is wrong.
    """
    import torch

    torch.set_num_threads(threads)
    inputs = _checked_inputs(name, shape)
    with torch.inference_mode():
        return median_secs(lambda: TORCH[name](torch, *inputs), settings)


@cache
def _checked_inputs(name: str, shape: tuple[tuple[str, int], ...]) -> tuple[Any, ...]:
    """The workload's inputs as tensors, after checking PyTorch's result for them."""
    import torch

    workload = build(name, dict(shape))
    inputs = workload.inputs()
    tensors = tuple(torch.from_numpy(x) for x in inputs)
    (expected,) = workload.expected(inputs)
    error = relative_error(TORCH[name](torch, *tensors).numpy(), expected)
    if not error <= workload.rtol:
        raise DeviceError(f"{name} in PyTorch: relative error {error:.3g}, allowed {workload.rtol:g}")
    return tensors


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.torch --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="directory with finished runs below")
    parser.add_argument("--workloads", type=names, default=(), help="comma-separated; default: all with a finished run")
    parser.add_argument("--rounds", type=positive, default=7, help="measurements of each")
    given = parser.parse_args(argv)
    return write_rows(lambda: rows(given.runs, given.workloads, given.rounds), given.out / "torch.csv")


if __name__ == "__main__":
    sys.exit(main())
