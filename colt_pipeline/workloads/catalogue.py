"""The kernels that are tuned: ``WORKLOADS[name](**shape) -> Workload``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import tvm

from colt_pipeline.errors import ConfigError
from colt_pipeline.records import PACKED, packed_name
from colt_pipeline.workloads.attention import attention_core
from colt_pipeline.workloads.batched_matmul import batched_matmul_nt
from colt_pipeline.workloads.convolution import convolution, depthwise_convolution
from colt_pipeline.workloads.extracted import ExtractedModel
from colt_pipeline.workloads.llama import model_of
from colt_pipeline.workloads.models.files import read_model
from colt_pipeline.workloads.models.model import Model
from colt_pipeline.workloads.own import of_program
from colt_pipeline.workloads.packing import with_constants
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
    constant: Sequence[int] = (),
    weights: str | None = None,
    model: bool = False,
) -> Workload:
    """The workload that a configuration describes, built once per process.

    Args:
        name: of the catalogue; or MODEL.TASK for one kernel of a whole model, see `extracted`; or, with `source`, what
            distinguishes the contents of these files.
        shape: sizes by name.
        source: file of the user's own kernel, see `own`, or model, see `models.files`.
        function: which of its functions.
        bind: its symbolic sizes.
        inputs: its inputs.
        constant: positions of inputs that never change, see `packing`; of a model's kernel all that are worth packing.
        weights: file of the model's weights.
        model: whether the file holds a whole model.

    Raises:
        ConfigError: unknown name, missing or unknown size, size below one; or an unsuitable file.
    """
    name = name.partition(PACKED)[0]
    sizes, bound = tuple(shape.items()), tuple((bind or {}).items())
    if "." in name or model:
        whole, _, task = name.partition(".")
        if not task:
            raise ConfigError(f"workload.name={name} is a whole model; tune it with python -m colt_pipeline.tune_model")
        return _task(whole, task, sizes, source, function, bound, weights, tuple(constant))
    if source is not None:
        return _own(name, source, function, bound, inputs, tuple(constant))
    return _built(name, sizes, tuple(constant))


def model(
    name: str,
    shape: Mapping[str, int],
    source: str | None = None,
    function: str | None = None,
    bind: Mapping[str, int] | None = None,
    weights: str | None = None,
    **_: Any,
) -> Model:
    """The whole model that a configuration describes, read once per process; arguments as for `build`.

    Raises:
        ConfigError: the model is unknown, or its file is unsuitable.
    """
    return _model(name, tuple(shape.items()), source, function, tuple((bind or {}).items()), weights)


def recipe(workload: Workload) -> dict[str, Any]:
    """What `rebuild` makes an equal workload from, as JSON for another process."""
    known: dict[str, Any] = {"name": workload.name, "shape": workload.shape}
    if workload.constants:
        known["constant"] = list(workload.constants)
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
        return build(recipe["name"], recipe["shape"], constant=recipe.get("constant", ()))
    main, inputs = tvm.ir.load_json(recipe["program"])["main"], recipe["inputs"]
    return of_program(recipe["name"], main, recipe["shape"], inputs and Path(inputs))


_Sizes = tuple[tuple[str, int], ...]


@cache
def _own(
    name: str, source: str, function: str | None, sizes: _Sizes, inputs: str | None, constant: tuple[int, ...]
) -> Workload:
    main = read_program(Path(source), function, dict(sizes))
    made = of_program(name, main, dict(sizes), Path(inputs) if inputs else None)
    return _with(made, constant)


def _with(workload: Workload, constant: tuple[int, ...]) -> Workload:
    if not constant:
        return workload
    return replace(with_constants(workload, constant), name=packed_name(workload.name, constant))


@cache
def _model(
    name: str, shape: _Sizes, source: str | None, function: str | None, sizes: _Sizes, weights: str | None
) -> Model:
    if source is None:
        return model_of(name, dict(shape)).model
    return read_model(name, Path(source), function, dict(sizes), None if weights is None else Path(weights))


@cache
def extracted(whole: Model, prepack: bool) -> ExtractedModel:
    """The model split into tasks; cached, because it takes some seconds."""
    return ExtractedModel(whole, prepack)


@cache
def _task(
    name: str,
    task: str,
    shape: _Sizes,
    source: str | None,
    function: str | None,
    sizes: _Sizes,
    weights: str | None,
    constant: tuple[int, ...],
) -> Workload:
    whole = _model(name, shape, source, function, sizes, weights)
    return extracted(whole, bool(constant)).workload(
        packed_name(f"{name}.{task}", constant), task, dict(shape or sizes)
    )


@cache
def _built(name: str, sizes: _Sizes, constant: tuple[int, ...]) -> Workload:
    shape = dict(sizes)
    if name not in WORKLOADS:
        raise ConfigError(f"workload.name={name} is unknown; choose one of {', '.join(WORKLOADS)}")
    wanted = [p for p in inspect.signature(WORKLOADS[name]).parameters if p not in ("name", "causal")]
    if sorted(shape) != sorted(wanted):
        raise ConfigError(f"workload.shape of {name} needs the sizes {', '.join(wanted)}; got {', '.join(shape)}")
    small = {k: v for k, v in shape.items() if v < 1}
    if small:
        raise ConfigError(f"workload.shape of {name}: sizes must be at least 1; got {small}")
    return _with(WORKLOADS[name](name, **shape), constant)
