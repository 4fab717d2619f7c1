"""exp and its like over vectors: right everywhere, switched per compilation, part of a measurement's identity."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.s_tir import Schedule

from colt_pipeline.errors import DeviceMismatchError
from colt_pipeline.measurement import whole_model
from colt_pipeline.measurement.backend import Backend
from colt_pipeline.measurement.devices import Device, host_cpu
from colt_pipeline.measurement.ledger import Ledger
from colt_pipeline.measurement.measurer import LocalMeasurer
from colt_pipeline.measurement.process import WorkerProcess
from colt_pipeline.measurement.vector_math import pipeline
from colt_pipeline.measurement.worker import Worker
from colt_pipeline.serialization import digest
from colt_pipeline.workloads.catalogue import build, recipe
from colt_pipeline.workloads.extracted import ExtractedModel
from colt_pipeline.workloads.llama import Llama
from stages.benchmarks.kernels import SHAPE, workload
from tests.measurement.settings import SETTINGS, target

pytestmark = pytest.mark.tvm

LANES = 16
SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
INF, NAN = math.inf, math.nan
EXACT: dict[str, Any] = {
    "exp": np.exp,
    "exp2": np.exp2,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
}
RTOL = {"exp": 1e-7, "exp2": 1e-7, "log": 1e-7, "tanh": 2e-7, "sigmoid": 2e-7, "erf": 1.2e-7}
FLUSHED = ("exp", "exp2", "sigmoid")
"""Functions with results below the smallest normal number for other arguments than such."""
SPECIAL: dict[str, list[tuple[float, float]]] = {
    "exp": [(-INF, 0), (-200, 0), (-88, 0), (-0.0, 1), (0, 1), (88.8, INF), (200, INF), (INF, INF)],
    "exp2": [
        (-INF, 0),
        (-127, 0),
        (-126, SMALLEST_NORMAL),
        (0, 1),
        (10, 1024),
        (127, 2.0**127),
        (128, INF),
        (INF, INF),
    ],
    "log": [(-INF, NAN), (-1e-45, NAN), (-0.0, -INF), (0, -INF), (1, 0), (2.0**-149, -149 * math.log(2)), (INF, INF)],
    "tanh": [(-INF, -1), (-20, -1), (-0.0, -0.0), (0, 0), (1e-45, 1e-45), (20, 1), (3e38, 1), (INF, 1)],
    "sigmoid": [(-INF, 0), (-200, 0), (-0.0, 0.5), (0, 0.5), (30, 1), (200, 1), (INF, 1)],
    "erf": [(-INF, -1), (-5, -1), (-0.0, -0.0), (0, 0), (5, 1), (3e38, 1), (INF, 1)],
}


def kernel(name: str, size: int, dtype: str = "float32") -> tvm.IRModule:
    x = te.placeholder((size,), dtype, name="x")
    y = te.compute((size,), lambda i: getattr(tvm.tirx, name)(x[i]), name="y")
    return tvm.IRModule({"main": te.create_prim_func([x, y])})


def vectorized(module: tvm.IRModule) -> tvm.IRModule:
    schedule = Schedule(module)
    (loop,) = schedule.get_loops(schedule.get_sblock("y"))
    _, lanes = schedule.split(loop, [None, LANES])
    schedule.vectorize(lanes)
    return schedule.mod


def compiled(module: tvm.IRModule, on: bool = True) -> Any:
    return tvm.compile(module, target=tvm.target.Target(target()), tir_pipeline=pipeline(on)).mod


def code(module: tvm.IRModule, on: bool) -> str:
    return str(compiled(module, on).inspect_source("ll"))


def computed(module: tvm.IRModule, x: Any) -> Any:
    out = tvm.runtime.tensor(np.full_like(x, 7))
    compiled(module)["main"](tvm.runtime.tensor(x), out)
    return out.numpy()


def arguments() -> Any:
    """Numbers of all signs and exponents, infinities, NaN, and many where the functions change."""
    everywhere = np.arange(0, 2**32, 8191, dtype=np.uint64).astype(np.uint32).view(np.float32)
    dense = [np.linspace(-most, most, 100_000).astype(np.float32) for most in (1.5, 5, 110)]
    values = np.concatenate([everywhere, *dense])
    return values[: values.size // LANES * LANES]


@pytest.mark.parametrize("form", ["vectors", "tail", "scalars"])
@pytest.mark.parametrize("name", EXACT)
def test_every_result_is_exact_to_the_last_bits(name: str, form: str) -> None:
    x = arguments()[: -3 if form == "tail" else None]
    module = kernel(name, x.size)
    with np.errstate(all="ignore"):
        found = computed(module if form == "scalars" else vectorized(module), x).astype(np.float64)
        exact = EXACT[name](x.astype(np.float64))
        rounded = exact.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite].astype(np.float64))
    normal = finite & (np.abs(exact) >= SMALLEST_NORMAL)
    error = np.abs(found[normal] - exact[normal]) / np.abs(exact[normal])
    assert error.max() <= RTOL[name], x[normal][error.argmax()]
    small = finite & ~normal
    allowed = SMALLEST_NORMAL if name in FLUSHED else 2.0**-149
    assert np.abs(found[small] - exact[small]).max(initial=0.0) <= allowed


@pytest.mark.parametrize("lanes", [True, False], ids=["vectors", "scalars"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_arguments(name: str, lanes: bool) -> None:
    given, expected = np.array([*SPECIAL[name], (NAN, NAN)], np.float32).T
    x, module = np.resize(given, LANES), kernel(name, LANES)
    found = computed(vectorized(module) if lanes else module, x)[: given.size]
    np.testing.assert_array_max_ulp(found[np.isfinite(expected)], expected[np.isfinite(expected)], 1)
    np.testing.assert_array_equal(found[~np.isfinite(expected)], expected[~np.isfinite(expected)])
    zero = expected == 0
    assert np.array_equal(np.signbit(found[zero]), np.signbit(expected[zero]))


def test_results_below_the_normal_numbers_are_zero() -> None:
    x = np.linspace(-103, -87.34, 1600).astype(np.float32)
    assert not computed(vectorized(kernel("exp", x.size)), x).any()


@pytest.mark.parametrize("name", EXACT)
def test_half_precision(name: str) -> None:
    x = np.arange(2**16, dtype=np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64)).astype(np.float16)
    found = computed(vectorized(kernel(name, x.size, "float16")), x)
    known = ~np.isnan(exact)
    np.testing.assert_array_max_ulp(found[known], exact[known], 1)
    assert np.isnan(found[~known]).all()


def test_a_scheduled_softmax_calls_no_library() -> None:
    module = build("flux_attention", {"heads": 1, "kv_heads": 1, "head_dim": 16, "tokens": 32, "context": 32}).module
    schedule = Schedule(module)
    *_, last = schedule.get_loops(schedule.get_sblock("weight"))
    _, lanes = schedule.split(last, [None, LANES])
    schedule.vectorize(lanes)
    assert "@llvm.exp" in code(schedule.mod, on=False)
    assert "@llvm.exp" not in code(schedule.mod, on=True)


def test_switched_off_and_in_other_kernels_nothing_changes() -> None:
    module = vectorized(kernel("exp", 64))
    before = code(module, on=False)
    assert code(module, on=True) != before
    stock = tvm.compile(module, target=tvm.target.Target(target())).mod
    assert code(module, on=False) == before == stock.inspect_source("ll")
    assert code(workload().module, on=True) == code(workload().module, on=False)


def test_a_worker_builds_each_as_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, module = Worker(), tvm.ir.save_json(vectorized(kernel("exp", 64)))
    worker.load(recipe(workload()), target(), None)
    for name, on in {"off": False, "on": True, "off again": False}.items():
        assert worker.build(name, module, 4096, on) == {"ok": True}
    found = {name: "llvm.exp" in built().library.mod.inspect_source("ll") for name, built in worker._built.items()}
    assert found == {"off": True, "on": False, "off again": True}


@pytest.mark.parametrize("on", [True, False])
def test_workers_are_told(on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[dict[str, Any]] = []

    def request(process: WorkerProcess, message: dict[str, Any], *_: object) -> dict[str, Any]:
        requests.append(message)
        return {"ok": True} if message["op"] == "build" else {"run_secs": [1.0]}

    monkeypatch.setattr(WorkerProcess, "request", request)
    with closing(LocalMeasurer(workload(), target(), replace(SETTINGS, vector_math=on))) as measurer:
        assert next(iter(measurer.measure([workload().module], None))).latency_secs == 1.0
    assert [message["vector_math"] for message in requests if message["op"] == "build"] == [on]


def test_a_whole_model_is_compiled_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax and SiLU are kernels of the model, and its logits are checked."""
    found, compile_ = [], tvm.compile

    def kept(*given: Any, **settings: Any) -> Any:
        found.append(compile_(*given, **settings))
        return found[-1]

    monkeypatch.setattr(tvm, "compile", kept)
    sizes = {"heads": 2, "kv_heads": 1, "head_dim": 16, "intermediate": 64, "vocabulary": 96, "tokens": 4}
    whole = ExtractedModel(Llama(layers=1, hidden=32, rope_theta=500000, **sizes).model)
    for on in (False, True):
        (found_now,) = whole_model._measured(whole, {}, target(), replace(SETTINGS, vector_math=on), beside=False)
        assert found_now.error is None
    called = ["llvm.exp" in library.mod.imports[0].inspect_source("ll") for library in found]
    assert called == [True, False]


def test_it_is_part_of_a_measurements_identity(tmp_path: Path) -> None:
    device = host_cpu()
    backend = Backend(Device(device.facts), target(), "measured", lambda _: pytest.fail("nothing is measured"))
    tuned = build("deepseek_r1_moe", SHAPE)
    off, on = (backend.header(tuned, replace(SETTINGS, vector_math=each)) for each in (False, True))
    assert "vector_math" not in off["evaluator"] and on["evaluator"].pop("vector_math") is True
    assert on == off
    on["evaluator"]["vector_math"] = True
    assert digest(on) != digest(off)
    path = tmp_path / "measurements.jsonl"
    Ledger(path, off, "append").close()
    with pytest.raises(DeviceMismatchError, match="another evaluator .*vector_math: None there, True now"):
        Ledger(path, on, "append")
