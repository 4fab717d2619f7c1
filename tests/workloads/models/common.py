"""A model as it is split, compiled and run, beside what it should compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tvm

from colt_pipeline.measurement.bench import relative_error
from colt_pipeline.measurement.whole_model import prepared
from colt_pipeline.space import Space
from colt_pipeline.workloads.data import tolerance
from colt_pipeline.workloads.extracted import ExtractedModel
from colt_pipeline.workloads.models.files import read_model
from colt_pipeline.workloads.models.model import Model
from colt_pipeline.workloads.models.unscheduled import flat

TARGET = {"kind": "llvm", "num-cores": 2}
EXTENDED = ("vector_math", "row_fusion", "register_tiles", "packing", "padding", "sound")


def read(
    path: Path, function: str | None = None, weights: Path | None = None, sizes: Mapping[str, int] | None = None
) -> Model:
    return read_model("mine", path, function, sizes or {}, weights)


def scheduled(whole: ExtractedModel, additions: Sequence[str]) -> dict[str, tvm.IRModule]:
    """One random program of each kernel."""
    found = {}
    for task in whole.tasks:
        if not task.is_view:
            space = Space(whole.workload(f"mine.{task.name}", task.name, {}).module, TARGET, additions)
            found[task.name] = space.initial(1, np.random.default_rng(1))[0].schedule.mod
    return found


def check(model: Model, whole: ExtractedModel, modules: Mapping[str, tvm.IRModule]) -> None:
    """The compiled model computes what the original does."""
    inputs = model.inputs()
    expected = model.reference(inputs)
    outputs = [x.numpy() for x in flat(prepared(whole, modules, TARGET, True, inputs)())]
    assert [(x.shape, x.dtype) for x in outputs] == [(x.shape, x.dtype) for x in expected]
    for out, want in zip(outputs, expected, strict=True):
        assert relative_error(out, want) <= tolerance(str(out.dtype))


def run(model: Model) -> ExtractedModel:
    """Check a model without schedules, packed; returns how it is split."""
    whole = ExtractedModel(model, True)
    check(model, whole, {})
    return whole
