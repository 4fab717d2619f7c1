"""Constant inputs of a kernel: packed once, as its schedule wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import tvm
from tvm import te, topi

from colt_pipeline.errors import ConfigError
from colt_pipeline.measurement.bench import Bench
from colt_pipeline.records import Measurement
from colt_pipeline.space import Space
from colt_pipeline.workloads.own import of_program
from colt_pipeline.workloads.packing import PACK, Split, split, with_constants
from colt_pipeline.workloads.workload import Workload
from tests.support import configured
from tests.workloads.models.common import EXTENDED, TARGET

pytestmark = pytest.mark.tvm

SETTINGS = replace(configured().measure, min_repeats=1, max_repeats=2, min_repeat_secs=0.0)


def made(*arguments: te.Tensor) -> Workload:
    return of_program("mine", te.create_prim_func(arguments), {})


def product(x: te.Tensor, w: te.Tensor, transposed: bool = False) -> te.Tensor:
    k = te.reduce_axis((0, int(x.shape[1])), name="k")
    columns = w.shape[0 if transposed else 1]
    return te.compute(
        (x.shape[0], columns),
        lambda i, j: te.sum(x[i, k] * (w[j, k] if transposed else w[k, j]), axis=k),
        name="matmul",
    )


def gemm(transposed: bool = False) -> Workload:
    x = te.placeholder((32, 48), name="x")
    w = te.placeholder((64, 48) if transposed else (48, 64), name="w")
    bias = te.placeholder((64,), name="bias")
    return made(x, w, bias, topi.add(product(x, w, transposed), bias))


def conv() -> Workload:
    x, w = te.placeholder((1, 10, 10, 16), name="x"), te.placeholder((3, 3, 16, 32), name="w")
    return made(x, w, topi.nn.conv2d_nhwc(x, w, 1, 1, 1))


def two() -> Workload:
    x, v, w = (te.placeholder((32, 32), name=name) for name in "xvw")
    return made(x, v, w, product(product(x, v), w))


@pytest.mark.parametrize("additions", [(), EXTENDED], ids=["tvm", "extended"])
@pytest.mark.parametrize(
    ("workload", "constants"),
    [(gemm(), (1,)), (gemm(True), (1,)), (gemm(), (1, 2)), (gemm(), (0, 1)), (conv(), (1,)), (two(), (1, 2))],
    ids=["gemm", "nt", "bias", "both", "conv", "two products"],
)
def test_programs_compute_the_same(workload: Workload, constants: Sequence[int], additions: Sequence[str]) -> None:
    fixed = with_constants(workload, constants)
    assert fixed.constants == tuple(sorted(constants))
    bench = Bench(fixed)
    packs = 0
    for program in Space(fixed.module, TARGET, additions).initial(2, np.random.default_rng(0)):
        parts = split(program.schedule.mod)
        assert {place for place, _ in parts.packed} <= set(constants)
        packs += bool(parts.packed)
        measured = measure(bench, parts)
        assert measured.error is None, measured.detail
        assert measured.cold_secs is not None
    assert packs


def measure(bench: Bench, parts: Split) -> Measurement:
    library = tvm.compile(parts.module, target=tvm.target.Target(TARGET))
    return bench.measure(library.mod, tvm.cpu(), SETTINGS, None, packed=parts.packed)


def test_wrong_packing_is_detected() -> None:
    fixed = with_constants(gemm(), (1,))
    programs = Space(fixed.module, TARGET, ()).initial(8, np.random.default_rng(0))
    parts = next(p for p in (split(program.schedule.mod) for program in programs) if p.packed)
    ((place, form),) = parts.packed
    shape = list(form.shape)
    given = te.placeholder((48, 64), name="given")
    zeros = te.compute(shape, lambda *_: tvm.tirx.const(0.0, "float32"), name="zeros")
    wrong = te.create_prim_func([given, zeros]).with_attr("global_symbol", PACK)
    module = tvm.IRModule({**{v.name_hint: f for v, f in parts.module.functions.items()}, PACK: wrong})
    assert place == 1
    assert measure(Bench(fixed), replace(parts, module=module)).error == "wrong_result"


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ((3,), r"workload.constant=\[3\] names no input of mine; its inputs are 0 \(x\), 1 \(w\), 2 \(bias\)"),
        ((-1,), r"workload.constant=\[-1\] names no input"),
        ((1, 9), r"workload.constant=\[9\] names no input"),
        ((1, 1), r"workload.constant=\[1, 1\] names an input twice"),
    ],
)
def test_positions_that_name_no_input(positions: Sequence[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_constants(gemm(), positions)


def test_modules_without_constants_stay_as_they_are() -> None:
    module = gemm().module
    assert split(module).module.same_as(module)
    unpacked = split(with_constants(gemm(), (1,)).module)
    assert not unpacked.packed
    assert [v.name_hint for v in unpacked.module.functions] == ["main"]
