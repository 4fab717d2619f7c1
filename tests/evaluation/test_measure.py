"""Measuring for real: a worker that lives on, and faults that cost one sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tvm
from tvm import te

from colt_pipeline.config import MeasureConfig
from colt_pipeline.evaluation.devices import cpu_target, host_cpu
from colt_pipeline.evaluation.measure import LocalMeasurer
from colt_pipeline.space import Space
from colt_pipeline.workloads import build

pytestmark = pytest.mark.tvm

SHAPE = {"batch": 1, "tokens": 4, "inner": 32, "outer": 16}
SETTINGS = MeasureConfig(max_repeats=4, budget_secs=0.01, timeout_secs=20.0)


@pytest.fixture
def measurer() -> Iterator[LocalMeasurer]:
    local = LocalMeasurer(build("deepseek_r1_moe", SHAPE), cpu_target(host_cpu(), 0, ""), SETTINGS)
    yield local
    local.close()


def kernel(body: te.Tensor, a: te.Tensor, b: te.Tensor) -> tvm.IRModule:
    return tvm.IRModule({"main": te.create_prim_func([a, b, body]).with_attr("global_symbol", "main")})


def scaled(factor: float) -> tvm.IRModule:
    """The workload's matmul times a factor: wrong unless it is 1."""
    a, b = te.placeholder((1, 4, 32), name="A"), te.placeholder((32, 16), name="B")
    k = te.reduce_axis((0, 32), name="k")
    c = te.compute((1, 4, 16), lambda n, i, j: te.sum(a[n, i, k] * b[k, j] * te.const(factor, "float32"), axis=k))
    return kernel(c, a, b)


def out_of_bounds() -> tvm.IRModule:
    """Reads far beyond the end of an input: the worker dies."""
    a, b = te.placeholder((1, 4, 32), name="A"), te.placeholder((32, 16), name="B")
    c = te.compute((1, 4, 16), lambda n, i, j: a[n, i, j + (i + 1) * te.const(2**30, "int32")] + b[i, j])
    return kernel(c, a, b)


def test_schedules_of_a_workload_measure_and_are_correct(measurer: LocalMeasurer) -> None:
    workload = build("deepseek_r1_moe", SHAPE)
    space = Space(workload.module, cpu_target(host_cpu(), 0, ""))
    programs = space.initial(2, np.random.default_rng(0))
    measured = measurer.measure([workload.module, *(p.schedule.mod for p in programs)])
    for m in measured:
        assert m.error is None, m.detail
        assert m.latency_secs is not None and 0 < m.latency_secs < 0.1
        assert 1 <= len(m.run_secs) <= SETTINGS.max_repeats
        assert m.max_relative_error is not None and m.max_relative_error < workload.rtol


def test_a_wrong_result_is_an_error_not_a_sample(measurer: LocalMeasurer) -> None:
    right, wrong = measurer.measure([scaled(1.0), scaled(1.01)])
    assert right.error is None
    assert wrong.error == "wrong_result" and wrong.latency_secs is None
    assert wrong.max_relative_error == pytest.approx(0.01, rel=0.01)


def test_an_infinite_result_is_wrong_and_can_be_written_down(measurer: LocalMeasurer) -> None:
    wrong = measurer.measure([scaled(float("inf"))])[0]
    assert wrong.error == "wrong_result" and wrong.max_relative_error is None


def test_a_crash_costs_one_sample(measurer: LocalMeasurer) -> None:
    crashed, after = measurer.measure([out_of_bounds(), scaled(1.0)])
    assert crashed.error == "crash" and "status -11" in crashed.detail
    assert after.error is None


def test_a_program_that_does_not_build_is_an_error(measurer: LocalMeasurer) -> None:
    a, b = te.placeholder((1, 4, 32), name="A"), te.placeholder((32, 16), name="B")
    c = te.compute(
        (1, 4, 16), lambda n, i, j: tvm.tirx.call_extern("float32", "no_such_function", a[n, i, j] + b[i, j])
    )
    broken, after = measurer.measure([kernel(c, a, b), scaled(1.0)])
    assert broken.error in ("build_error", "run_error", "crash")
    assert after.error is None


def test_a_kernel_that_takes_too_long_is_a_timeout(measurer: LocalMeasurer) -> None:
    a, b = te.placeholder((1, 4, 32), name="A"), te.placeholder((32, 16), name="B")
    k = te.reduce_axis((0, 2**31 - 1), name="k")
    n2 = te.reduce_axis((0, 64), name="n2")
    c = te.compute(
        (1, 4, 16),
        lambda n, i, j: te.sum(te.sin(a[n, i, k % 32] * b[(k + n2) % 32, j]), axis=[k, n2]),
    )
    measurer.measure([scaled(1.0)])  # the worker is up, so the limit is the kernel's alone
    measurer._settings = MeasureConfig(max_repeats=1, budget_secs=0.01, timeout_secs=2.0)
    slow, after = measurer.measure([kernel(c, a, b), scaled(1.0)])
    assert slow.error == "timeout"
    assert after.error is None


def test_a_worker_killed_from_outside_is_replaced(measurer: LocalMeasurer) -> None:
    measurer.measure([scaled(1.0)])
    process = measurer._worker._process
    assert process is not None
    process.kill()
    process.wait()
    assert measurer.measure([scaled(1.0)])[0].error is None
