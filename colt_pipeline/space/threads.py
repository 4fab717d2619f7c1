"""Tile factors that give a GPU block a permitted number of threads, drawn without replaying the schedule.

On CUDA nine samples in ten fail TVM's verification, most of them because a block has fewer than 32 or more than 1024
threads. The number of threads follows from the tile factors alone, so factors are redrawn until it is valid, in
microseconds instead of the milliseconds of a replay. Otherwise the draw is TVM's: for each prime factor of the extent,
all ways to distribute its powers over the tiles are equally likely.

Some extents have no such factors: with 16 tokens and 4099 outputs a block has 1, 2, 4, 8, 16 or at least 4099 threads.
`misfit` tells that beforehand.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise

import numpy as np
from tvm.s_tir.schedule import Instruction, Trace

from colt_pipeline.space.tiling import TiledBlock, tiled_blocks

_ATTEMPTS = 4096
_LEAST_SHARE = 1 / 512  # with fewer, sampling would take minutes


def draw_tiles(design: Trace, rng: np.random.Generator) -> Trace:
    """`design` with tile factors that keep every ``threadIdx.x`` within its bounds; other decisions are left open.

    The decisions in `design`, those of one sample, determine the extents. If no draw fits, the last one is returned.
    """
    tiles, blocks = _tiles(design), tiled_blocks(design)
    factors: dict[Instruction, list[int]] = {}
    for _ in range(_ATTEMPTS):
        factors = {inst: _factorize(*tile, rng) for inst, tile in tiles.items()}
        if all(block.threads_fit(factors) for block in blocks):
            break
    return Trace(design.insts, factors)


def misfit(design: Trace) -> str:
    """Why random tile factors never or hardly ever fit `design`; "" if they do at least once in 512 times."""
    shares = {block: share_that_fits(design, block) for block in tiled_blocks(design)}
    if math.prod(shares.values()) >= _LEAST_SHARE:
        return ""
    block = min(shares, key=shares.__getitem__)
    extents = " x ".join(str(_tiles(design)[tile][0]) for tile in block.spatial)
    how = "hardly any" if shares[block] else "no"
    return f"{how} tiling of block {block.name} ({extents}) has {block.low} to {block.high} threads"


def share_that_fits(design: Trace, block: TiledBlock) -> float:
    """The exact share of random tile factors with which the block's threads are within their bounds."""
    shares = {1: 1.0}  # number of threads -> share of the factors of the loops so far; larger numbers are left out
    for inst in block.spatial:
        grown: dict[int, float] = defaultdict(float)
        ways = _ways(*_tiles(design)[inst])
        for factor, number in ways.items():
            for threads, share in shares.items():
                if threads * factor <= block.high:
                    grown[threads * factor] += share * number / sum(ways.values())
        shares = grown
    return sum(share for threads, share in shares.items() if threads >= block.low)


def _ways(extent: int, count: int, most_innermost: int) -> dict[int, int]:
    """Factor for the threads -> in how many factorizations of `extent` into `count` factors it occurs."""
    pairs = {(1, 1): 1}  # (factor for the threads, innermost factor) -> number of ways
    for prime, power in _primes(extent).items():
        grown: dict[tuple[int, int], int] = defaultdict(int)
        for thread in range(power + 1):
            for inner in range(power - thread + 1):
                rest = math.comb(power - thread - inner + count - 3, count - 3)
                for (threads, innermost), number in pairs.items():
                    grown[threads * prime**thread, innermost * prime**inner] += number * rest
        pairs = grown
    ways: dict[int, int] = defaultdict(int)
    for (threads, innermost), number in pairs.items():
        if innermost <= most_innermost:
            ways[threads] += number
    return ways


@lru_cache(maxsize=64)
def _tiles(design: Trace) -> dict[Instruction, tuple[int, int, int]]:
    """Extent, number of factors and largest innermost factor of each loop that is tiled."""
    return {
        inst: (math.prod(map(int, design.get_decision(inst))), int(inst.attrs[0]), int(inst.attrs[1]))
        for inst in design.insts
        if inst.kind.name == "SamplePerfectTile"
    }


def _factorize(extent: int, count: int, most_innermost: int, rng: np.random.Generator) -> list[int]:
    """`extent` as a product of `count` factors, the last at most `most_innermost`."""
    while True:
        factors = [1] * count
        for prime, power in _primes(extent).items():
            cuts = sorted(rng.choice(power + count - 1, count - 1, replace=False).tolist())
            for tile, (left, right) in enumerate(pairwise([-1, *cuts, power + count - 1])):
                factors[tile] *= prime ** (right - left - 1)
        if factors[-1] <= most_innermost:
            return factors


@lru_cache(maxsize=256)
def _primes(number: int) -> Mapping[int, int]:
    powers: dict[int, int] = {}
    divisor = 2
    while number > 1:
        while number % divisor == 0:
            powers[divisor] = powers.get(divisor, 0) + 1
            number //= divisor
        divisor += 1 if divisor * divisor <= number else max(number - divisor, 1)
    return powers
