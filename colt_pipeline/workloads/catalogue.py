"""The kernels that are tuned: ``WORKLOADS[name](**shape) -> Workload``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache, partial

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.attention import attention_core
from colt_pipeline.workloads.batched_matmul import batched_matmul_nt
from colt_pipeline.workloads.convolution import convolution, depthwise_convolution
from colt_pipeline.workloads.extracted import extracted
from colt_pipeline.workloads.llama import model_of
from colt_pipeline.workloads.projection import projection
from colt_pipeline.workloads.workload import Workload

# The five kernels of the paper, then extras: the attention core of Llama-3-8B, and two kernels of other
# kinds, to see whether anything here fits the paper's alone.
WORKLOADS: dict[str, Callable[..., Workload]] = {
    "llama3_8b_attention": projection,
    "deepseek_r1_moe": projection,
    "flux_attention": partial(attention_core, causal=False),
    "flux_conv": convolution,
    "llama4_scout_mlp": projection,
    "llama3_8b_attention_core": partial(attention_core, causal=True),
    "batched_matmul_nt": batched_matmul_nt,
    "depthwise_conv": depthwise_convolution,
}


def build(name: str, shape: dict[str, int]) -> Workload:
    """The workload `name` at `shape`, built once per process.

    MODEL.TASK is one kernel of a whole model, see `extracted`.

    Raises:
        ConfigError: unknown name, missing or unknown size, size below one.
    """
    return _built(name, tuple(shape.items()))


@cache
def _built(name: str, sizes: tuple[tuple[str, int], ...]) -> Workload:
    shape = dict(sizes)
    if "." in name:
        model, _, task = name.partition(".")
        return extracted(model_of(model, shape)).workload(name, task, shape)
    if name not in WORKLOADS:
        raise ConfigError(f"workload.name={name} is unknown; choose one of {', '.join(WORKLOADS)}")
    wanted = [p for p in inspect.signature(WORKLOADS[name]).parameters if p not in ("name", "causal")]
    if sorted(shape) != sorted(wanted):
        raise ConfigError(f"workload.shape of {name} needs the sizes {', '.join(wanted)}; got {', '.join(shape)}")
    small = {k: v for k, v in shape.items() if v < 1}
    if small:
        raise ConfigError(f"workload.shape of {name}: sizes must be at least 1; got {small}")
    return WORKLOADS[name](name, **shape)
