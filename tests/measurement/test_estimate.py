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
from colt_pipeline.measurement.estimate import estimate_secs, in_memory
from colt_pipeline.measurement.lowered import lowered_kernels
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


def tiled_matmul(tile: int = 64, stages: tuple[int, ...] = (), vthreads: int = 1, unroll: int = 512) -> tvm.IRModule:
    """256 threads per tile of the output, operands through shared memory, accumulators in registers.

    Args:
        tile: rows and columns of a tile.
        stages: of a software pipeline over the steps of the reduction.
        vthreads: virtual threads among which the rows of a thread are divided.
        unroll: statements up to which TVM unrolls a loop.
    """
    sch = matmul()
    block = sch.get_sblock("C")
    i, j, k = sch.get_loops(block)
    bi, virtual, ti, vi = sch.split(i, [None, vthreads, 16, tile // 16 // vthreads])
    bj, tj, vj = sch.split(j, [None, 16, tile // 16])
    step, inner = sch.split(k, [None, 16])
    sch.reorder(bi, bj, virtual, ti, tj, step, inner, vi, vj)
    blocks, threads = sch.fuse(bi, bj), sch.fuse(ti, tj)
    sch.bind(blocks, "blockIdx.x")
    sch.bind(virtual, "vthread.x")
    sch.bind(threads, "threadIdx.x")
    sch.annotate(blocks, "pragma_auto_unroll_max_step", unroll)
    sch.reverse_compute_at(sch.cache_write(block, 0, "local"), threads)
    for operand in (0, 1):
        fetch = sch.cache_read(block, operand, "shared")
        sch.compute_at(fetch, step)
        share = sch.fuse(*sch.get_loops(fetch)[-2:])
        sch.bind(sch.split(share, [None, 256])[1], "threadIdx.x")
    sch.decompose_reduction(block, step)
    if stages:
        sch.annotate(step, "software_pipeline_stage", list(stages))
        sch.annotate(step, "software_pipeline_order", list(range(len(stages))))
    return sch.mod


def test_a_copy_takes_its_bytes_over_the_bandwidth() -> None:
    roof = 2 * 4 * ROWS * COLUMNS / BANDWIDTH
    assert roof + LAUNCH <= secs(copy()) < 1.15 * roof + LAUNCH  # not 1: the other bounds overlap imperfectly


def test_strided_threads_cost_several_times_as_much() -> None:
    assert secs(copy(order=(1, 0))) > 3 * secs(copy())


def test_a_tiled_matmul_beats_the_naive_one_and_not_the_roof() -> None:
    tiled, naive = secs(tiled_matmul()), secs(naive_matmul())
    assert 2 * SIZE**3 / PEAK + LAUNCH < tiled < naive / 2


def test_accumulators_beyond_the_registers_cost_local_memory() -> None:
    registers, memory = tiled_matmul(tile=128), tiled_matmul(tile=512)  # 64 and 1024 per thread
    assert secs(memory, multiprocessors=1) > 2 * secs(registers, multiprocessors=1)


def test_accumulators_stay_in_local_memory_if_a_loop_indexes_them() -> None:
    def on_stack(module: tvm.IRModule) -> bool:
        (kernel,) = lowered_kernels(module, tvm.target.Target(TARGET))
        return bool(in_memory(kernel))

    assert on_stack(tiled_matmul(tile=512))
    assert not on_stack(tiled_matmul(tile=512, unroll=2**14))  # spilled registers instead
    assert not on_stack(tiled_matmul(tile=128, unroll=0))  # nvcc unrolls what fits into registers


def test_virtual_threads_count_towards_the_unroll_limit() -> None:
    def unrolled_rows(tile: int, vthreads: int) -> set[bool]:
        (kernel,) = lowered_kernels(tiled_matmul(tile, vthreads=vthreads), tvm.target.Target(TARGET))
        return {loop.unrolled for _, loops, _ in kernel.stores for loop in loops if loop.extent == 8 and not loop.tag}

    assert unrolled_rows(tile=256, vthreads=2) == {True}  # 2 * 8 rows * 16 columns
    assert unrolled_rows(tile=512, vthreads=4) == {False}  # 4 * 8 rows * 32 columns


def test_a_software_pipeline_multiplies_shared_memory() -> None:
    plain, pipelined = (
        lowered_kernels(module, tvm.target.Target(TARGET))[0].shared_bytes
        for module in (tiled_matmul(), tiled_matmul(stages=(0, 0, 3)))
    )
    assert pipelined == 4 * plain


def test_data_that_fit_into_l2_are_not_read_from_device_memory() -> None:
    module = naive_matmul()  # 3 MiB
    assert secs(module, l2_mib=4, bandwidth_gb_s=1) == secs(module, l2_mib=4)
    assert secs(module, l2_mib=1, bandwidth_gb_s=1) > 2 * secs(module, l2_mib=1)


def test_a_warp_pays_for_each_line_that_it_reads() -> None:
    near = {"l2_mib": 2048}
    assert secs(copy(order=(1, 0)), **near) > 8 * secs(copy(), **near)


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
    moved = sum(4 * math.prod(p.shape) for p in workload.parameters)
    roof = max(workload.flop / PEAK, moved / BANDWIDTH) + LAUNCH
    found = [secs(p.schedule.mod) for p in programs]
    assert all(math.isfinite(f) and f >= roof for f in found)
    assert len(set(found)) > 1
