"""Which operators can be tuned: what schedules of them are right, and what the others say."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import tvm
from tvm.target import codegen

from colt_pipeline.errors import ConfigError
from colt_pipeline.measurement.bench import TVM_ERRORS, relative_error
from colt_pipeline.space import Space
from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.checks import caution
from colt_pipeline.workloads.data import unwritten
from colt_pipeline.workloads.own import of_program
from colt_pipeline.workloads.workload import Array, Workload
from tests.support import SMALL
from tests.workloads.operators import EXTERN, FIXED, TUNABLE, attention, gemm, packed, scattered, taken, taken_in_steps

pytestmark = pytest.mark.tvm

HERE = {"kind": "llvm", "num-cores": 2, "mcpu": codegen.llvm_get_system_cpu()}


def run(
    module: tvm.IRModule, workload: Workload, inputs: Sequence[Array], target: dict[str, Any] = HERE
) -> list[Array]:
    kernel = tvm.compile(module, target=tvm.target.Target(target)).mod
    given = dict(zip(workload.inputs_at, inputs, strict=True))
    arguments = [
        tvm.runtime.tensor(given[i] if i in given else unwritten(p.shape, p.dtype), tvm.cpu())
        for i, p in enumerate(workload.parameters)
    ]
    kernel["main"](*arguments)
    return [arguments[i].numpy() for i in workload.outputs]


def errors(workload: Workload, found: Sequence[Array], expected: Sequence[Array]) -> list[float]:
    """The errors in units of what is allowed; where nothing is allowed, 0 or more than 1."""
    return [
        relative_error(out, e) / rtol if rtol else 2.0 * (not np.array_equal(out, e))
        for out, e, rtol in zip(found, expected, workload.rtols, strict=True)
    ]


def sampled(workload: Workload, count: int = 2, target: dict[str, Any] = HERE, seed: int = 0) -> Iterator[tvm.IRModule]:
    for program in Space(workload.module, target).initial(count, np.random.default_rng(seed)):
        yield program.schedule.mod


@pytest.mark.parametrize("name", TUNABLE)
def test_schedules_of_what_can_be_tuned_are_right(name: str) -> None:
    make, in_numpy = TUNABLE[name]
    workload = of_program(name, make(), {})
    inputs = workload.inputs()
    expected = workload.expected(inputs)
    assert all(np.abs(e.astype(np.float64)).max() > 0 for e in expected)
    if in_numpy is not None:
        assert max(errors(workload, expected, in_numpy(*inputs))) <= 1
    assert Space(workload.module, HERE).tunable
    for module in sampled(workload):
        assert max(errors(workload, run(module, workload, inputs), expected)) <= 1


@pytest.mark.parametrize("name", FIXED)
def test_what_leaves_no_decision_says_so(name: str) -> None:
    workload = of_program(name, FIXED[name](), {})
    assert not Space(workload.module, HERE).tunable
    inputs = workload.inputs()
    assert max(errors(workload, run(workload.module, workload, inputs), workload.expected(inputs))) == 0


@pytest.mark.parametrize("name", EXTERN)
def test_what_is_not_tir_says_so(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} has tvm_call_packed, which TVM cannot schedule"):
        of_program(name, EXTERN[name](), {})


def test_the_catalogue_can_be_tuned() -> None:
    for name, shape in SMALL.items():
        assert Space(build(name, shape).module, HERE).tunable


@pytest.mark.parametrize(("summed", "k"), [("float16", 4096), ("float32", 4096), ("float64", 4096)])
def test_tolerances_hold_for_long_sums(summed: str, k: int) -> None:
    """With one output in a row, TVM's rules split the sum, which changes its order."""
    workload = of_program("long", gemm(summed, summed, summed, 1, 8, k), {})
    inputs = workload.inputs()
    expected = workload.expected(inputs)
    reordered = 0
    for module in sampled(workload, 6, seed=1):
        found = run(module, workload, inputs)
        assert max(errors(workload, found, expected)) <= 1
        reordered += not np.array_equal(found[0], expected[0])
    assert reordered
    shuffled = run(workload.module, workload, [inputs[0], inputs[1][::-1].copy()])
    assert min(errors(workload, shuffled, expected)) > 10


def test_sums_in_bfloat16_build_seldom_and_are_right_then() -> None:
    workload = of_program("bf16", gemm("bfloat16", "bfloat16", "bfloat16"), {})
    assert "accumulate in float32" in str(caution(workload.main))
    assert caution(gemm("bfloat16", "bfloat16", "float32")) is None
    inputs = workload.inputs()
    outcomes = []
    for module in sampled(workload, 6):
        try:
            found = run(module, workload, inputs)
        except TVM_ERRORS:
            outcomes.append("build_error")
        else:
            outcomes.append("right" if max(errors(workload, found, workload.expected(inputs))) <= 1 else "wrong")
    assert set(outcomes) == {"right", "build_error"}


def test_wrong_schedules_of_attention_are_noticed() -> None:
    """TVM's rules make some wrong programs of it; they differ from the reference by far more than the tolerance."""
    workload = of_program("attention", attention(), {})
    inputs = workload.inputs()
    expected = workload.expected(inputs)
    found = [max(errors(workload, run(m, workload, inputs), expected)) for m in sampled(workload, 4)]
    assert min(found) <= 1
    assert all(error <= 1 or error > 100 for error in found)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="rules of x86 processors")
@pytest.mark.parametrize("mcpu", ["rocketlake", "cascadelake", "skylake-avx512", "haswell"])
@pytest.mark.parametrize("make", [lambda: gemm("uint8", "int8", "int32", 16, 32, 64), packed], ids=["plain", "packed"])
def test_bytes_use_rules_without_intrinsics(mcpu: str, make: Any) -> None:
    workload = of_program("bytes", make(), {})
    target = {"kind": "llvm", "num-cores": 2, "mcpu": mcpu}
    space = Space(workload.module, target)
    rules = {type(rule).__name__ for rule in space.context.space_generator.sch_rules}
    assert "MultiLevelTiling" in rules
    assert "MultiLevelTilingWithIntrin" not in rules
    inputs = workload.inputs()
    features = codegen.llvm_get_cpu_features(tvm.target.Target(target))
    runs = set(features) <= set(codegen.llvm_get_cpu_features(tvm.target.Target(HERE)))
    for module in sampled(workload, 3, target):
        if runs:
            assert max(errors(workload, run(module, workload, inputs, target), workload.expected(inputs))) == 0
        else:
            tvm.compile(module, target=tvm.target.Target(target))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="rules of x86 processors")
def test_floats_keep_the_rules_of_their_target() -> None:
    workload = of_program("floats", gemm("float32", "float32", "float32"), {})
    space = Space(workload.module, {"kind": "llvm", "num-cores": 2, "mcpu": "rocketlake"})
    assert "MultiLevelTilingWithIntrin" in {type(r).__name__ for r in space.context.space_generator.sch_rules}


def test_indices_stay_within_what_they_index() -> None:
    (numbers,) = of_program("take", taken("int32", 200)(), {}).inputs()[1:]
    assert numbers.min() == 0 and numbers.max() == 19
    _, places, _ = of_program("scatter", scattered(), {}).inputs()
    assert 0 <= places.min() and 8 < places.max() < 64
    (few,) = of_program("take", taken("int8", 200)(), {}).inputs()[1:]
    assert few.min() == 0 and few.max() == 19
    (steps,) = of_program("steps", taken_in_steps(), {}).inputs()[1:]
    assert 0 <= steps.min() and 0 < steps.max() * 3 < 20
