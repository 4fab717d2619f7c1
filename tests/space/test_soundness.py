"""Schedules that TVM accepts although they compute something else or can take minutes to compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te, tirx, topi
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms

from colt_pipeline.space import Space
from colt_pipeline.space.generate import generate
from colt_pipeline.space.soundness import accumulates_again, leaves_unwritten, unsound
from colt_pipeline.workloads.catalogue import build
from tests.space.small import CPU, SHAPES
from tests.workloads.operators import TUNABLE, program, tensor

Array = np.ndarray[Any, Any]
MARK = 7.0
"""What outputs hold before a program runs."""


def computed(module: tvm.IRModule, inputs: list[Array]) -> Array:
    """The last parameter after a run."""
    shape = [int(extent) for extent in module["main"].params[-1].ty.shape]
    arrays = [tvm.runtime.tensor(array) for array in [*inputs, np.full(shape, MARK, "float32")]]
    tvm.compile(module, target=tvm.target.Target("llvm"))["main"](*arrays)
    return np.asarray(arrays[-1].numpy())


def random(*shape: int) -> Array:
    return np.random.default_rng(0).random(shape, np.float32)


def scaled_product(combine: Callable[..., Any]) -> tvm.tirx.PrimFunc:
    """The sums of the columns of `w`, each row times what `combine` makes of a row of `x`."""
    x, w = tensor("x", 4, 8), tensor("w", 8, 2)
    s, k = te.reduce_axis((0, 8), "s"), te.reduce_axis((0, 8), "k")
    row = te.compute((4,), lambda i: combine(x[i, s], axis=s), name="row")
    out = te.compute((4, 2), lambda i, j: te.sum(row[i] * w[k, j], axis=k), name="out")
    return program(x, w, out)


def row_in_the_loops_of_its_consumer(combine: Callable[..., Any]) -> Schedule:
    """`row` is computed in loops k and j of `out`, neither of which it uses."""
    schedule = Schedule(tvm.IRModule({"main": scaled_product(combine)}))
    i, j, k = schedule.get_loops(schedule.get_sblock("out"))
    schedule.reorder(i, k, j)
    schedule.compute_at(schedule.get_sblock("row"), j, preserve_unit_loops=True)
    return schedule


def test_a_sum_is_added_again_where_its_initialization_leaves_a_loop_of_its_consumer() -> None:
    inputs = [random(4, 8), random(8, 2)]
    right = inputs[0].sum(1, keepdims=True) * inputs[1].sum(0)
    schedule = row_in_the_loops_of_its_consumer(te.sum)
    np.testing.assert_allclose(computed(schedule.mod, inputs), right, rtol=1e-5)
    assert not accumulates_again(schedule.mod)
    assert ms.postproc.RewriteReductionBlock().apply(schedule)
    assert computed(schedule.mod, inputs).min() > 4 * right.max()  # TVM's fault; a fixed TVM needs no rule
    assert accumulates_again(schedule.mod)


def test_a_maximum_may_be_computed_again() -> None:
    inputs = [random(4, 8), random(8, 2)]
    schedule = row_in_the_loops_of_its_consumer(te.max)
    assert ms.postproc.RewriteReductionBlock().apply(schedule)
    right = inputs[0].max(1, keepdims=True) * inputs[1].sum(0)
    np.testing.assert_allclose(computed(schedule.mod, inputs), right, rtol=1e-5)
    assert not unsound(schedule.mod)


def test_sums_of_several_values_at_once_are_found() -> None:
    """Their updates are named before they are stored."""
    x, w = tensor("x", 4, 8), tensor("w", 8, 2)
    s, k = te.reduce_axis((0, 8), "s"), te.reduce_axis((0, 8), "k")
    sums = te.comm_reducer(
        lambda old, new: (old[0] + new[0], old[1] + new[1]), lambda *types: tuple(tirx.const(0, t) for t in types)
    )
    first, second = te.compute((4,), lambda i: sums((x[i, s], x[i, s] * x[i, s]), axis=s), name="row")
    out = te.compute((4, 2), lambda i, j: te.sum(first[i] * second[i] * w[k, j], axis=k), name="out")
    schedule = Schedule(tvm.IRModule({"main": program(x, w, out)}))
    i, j, k = schedule.get_loops(schedule.get_sblock("out"))
    schedule.reorder(i, k, j)
    schedule.compute_at(schedule.get_sblock("row"), j, preserve_unit_loops=True)
    assert ms.postproc.RewriteReductionBlock().apply(schedule)
    given, weights = random(4, 8), random(8, 2)
    right = given.sum(1, keepdims=True) * (given**2).sum(1, keepdims=True) * weights.sum(0)
    assert not np.allclose(computed(schedule.mod, [given, weights]), right, rtol=1e-3)
    assert accumulates_again(schedule.mod)


def test_padding_is_not_written_where_it_follows_its_producer() -> None:
    x = tensor("x", 8)
    twice = te.compute((8,), lambda i: x[i] * 2, name="twice")
    pad = te.compute((10,), lambda i: te.if_then_else(te.all(1 <= i, i < 9), twice[i - 1], 0.0), name="pad")
    module = tvm.IRModule({"main": program(x, pad)})
    schedule = Schedule(module)
    outer, _ = schedule.split(schedule.get_loops(schedule.get_sblock("twice"))[0], [2, 4])
    schedule.reverse_compute_at(schedule.get_sblock("pad"), outer)
    given = random(8)
    np.testing.assert_array_equal(computed(module, [given]), np.pad(given * 2, 1))
    assert computed(schedule.mod, [given])[[0, -1]].tolist() == [MARK, MARK]  # TVM's fault
    assert leaves_unwritten(schedule.mod)
    assert not leaves_unwritten(module)


def test_padding_that_nobody_reads_may_stay_unwritten() -> None:
    x = tensor("x", 8)
    twice = te.compute((8,), lambda i: x[i] * 2, name="twice")
    part = te.compute((4,), lambda i: twice[i + 2], name="part")
    schedule = Schedule(tvm.IRModule({"main": program(x, part)}))
    schedule.compute_at(schedule.get_sblock("twice"), schedule.get_loops(schedule.get_sblock("part"))[0])
    assert not leaves_unwritten(schedule.mod)


@pytest.mark.parametrize("operator", ["softmax", "layer norm", "RMS norm", "max pool", "argmax", "prime sizes"])
def test_right_programs_are_not_refused(operator: str) -> None:
    make, _ = TUNABLE[operator]
    space = Space(tvm.IRModule({"main": make()}), CPU)
    assert not any(unsound(p.schedule.mod) for p in space.initial(8, np.random.default_rng(0)))


def normalized_product() -> tvm.IRModule:
    x, m = tensor("x", 16, 32), tensor("m", 32, 16)
    return tvm.IRModule({"main": program(x, m, topi.matmul(topi.nn.softmax(x, -1), m))})


def test_refuses_just_the_wrong_samples_of_a_softmax_before_a_product() -> None:
    module = normalized_product()
    x, m = random(16, 32), random(32, 16)
    right = np.exp(x) / np.exp(x).sum(1, keepdims=True) @ m
    programs = Space(module, CPU).initial(12, np.random.default_rng(2))
    modules = [p.schedule.mod for p in programs]
    wrong = [not np.allclose(computed(each, [x, m]), right, rtol=1e-4) for each in modules]
    assert [unsound(each) for each in modules] == wrong
    assert True in wrong
    assert False in wrong


def designs(module: tvm.IRModule, switches: tuple[str, ...]) -> tuple[list[str], set[int]]:
    """The design spaces but for the limits of unrolling that a search chooses from, and these limits."""
    found, limits = [], set()
    for trace in generate(module, CPU, switches).traces:
        instructions = trace.simplified(True).as_json()[0]
        for instruction in instructions:
            if str(instruction[0]) == "SampleCategorical":
                limits |= {int(limit) for limit in instruction[2][0]}
                del instruction[2][:]
        found.append(str(instructions))
    return found, limits


@pytest.mark.parametrize("operator", ["softmax", "int8 in int32", "silu(gate) x up"])
def test_designs_differ_from_tvms_only_in_less_unrolling(operator: str) -> None:
    make, _ = TUNABLE[operator]
    module = tvm.IRModule({"main": make()})
    of_tvm, tvms_limits = designs(module, ())
    sound, limits = designs(module, ("sound",))
    assert sound == of_tvm
    assert tvms_limits == {0, 16, 64, 512}
    assert limits == {0, 16, 64}


def test_sampling_leaves_out_what_is_refused_only_where_the_switch_is_on() -> None:
    module = build("flux_attention", SHAPES["flux_attention"]).module

    def wrong(space: Space) -> list[bool]:
        return [unsound(p.schedule.mod) for p in space.initial(24, np.random.default_rng(0))]

    assert any(wrong(Space(module, CPU)))
    assert not any(wrong(Space(module, CPU, ("sound",))))
