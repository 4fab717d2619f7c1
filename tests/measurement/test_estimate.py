"""The roofline: what it must get right to rank schedules, for kernels computed by hand."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import te
from tvm.s_tir import Schedule

from colt_pipeline.config.schema import GpuConfig
from colt_pipeline.measurement.estimate import estimate_secs
from colt_pipeline.space import Space
from colt_pipeline.workloads.catalogue import build
from tests.support import printed_elsewhere

pytestmark = pytest.mark.tvm

GPU = GpuConfig(
    name="a GPU with round numbers",
    arch="sm_75",
    multiprocessors=64,
    clock_ghz=1.5,
    fp32_lanes=64,
    bandwidth_gb_s=600,
    l2_mib=4,
    threads_per_multiprocessor=1024,
    blocks_per_multiprocessor=16,
    shared_kib_per_multiprocessor=64,
    launch_us=3,
)
PEAK = GPU.multiprocessors * GPU.fp32_lanes * 2 * GPU.clock_ghz * 1e9
BANDWIDTH = GPU.bandwidth_gb_s * 1e9
LAUNCH = GPU.launch_us * 1e-6
TARGET = {
    "kind": "cuda",
    "arch": "sm_75",
    "max_threads_per_block": 1024,
    "max_shared_memory_per_block": 49152,
    "registers_per_block": 65536,
    "thread_warp_size": 32,
}
ROWS, COLUMNS = 2**20, 32
SIZE = 512
"""Of the square matmul."""


def secs(module: tvm.IRModule, **changes: Any) -> float:
    return estimate_secs(module, tvm.target.Target(TARGET), dataclasses.replace(GPU, **changes))


def schedule(*tensors: te.Tensor) -> Schedule:
    return Schedule(tvm.IRModule({"main": te.create_prim_func(list(tensors)).with_attr("global_symbol", "main")}))


def bind(sch: Schedule, block: str, order: tuple[int, int] = (0, 1), serial: int = 1, threads: int = 256) -> None:
    """Fuses the two outer loops in this order; every thread computes `serial` elements."""
    loops = sch.get_loops(sch.get_sblock(block))[:2]
    sch.reorder(*(loops[i] for i in order))
    outer, middle, inner = sch.split(sch.fuse(*(loops[i] for i in order)), [None, serial, threads])
    sch.reorder(outer, inner, middle)
    sch.bind(outer, "blockIdx.x")
    sch.bind(inner, "threadIdx.x")


def copy(order: tuple[int, int] = (0, 1), stages: int = 1, serial: int = 1) -> tvm.IRModule:
    """Copies a matrix `stages` times, adjacent threads along a row or (order 1, 0) along a column."""
    tensors = [te.placeholder((ROWS, COLUMNS), name="A")]
    for stage in range(stages):
        tensors.append(te.compute((ROWS, COLUMNS), lambda i, j: tensors[-1][i, j], name=f"copy{stage}"))
    sch = schedule(tensors[0], tensors[-1])
    for stage in range(stages):
        bind(sch, f"copy{stage}", order, serial)
    return sch.mod


def matmul() -> Schedule:
    a, b = te.placeholder((SIZE, SIZE), name="A"), te.placeholder((SIZE, SIZE), name="B")
    k = te.reduce_axis((0, SIZE), name="k")
    return schedule(a, b, te.compute((SIZE, SIZE), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C"))


def naive_matmul() -> tvm.IRModule:
    """One thread per output element, operands from global memory."""
    sch = matmul()
    bind(sch, "C")
    return sch.mod


def tiled_matmul(tile: int = 64) -> tvm.IRModule:
    """256 threads per tile of the output, operands through shared memory, accumulators in registers."""
    sch = matmul()
    block = sch.get_sblock("C")
    i, j, k = sch.get_loops(block)
    bi, ti, vi = sch.split(i, [None, 16, tile // 16])
    bj, tj, vj = sch.split(j, [None, 16, tile // 16])
    step, inner = sch.split(k, [None, 16])
    sch.reorder(bi, bj, ti, tj, step, inner, vi, vj)
    blocks, threads = sch.fuse(bi, bj), sch.fuse(ti, tj)
    sch.bind(blocks, "blockIdx.x")
    sch.bind(threads, "threadIdx.x")
    sch.annotate(blocks, "pragma_auto_unroll_max_step", 512)
    sch.reverse_compute_at(sch.cache_write(block, 0, "local"), threads)
    for operand in (0, 1):
        fetch = sch.cache_read(block, operand, "shared")
        sch.compute_at(fetch, step)
        share = sch.fuse(*sch.get_loops(fetch)[-2:])
        sch.bind(sch.split(share, [None, 256])[1], "threadIdx.x")
    sch.decompose_reduction(block, step)
    return sch.mod


def test_a_copy_takes_its_bytes_over_the_bandwidth() -> None:
    roof = 2 * 4 * ROWS * COLUMNS / BANDWIDTH
    assert roof + LAUNCH <= secs(copy()) < 1.1 * roof + LAUNCH


def test_strided_threads_cost_several_times_as_much() -> None:
    assert secs(copy(order=(1, 0))) > 3 * secs(copy())


def test_a_tiled_matmul_beats_the_naive_one_and_not_the_roof() -> None:
    tiled, naive = secs(tiled_matmul()), secs(naive_matmul())
    assert 2 * SIZE**3 / PEAK + LAUNCH < tiled < naive / 2


def test_blocks_must_fill_the_gpu() -> None:
    large, enough = tiled_matmul(tile=128), tiled_matmul(tile=64)  # 16 and 64 blocks for 64 multiprocessors
    assert secs(large) > 1.5 * secs(enough)
    assert secs(copy(serial=2**15)) > 3 * secs(copy())  # 4 blocks


def test_a_block_more_than_fits_costs_a_whole_wave() -> None:
    full, over = (secs(tiled_matmul(), multiprocessors=n) for n in (64, 63))
    assert over - LAUNCH > 1.5 * (full - LAUNCH)


def test_bandwidth_helps_where_it_is_the_bound_and_never_hurts() -> None:
    for module in (copy(), copy(order=(1, 0)), naive_matmul(), tiled_matmul()):
        assert secs(module, bandwidth_gb_s=1200) <= secs(module)
    assert secs(copy(), bandwidth_gb_s=1200) < 0.7 * secs(copy())


def test_kernels_add_up_with_a_launch_each() -> None:
    one = secs(copy())
    assert secs(copy(stages=2)) == pytest.approx(2 * one)
    assert secs(copy(stages=2), launch_us=13) == pytest.approx(2 * one + 2 * 10e-6)


def test_a_module_without_threads_is_refused() -> None:
    with pytest.raises(ValueError, match="no thread binding"):
        secs(matmul().mod)


def numbers() -> list[str]:
    """Estimates of three kernels, in full."""
    return [secs(module).hex() for module in (copy(), naive_matmul(), tiled_matmul())]


def test_another_process_gives_the_same_number() -> None:
    found = printed_elsewhere("from tests.measurement.test_estimate import numbers; print(*numbers())")
    assert found.split() == numbers()


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("deepseek_r1_moe", {"batch": 1, "tokens": 16, "inner": 512, "outer": 512}),
        ("flux_conv", {"batch": 1, "channels": 32, "filters": 32, "height": 16, "width": 16}),
    ],
)
def test_sampled_schedules_stay_above_the_roof(name: str, shape: dict[str, int]) -> None:
    workload = build(name, shape)
    programs = Space(workload.module, TARGET).initial(4, np.random.default_rng(0))
    moved = sum(4 * math.prod(shape) for shape in workload.parameter_shapes)
    roof = max(workload.flop / PEAK, moved / BANDWIDTH) + LAUNCH
    found = [secs(p.schedule.mod) for p in programs]
    assert all(math.isfinite(f) and f >= roof for f in found)
    assert len(set(found)) > 1
