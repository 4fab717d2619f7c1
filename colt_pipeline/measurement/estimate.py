"""Latency of a scheduled CUDA module, estimated from a data sheet with a roofline model; no hardware is needed.

The lowered module is read statement by statement (lowered.py). Every outermost nest of thread bindings is one kernel,
and the latency in seconds is the sum over kernels:

    kernel = launch + sqrt(flop^2 + issue^2 + l1^2 + l2^2 + device^2 + latency^2)      bounds overlap, but not perfectly

    flop    = B * ops / (fp32_lanes * clock)             ops: multiply-adds, other float operations, special functions
    issue   = B * instructions / (128 * clock)           ops, loads, stores, loop bookkeeping
    l1      = B * cycles / clock                         a 128-byte line, or 32 banks without conflict, per cycle
    l2      = B * sector bytes missed by L1 / (32 bytes * clock)           a stored byte costs three loaded ones
    device  = bytes missed by L2 / bandwidth
    latency = waves * (load rounds * 263 + serial iterations * 35 + max(instructions, dependent * 4 cycles)) / clock

B = ceil(blocks / multiprocessors) is the load of the busiest multiprocessor: a partially filled last wave costs as much
as a full one. All but `device` are per block; warps count as full. waves = ceil(blocks / (multiprocessors * resident)),
where resident is the number of blocks that a multiprocessor's threads, block slots, shared memory and registers allow:
low occupancy hides less latency.

Repetitions: loops within the unroll limit are unrolled; an iteration that does not change an address costs no access if
its loop is unrolled (common subexpression) or innermost (invariant code motion); adjacent copies of a load from shared
memory are one instruction of up to 16 bytes.

Local buffers: one that exceeds the registers of a thread and is indexed by a loop that stays a loop is in local memory;
registers then hold its elements only while innermost loops reuse them. Other buffers are in registers, and what these
cannot hold is spilled. Either way every other use is an access to L1, every store reaches L2, and so does every load
once what the resident blocks touch exceeds L1 twice.

L1 keeps a sector of a global buffer until its last use if it can hold the sectors that all resident blocks touch in one
iteration, otherwise a proportional share. L2 is warm, since a kernel is timed again and again on the same data: device
memory is read if all buffers together exceed L2, in full from twice its size on.

Not modelled: instruction caches, clock changes, overlap of kernels, index arithmetic, memory partitions. Loads run no
further ahead with software pipelining: where TVM asks for it, nvcc's code was no faster on an H200.

README.md says how well this ranks 672 programs that were measured on an H200. Three numbers are fitted to them:
LOADS_IN_FLIGHT, STORES_AT_L2 and the exponent 2 of the sum. The others are published, seen in nvcc's output, or
assumptions.
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
    buffer_bytes,
    distinct,
    lowered_kernels,
    nodes_of,
    slots,
    unrolled,
    used,
)

HALF_RATE = ("sm_75",)  # L1 and shared memory of Turing: 64 bytes per cycle; Jia et al.
SCHEDULERS = 4  # per multiprocessor, one warp instruction per cycle each; Volta to Hopper architecture whitepapers
L2_BYTES_PER_CYCLE = 32  # per multiprocessor; order of the L2 throughput measured by Jia et al. (V100: 27, T4: 20)
STORES_AT_L2 = 3  # cost of a stored byte in loaded bytes; fitted to 672 programs measured on an H200
L1_BESIDES_SHARED = 28 * 1024  # bytes of L1 that cannot be used as shared memory: 256 - 228 KiB in the H100 whitepaper
REGISTERS = 65536  # 32 bit, per multiprocessor; CUDA C++ Programming Guide, capability 7 to 9
REGISTERS_PER_THREAD = 255  # ditto
BASE_REGISTERS = 24  # addresses, loop counters, operands; assumption
DEVICE_CYCLES = 479  # latency of device memory; Luo et al., arXiv 2402.13499 (2024), H100
L2_CYCLES = 263  # ditto
L1_CYCLES = 35  # of L1 (41) and shared memory (29), rounded; ditto
ARITHMETIC_CYCLES = 4  # latency of a dependent multiply-add; Jia et al.
UNROLLED_BY_NVCC = 4  # iterations of a loop without barriers whose loads are issued together; assumption
LOADS_IN_FLIGHT = 8  # of the copies in an unrolled body; fitted to 672 programs measured on an H200
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
    data = {buffer: buffer_bytes(buffer) for k in kernels for buffer in _buffers(k) if buffer.scope() == "global"}
    working_set = sum(data.values())
    return float(sum(k.launches * (gpu.launch_us * 1e-6 + _kernel_secs(k, gpu, working_set)) for k in kernels))


def _kernel_secs(kernel: Kernel, gpu: GpuConfig, working_set: int) -> float:
    """Seconds of one launch, excluding the launch overhead; `working_set`: bytes of the module's global buffers."""
    blocks, threads = kernel.extent("blockIdx"), kernel.extent("threadIdx")
    warps = math.ceil(threads / WARP)
    cap = min(REGISTERS_PER_THREAD, max(1, REGISTERS // (warps * WARP)))
    on_stack = in_memory(kernel)
    local_bytes = float(sum(kernel.local_bytes[buffer] for buffer in on_stack))  # in memory, of one thread
    wanted = BASE_REGISTERS + (sum(kernel.local_bytes.values()) - local_bytes) / 4
    spilled = max(0.0, 1 - cap / wanted)  # share of register accesses that go to local memory
    local_bytes += 4 * max(0.0, wanted - cap)
    held = max((_held(loops, used(s.indices, loops)) for s, loops, _ in kernel.stores if _of(s, on_stack)), default=0)
    resident = min(
        gpu.blocks_per_multiprocessor,
        gpu.threads_per_multiprocessor // (warps * WARP),
        int(gpu.shared_kib_per_multiprocessor * 1024 // max(1, kernel.shared_bytes)),
        int(REGISTERS // (min(wanted + held, cap) * warps * WARP)),
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
    ops = instructions = cycles = rounds = on_chip = dependent = live = 0.0  # of one thread or block
    local_loads = local_stores = 0.0
    loaded: dict[Any, float] = {}  # bytes of one block per global buffer, in whole sectors, before any cache
    stored: dict[Any, float] = {}
    boxes: dict[Any, Any] = {}
    for stmt, loops, where in kernel.stores:
        own = [loop for loop in loops if not loop.tag.startswith(("blockIdx", "threadIdx"))]
        if isinstance(stmt, tirx.BufferStore) and stmt.buffer.scope().startswith("shared"):  # by all virtual threads
            own = [loop for loop in own if not loop.virtual or loop in used(stmt.indices, own)]
        virtual = {loop for loop in own if loop.virtual}
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
            apart = used(stmt.indices, loops) & unrolled(own) | virtual
            dependent += work / math.prod(loop.extent for loop in apart)
        waits = 0.0  # iterations that wait for L1 or shared memory
        for buffer, indices, is_load in [*accesses, (stmt.buffer, stmt.indices, False)]:
            changing = used(indices, loops) | refills.get(buffer, set())
            scalars = [loop for loop in own if loop.tag != "vector"]
            if buffer.scope() == "local":
                changing |= virtual  # each has its own elements
                if buffer in on_stack:
                    moved, serial = _uses(own, changing, cap - BASE_REGISTERS)
                    waits = max(waits, serial if is_load else 0)
                else:
                    serial, copies = _repeats(scalars, changing)
                    moved = spilled * serial * copies * math.prod(loop.extent for loop in own if loop.tag == "vector")
                instructions += moved
                cycles += moved * warps
                local_loads += moved * is_load
                local_stores += moved * (not is_load)
                continue
            serial, copies = _repeats(scalars, changing)
            if virtual & changing and is_load:
                copies = distinct(indices, [loop for loop in scalars if loop.unrolled and loop in changing])
            count = serial * copies
            parts, sectors, busy = block_access(buffer, indices, loops, where, kernel)
            instructions += count * parts
            cycles += count * busy
            if buffer.scope().startswith("shared"):
                waits = max(waits, serial if is_load else 0)
                continue
            box = np.stack([box_of(indices, loops, scope) for scope in (dict.fromkeys(wave, 1), wave, {})])
            boxes[buffer] = np.maximum(boxes.get(buffer, box), box)
            if not is_load:
                stored[buffer] = stored.get(buffer, 0) + count * sectors * SECTOR
                continue
            loaded[buffer] = loaded.get(buffer, 0) + count * sectors * SECTOR
            live += sectors * SECTOR
            barriers = math.prod(loop.extent for loop in refills.get(stmt.buffer, ()))
            rounds += max(barriers, serial / UNROLLED_BY_NVCC) * max(1, copies * parts / LOADS_IN_FLIGHT)
        on_chip += waits

    l1_bytes = L1_BESIDES_SHARED + max(0, gpu.shared_kib_per_multiprocessor * 1024 - resident * kernel.shared_bytes)
    lanes = warps * WARP
    live += local_bytes * lanes
    kept = min(1.0, l1_bytes / (resident * live)) if live else 1.0
    local_misses = local_loads * _overflow(resident * live, l1_bytes)
    l2_bytes = lanes * 4 * (local_misses + STORES_AT_L2 * local_stores)
    device_bytes = 0.0
    for buffer, box in boxes.items():
        of_block, of_wave, of_kernel = (box_bytes(scope, buffer) for scope in box)
        loads, stores = loaded.get(buffer, 0), stored.get(buffer, 0)
        missed = min(of_block, loads) + max(0, loads - of_block) * (1 - kept)
        l2_bytes += missed + STORES_AT_L2 * stores
        missed += stores
        unique = min(of_kernel, blocks * missed)
        again = max(0, min(waves * of_wave, blocks * missed) - unique)
        device_bytes += unique + again * max(0, 1 - gpu.l2_mib * 2**20 / max(1, unique))
    cold = _overflow(working_set, gpu.l2_mib * 2**20)
    stack = working_set + gpu.multiprocessors * resident * local_bytes * lanes
    device_bytes *= cold
    device_bytes += blocks * lanes * 4 * (local_misses + local_stores) * _overflow(stack, gpu.l2_mib * 2**20)

    clock = gpu.clock_ghz * 1e9
    memory = L2_CYCLES + cold * (DEVICE_CYCLES - L2_CYCLES)
    issued = busiest * lanes / min(1.0, resident * warps / SCHEDULERS)  # few warps leave schedulers idle
    return math.hypot(
        issued * ops / (gpu.fp32_lanes * clock),
        issued * instructions / (SCHEDULERS * WARP * clock),
        busiest * cycles * (2 if gpu.arch in HALF_RATE else 1) / clock,
        busiest * l2_bytes / (L2_BYTES_PER_CYCLE * clock),
        device_bytes / (gpu.bandwidth_gb_s * 1e9),
        waves * (rounds * memory + on_chip * L1_CYCLES + max(instructions, dependent * ARITHMETIC_CYCLES)) / clock,
    )


def _overflow(needed: float, capacity: float) -> float:
    """Share of repeated accesses that a cache misses: all, if they cycle through twice what it can hold."""
    return min(1.0, max(0.0, needed / capacity - 1))


def _buffers(kernel: Kernel) -> set[Any]:
    stores = [stmt for stmt, _, _ in kernel.stores if isinstance(stmt, tirx.BufferStore)]
    loads = {n.source for stmt in stores for n in nodes_of(stmt.value) if isinstance(n, tvm.ir.TensorLoad)}
    return loads | {stmt.buffer for stmt in stores}


def _of(stmt: Any, buffers: set[Any]) -> bool:
    return isinstance(stmt, tirx.BufferStore) and stmt.buffer in buffers


def in_memory(kernel: Kernel) -> set[Any]:
    """Local buffers that stay in memory: too large for registers, and indexed by a loop that stays a loop.

    In 79 programs (172 kernels) compiled by nvcc for sm_90 these were exactly the buffers on the stack.
    """
    found: set[Any] = set()
    for stmt, loops, _ in kernel.stores:
        if isinstance(stmt, tirx.BufferStore):
            loads = [(n.source, n.indices) for n in nodes_of(stmt.value) if isinstance(n, tvm.ir.TensorLoad)]
            for buffer, indices in [*loads, (stmt.buffer, stmt.indices)]:
                large = kernel.local_bytes.get(buffer, 0) > 4 * REGISTERS_PER_THREAD
                if large and used(indices, loops) - unrolled(loops):
                    found.add(buffer)
    return found


def _held(loops: Sequence[Loop], changing: set[Loop]) -> int:
    """Elements of a buffer in local memory that registers hold while innermost loops reuse them."""
    loops = [loop for loop in loops if not loop.tag.startswith(("blockIdx", "threadIdx"))]
    serial = [loop for loop in loops if not loop.unrolled]
    if not serial or serial[-1] in changing:
        return 0
    return math.prod(loop.extent for loop in loops if loop.virtual or (loop.unrolled and loop in changing))


def _uses(loops: Sequence[Loop], changing: set[Loop], registers: int) -> tuple[float, int]:
    """Accesses of a thread to a buffer in local memory, and the iterations that make them.

    Innermost loops that reuse the same elements keep as many of them as there are registers.
    """
    elements = math.prod(loop.extent for loop in loops if loop.unrolled and loop in changing)
    serial = [loop for loop in loops if not loop.unrolled]
    every = math.prod(loop.extent for loop in serial)
    while serial and serial[-1] not in changing:
        serial.pop()
    once = math.prod(loop.extent for loop in serial)
    fitting = min(elements, registers)
    return fitting * once + (elements - fitting) * every, once if fitting == elements else every


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
