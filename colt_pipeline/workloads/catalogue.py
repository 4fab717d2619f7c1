"""The kernels that are tuned: ``WORKLOADS[name](**shape) -> Workload``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import tvm

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.attention import attention_core
from colt_pipeline.workloads.batched_matmul import batched_matmul_nt
from colt_pipeline.workloads.convolution import convolution, depthwise_convolution
from colt_pipeline.workloads.extracted import extracted
from colt_pipeline.workloads.llama import model_of
from colt_pipeline.workloads.own import of_program
from colt_pipeline.workloads.program_files import read_program
from colt_pipeline.workloads.program_json import without_spans
from colt_pipeline.workloads.projection import projection
from colt_pipeline.workloads.workload import Workload

# The five kernels of the paper, then Llama-3-8B's attention core and two kernels of other kinds, which check that
# nothing here is tailored to the paper's.
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


def build(
    name: str,
    shape: dict[str, int],
    source: str | None = None,
    function: str | None = None,
    bind: Mapping[str, int] | None = None,
    inputs: str | None = None,
) -> Workload:
    """The workload that a configuration describes, built once per process.

    Args:
        name: of the catalogue; or MODEL.TASK for one kernel of a whole model, see `extracted`; or, with `source`, what
            distinguishes the contents of these files.
        shape: sizes by name.
        source: file of the user's own kernel, see `own`.
        function: which of its functions.
        bind: its symbolic sizes.
        inputs: its inputs.

    Raises:
        ConfigError: unknown name, missing or unknown size, size below one; or an unsuitable file.
    """
    if source is not None:
        return _own(name, source, function, tuple((bind or {}).items()), inputs)
    return _built(name, tuple(shape.items()))


def recipe(workload: Workload) -> dict[str, Any]:
    """What `rebuild` makes an equal workload from, as JSON for another process."""
    known = {"name": workload.name, "shape": workload.shape}
    if not workload.is_own:
        return known
    inputs = workload.inputs_file
    return {**known, "program": without_spans(workload.module), "inputs": inputs and str(inputs)}


def rebuild(recipe: Mapping[str, Any]) -> Workload:
    """The workload that `recipe` describes.

    Raises:
        ConfigError: as for `build`.
    """
    if "program" not in recipe:
        return build(recipe["name"], recipe["shape"])
    main, inputs = tvm.ir.load_json(recipe["program"])["main"], recipe["inputs"]
    return of_program(recipe["name"], main, recipe["shape"], inputs and Path(inputs))


@cache
def _own(
    name: str, source: str, function: str | None, sizes: tuple[tuple[str, int], ...], inputs: str | None
) -> Workload:
    main = read_program(Path(source), function, dict(sizes))
    return of_program(name, main, dict(sizes), Path(inputs) if inputs else None)


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
