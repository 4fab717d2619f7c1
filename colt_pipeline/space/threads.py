"""Tile factors that give a GPU block a permitted number of threads, drawn without replaying the schedule.

On CUDA nine samples in ten fail TVM's verification, most of them because a block has fewer than 32 or more than 1024
threads. The number of threads follows from the tile factors alone, through the trace's Split, Fuse and Bind
instructions, so factors are redrawn until it is valid, in microseconds instead of the milliseconds of a replay.
Otherwise the draw is TVM's: for each prime factor of the extent, all ways to distribute its powers over the tiles are
equally likely.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from tvm.s_tir.schedule import Trace

_ATTEMPTS = 4096
_LOW, _HIGH = "meta_schedule.thread_extent_low_inclusive", "meta_schedule.thread_extent_high_inclusive"


def draw_tiles(design: Trace, rng: np.random.Generator) -> Trace:
    """`design` with tile factors that keep every ``threadIdx.x`` within its bounds; other decisions are left open.

    The decisions in `design`, those of one sample, determine the extents. If no draw fits, the last one is returned.
    """
    tiles = [inst for inst in design.insts if inst.kind.name == "SamplePerfectTile"]
    extents = [math.prod(int(f) for f in design.get_decision(inst)) for inst in tiles]
    factors: dict[Any, list[int]] = {}
    for _ in range(_ATTEMPTS):
        factors = {
            inst: _factorize(extent, int(inst.attrs[0]), int(inst.attrs[1]), rng)
            for inst, extent in zip(tiles, extents, strict=True)
        }
        if _threads_fit(design, factors):
            break
    return Trace(design.insts, factors)


def _factorize(extent: int, count: int, most_innermost: int, rng: np.random.Generator) -> list[int]:
    """`extent` as a product of `count` factors, the last at most `most_innermost`."""
    while True:
        factors = [1] * count
        for prime, power in _primes(extent).items():
            cuts = np.sort(rng.choice(power + count - 1, count - 1, replace=False))
            for tile, bars in enumerate(np.diff([-1, *cuts, power + count - 1]) - 1):
                factors[tile] *= prime ** int(bars)
        if factors[-1] <= most_innermost:
            return factors


def _primes(number: int) -> Mapping[int, int]:
    powers: dict[int, int] = {}
    divisor = 2
    while number > 1:
        while number % divisor == 0:
            powers[divisor] = powers.get(divisor, 0) + 1
            number //= divisor
        divisor += 1 if divisor * divisor <= number else max(number - divisor, 1)
    return powers


def _threads_fit(design: Trace, factors: Mapping[Any, list[int]]) -> bool:
    """Whether every ``threadIdx.x`` bound through tile factors is within the bounds that the trace states."""
    known: dict[Any, int] = {}  # extents of loops and values of factors that follow from the tiles
    low, high, bound = 0, math.inf, []
    for inst in design.insts:
        kind = inst.kind.name
        if inst in factors:
            known |= dict(zip(inst.outputs, factors[inst], strict=True))
        elif kind == "Split" and all(x in known for x in inst.inputs[1:]):
            known |= {loop: known[factor] for loop, factor in zip(inst.outputs, inst.inputs[1:], strict=True)}
        elif kind == "Fuse" and all(loop in known for loop in inst.inputs):
            known[inst.outputs[0]] = math.prod(known[loop] for loop in inst.inputs)
        elif kind == "Bind" and inst.attrs[0] == "threadIdx.x" and inst.inputs[0] in known:
            bound.append(known[inst.inputs[0]])
        elif kind == "Annotate" and inst.attrs[0] == _LOW:
            low = int(inst.inputs[1])
        elif kind == "Annotate" and inst.attrs[0] == _HIGH:
            high = int(inst.inputs[1])
    return all(low <= threads <= high for threads in bound)
