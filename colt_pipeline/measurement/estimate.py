"""Latency of a scheduled CUDA module, estimated from a data sheet with a roofline model; no hardware is needed.

The lowered module is read statement by statement (lowered.py). Every outermost nest of thread bindings is one kernel,
and the latency in seconds is the sum over kernels:

    kernel = launch + max(flop, issue, l1, l2, device, latency)

    flop    = B * ops / (fp32_lanes * clock)             ops: multiply-adds, other float operations, special functions
    issue   = B * instructions / (128 * clock)           ops, loads, stores, loop bookkeeping
    l1      = B * cycles / clock                         4 sectors, or 32 banks without conflict, per cycle
    l2      = B * sector bytes missed by L1 / (32 bytes * clock)
    device  = bytes missed by L2 / bandwidth             at least every touched byte once
    latency = waves * (load rounds * 500 + dependent operations * 4 cycles) / clock

B = ceil(blocks / multiprocessors) is the load of the busiest multiprocessor: a partially filled last wave costs as much
as a full one. All but `device` are per block; warps count as full. waves = ceil(blocks / (multiprocessors * resident)),
where resident is the number of blocks that a multiprocessor's threads, block slots, shared memory and registers allow:
low occupancy hides less latency.

Repetitions: loops within the unroll limit are unrolled; an iteration that does not change an address costs no access if
its loop is unrolled (common subexpression) or innermost (invariant code motion); adjacent copies of a load from shared
memory are one instruction of up to 16 bytes. What a thread's registers cannot hold is L2 traffic at every use. L1 keeps
a sector until its last use if it can hold the sectors that all resident blocks touch in one iteration, otherwise a
proportional share. Data shared by different waves is read from device memory again unless the whole buffer fits into L2
(proportionally); L2 is cold at every launch.

Not modelled: instruction caches, clock changes, overlap of kernels, division of index arithmetic, memory partitions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tvm
from tvm import tirx

from colt_pipeline.config.schema import GpuConfig
from colt_pipeline.measurement.lowered import (
    SECTOR,
    WARP,
    Kernel,
    Loop,
    block_access,
    box_bytes,
    box_of,
    lowered_kernels,
    nodes_of,
    slots,
    unrolled,
    used,
)

HALF_RATE = ("sm_75",)  # L1 and shared memory of Turing: 64 bytes per cycle; Jia et al.
SCHEDULERS = 4  # per multiprocessor, one warp instruction per cycle each; Volta to Hopper architecture whitepapers
L2_BYTES_PER_CYCLE = 32  # per multiprocessor; order of the L2 throughput measured by Jia et al. (V100: 27, T4: 20)
L1_BESIDES_SHARED = 28 * 1024  # bytes of L1 that cannot be used as shared memory: 256 - 228 KiB in the H100 whitepaper
REGISTERS = 65536  # 32 bit, per multiprocessor; CUDA C++ Programming Guide, capability 7 to 9
REGISTERS_PER_THREAD = 255  # ditto
BASE_REGISTERS = 24  # addresses, loop counters, operands; assumption
MEMORY_CYCLES = 500  # latency of device memory, rounded; Jia et al. report 400 to 600
ARITHMETIC_CYCLES = 4  # latency of a dependent multiply-add; Jia et al.
LOADS_IN_FLIGHT = 4  # loop iterations whose loads the compiler hoists above their first use; assumption
LOOP_INSTRUCTIONS = 3  # counter, comparison and branch per iteration that is not unrolled
ALLREDUCE_INSTRUCTIONS = 2 * 5 + 6  # shuffle and combine per level of a warp, then shared memory and barriers


def estimate_secs(module: tvm.IRModule, target: tvm.target.Target, gpu: GpuConfig) -> float:
    """Estimated latency in seconds.

    Args:
        module: its PrimFunc ``main`` is bound to CUDA threads.
        target: TVM's CUDA target.
        gpu: the data sheet.

    Raises:
        ValueError: a statement is not bound to threads.
    """
    kernels = lowered_kernels(module, target)
    return float(sum(k.launches * (gpu.launch_us * 1e-6 + _kernel_secs(k, gpu)) for k in kernels))


def _kernel_secs(kernel: Kernel, gpu: GpuConfig) -> float:
    """Seconds of one launch, excluding the launch overhead."""
    blocks, threads = kernel.extent("blockIdx"), kernel.extent("threadIdx")
    warps = math.ceil(threads / WARP)
    cap = min(REGISTERS_PER_THREAD, max(1, REGISTERS // (warps * WARP)))
    wanted = BASE_REGISTERS + kernel.local_bytes / 4
    spilled = max(0.0, 1 - cap / wanted)  # share of local accesses that go to memory
    resident = min(
        gpu.blocks_per_multiprocessor,
        gpu.threads_per_multiprocessor // (warps * WARP),
        int(gpu.shared_kib_per_multiprocessor * 1024 // max(1, kernel.shared_bytes)),
        int(REGISTERS // (min(wanted, cap) * warps * WARP)),
    )
    busiest = math.ceil(blocks / gpu.multiprocessors)
    resident = max(1, min(resident, busiest))
    waves = math.ceil(blocks / (gpu.multiprocessors * resident))
    wave: dict[str, int] = {}  # extents of the blocks that run together
    left = gpu.multiprocessors * resident
    for tag, loop in sorted(kernel.axes.items()):  # blockIdx.x runs fastest
        if tag.startswith("blockIdx"):
            wave[tag], left = min(loop.extent, left), math.ceil(left / loop.extent)

    refills = _refills(kernel)
    ops = instructions = cycles = l2_bytes = rounds = dependent = live = 0.0  # of one thread or block
    loaded: dict[Any, float] = {}  # bytes of one block per global buffer, in whole sectors, before any cache
    stored: dict[Any, float] = {}
    boxes: dict[Any, Any] = {}
    for stmt, loops, where in kernel.stores:
        own = [loop for loop in loops if not loop.tag.startswith(("blockIdx", "threadIdx"))]
        serial, copies = _repeats(own, set(own))
        if isinstance(stmt, tirx.Evaluate):
            instructions += serial * copies * ALLREDUCE_INSTRUCTIONS
            dependent += serial * copies * ALLREDUCE_INSTRUCTIONS
            continue
        nodes = list(nodes_of(stmt.value))
        work = serial * copies * slots(nodes)
        ops += work
        instructions += work + serial * LOOP_INSTRUCTIONS
        accesses = [(n.source, n.indices, True) for n in nodes if isinstance(n, tvm.ir.TensorLoad)]
        if any(buffer.same_as(stmt.buffer) for buffer, _, _ in accesses):  # an accumulator: one chain per element
            apart = used(stmt.indices, loops) & unrolled(own)
            dependent += work / math.prod(loop.extent for loop in apart)
        for buffer, indices, is_load in [*accesses, (stmt.buffer, stmt.indices, False)]:
            changing = used(indices, loops) | refills.get(buffer, set())
            serial, copies = _repeats([loop for loop in own if loop.tag != "vector"], changing)
            count = serial * copies
            if buffer.scope() == "local":
                moved = spilled * count * math.prod(loop.extent for loop in own if loop.tag == "vector")
                instructions += moved
                l2_bytes += moved * warps * WARP * 4
                continue
            parts, sectors, busy = block_access(buffer, indices, loops, where, kernel)
            instructions += count * parts
            cycles += count * busy
            if buffer.scope().startswith("shared"):
                continue
            box = np.stack([box_of(indices, loops, scope) for scope in (dict.fromkeys(wave, 1), wave, {})])
            boxes[buffer] = np.maximum(boxes.get(buffer, box), box)
            if not is_load:
                stored[buffer] = stored.get(buffer, 0) + count * sectors * SECTOR
                continue
            loaded[buffer] = loaded.get(buffer, 0) + count * sectors * SECTOR
            live += sectors * SECTOR
            barriers = math.prod(loop.extent for loop in refills.get(stmt.buffer, ()))
            rounds += max(barriers, count * parts / LOADS_IN_FLIGHT)

    l1_bytes = L1_BESIDES_SHARED + max(0, gpu.shared_kib_per_multiprocessor * 1024 - resident * kernel.shared_bytes)
    kept = min(1.0, l1_bytes / (resident * live)) if live else 1.0
    device_bytes = 0.0
    for buffer, box in boxes.items():
        of_block, of_wave, of_kernel = (box_bytes(scope, buffer) for scope in box)
        loads = loaded.get(buffer, 0)
        missed = stored.get(buffer, 0) + min(of_block, loads) + max(0, loads - of_block) * (1 - kept)
        l2_bytes += missed
        unique = min(of_kernel, blocks * missed)
        again = max(0, min(waves * of_wave, blocks * missed) - unique)
        device_bytes += unique + again * max(0, 1 - gpu.l2_mib * 2**20 / max(1, unique))

    clock = gpu.clock_ghz * 1e9
    lanes = busiest * warps * WARP / min(1.0, resident * warps / SCHEDULERS)  # few warps leave schedulers idle
    return max(
        lanes * ops / (gpu.fp32_lanes * clock),
        lanes * instructions / (SCHEDULERS * WARP * clock),
        busiest * cycles * (2 if gpu.arch in HALF_RATE else 1) / clock,
        busiest * l2_bytes / (L2_BYTES_PER_CYCLE * clock),
        device_bytes / (gpu.bandwidth_gb_s * 1e9),
        waves * (rounds * MEMORY_CYCLES + dependent * ARITHMETIC_CYCLES) / clock,
    )


def _refills(kernel: Kernel) -> dict[Any, set[Loop]]:
    """Shared buffer -> the serial loops that refill it and use it again in every iteration."""
    filled: dict[Any, set[Loop]] = {}
    read: dict[Any, set[Loop]] = {}
    for stmt, loops, _ in kernel.stores:
        serial = {loop for loop in loops if not loop.tag}
        if isinstance(stmt, tirx.BufferStore):
            filled.setdefault(stmt.buffer, set()).update(serial)
        for source in {n.source for n in nodes_of(stmt.value) if isinstance(n, tvm.ir.TensorLoad)}:
            read.setdefault(source, set()).update(serial)
    return {b: loops & read.get(b, set()) for b, loops in filled.items() if b.scope().startswith("shared")}


def _repeats(loops: Sequence[Loop], changing: set[Loop]) -> tuple[int, int]:
    """How often a thread executes an access: iterations of actual loops, and unrolled copies in their bodies."""
    copied, serial, copies, invariant = unrolled(loops), 1, 1, True
    for loop in reversed(loops):
        invariant = invariant and (loop not in changing)
        if loop in copied:
            copies *= loop.extent if loop in changing else 1
        elif not invariant:
            serial *= loop.extent
    return serial, copies
