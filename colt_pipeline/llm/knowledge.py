"""What the stand-ins know about CPUs: a table of scheduling rules over the sites that a prompt lists, in TVM's designs.

The rules are textbook knowledge (Goto, van de Geijn 2008; Lam, Rothberg, Wolf 1991) and draw at random where several
decisions are sensible. Sites are read from the prompt's text alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_LINE = re.compile(
    r"^(\S+): (\w+), (?:(\d+) factors with product (\d+), the last at most (\d+)|one of ([-\d, ]+)); now ([^;\n]+)$",
    re.MULTILINE,
)
_HARDWARE = re.compile(r"(\d+) cores; vectors of (\d+) float32, (\d+) vector registers, (\d+) KiB of L2 cache")
_NUMBERS = ("Unroll", "Parallel")  # decided by a single number
_SPATIAL, _REDUCTION = 4, 2  # factors of a tiled loop on a CPU
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Tile:
    """A tiled loop as a prompt shows it."""

    label: str
    factors: tuple[int, ...]
    extent: int
    innermost: int

    def divisors(self, limit: int) -> list[int]:
        """Divisors of the extent up to `limit`, ascending."""
        return [d for d in range(1, min(limit, self.extent) + 1) if self.extent % d == 0]


@dataclass(frozen=True)
class Hardware:
    """The target as a prompt states it."""

    cores: int
    lanes: int
    """float32 values per vector."""
    registers: int
    """Vector registers."""
    l2_bytes: int
    """Per core."""


@dataclass(frozen=True)
class Nest:
    """One tiled block: spatial loops, the last of which is vectorized, and reductions."""

    rows: tuple[Tile, ...]
    vector: Tile
    reductions: tuple[Tile, ...]
    choices: dict[str, tuple[int, ...]]
    """Choices of the sites ``unroll`` and ``parallel``, if they exist."""
    hardware: Hardware


Plan = dict[str, list[int]]
"""Site label -> decision."""
Rule = Callable[[Nest, Plan, np.random.Generator], None]
"""Writes its decisions into the plan, which starts out with the current ones."""


def read_hardware(messages: str) -> Hardware | None:
    """What a prompt says about a CPU; None if the target is another."""
    known = _HARDWARE.search(messages)
    if known is None:
        return None
    cores, lanes, registers, kib = map(int, known.groups())
    return Hardware(cores, lanes, registers, kib << 10)


def nests(messages: str) -> list[Nest]:
    """The tiled blocks of the current program; none if the prompt lists no sites or the target is not a CPU."""
    hardware = read_hardware(messages)
    if hardware is None:
        return []
    blocks: dict[str, list[Tile]] = {}
    choices: dict[str, tuple[int, ...]] = {}
    for label, name, parts, extent, innermost, values, now in _LINE.findall(messages):
        if name == "TileSize" and int(parts) in (_SPATIAL, _REDUCTION):
            factors = tuple(map(int, now.strip("[]").split(", ")))
            blocks.setdefault(label.split(".")[0], []).append(Tile(label, factors, int(extent), int(innermost)))
        elif name in _NUMBERS:
            choices[label] = tuple(map(int, values.split(", ")))
    found = []
    for tiles in blocks.values():
        spatial = [t for t in tiles if len(t.factors) == _SPATIAL]
        if spatial:
            reductions = tuple(t for t in tiles if len(t.factors) == _REDUCTION)
            found.append(Nest(tuple(spatial[:-1]), spatial[-1], reductions, choices, hardware))
    return found


def read_choices(messages: str) -> dict[str, tuple[tuple[int, ...], int]]:
    """The sites ``unroll`` and ``parallel``, if they exist: the choices, and what is chosen now."""
    return {
        label: (tuple(map(int, values.split(", "))), int(now))
        for label, name, _, _, _, values, now in _LINE.findall(messages)
        if name in _NUMBERS
    }


def plan(nest: Nest, rules: Sequence[Rule], rng: np.random.Generator) -> Plan:
    """The decisions of `rules`, applied in order; only those that differ from the current ones."""
    present = {t.label: list(t.factors) for t in (*nest.rows, nest.vector, *nest.reductions)}
    decided = {label: list(factors) for label, factors in present.items()}
    for rule in rules:
        rule(nest, decided, rng)
    return {label: decision for label, decision in decided.items() if decision != present.get(label)}


def register_tile(nest: Nest, decided: Plan, rng: np.random.Generator) -> None:
    """Accumulators fill the vector registers, except for a few kept free for operands."""
    lanes, free = nest.hardware.lanes, nest.hardware.registers * 3 // 4
    widths = [d for d in nest.vector.divisors(min(4 * lanes, nest.vector.innermost)) if d % lanes == 0]
    width = one_of(widths or nest.vector.divisors(min(lanes, nest.vector.innermost))[-1:], rng)
    _set_inner(nest.vector, decided, 3, width)
    left = max(free // max(width // lanes, 1), 1)
    for tile in sorted(nest.rows, key=lambda t: rng.random()):
        inner = one_of(tile.divisors(min(left, tile.innermost))[-2:], rng)
        _set_inner(tile, decided, 3, inner)
        left //= inner


def cache_fit(nest: Nest, decided: Plan, rng: np.random.Generator) -> None:
    """The output tile of the two inner levels fits into half of the L2 cache while the reduction streams through."""
    left = nest.hardware.l2_bytes // 2 // _FLOAT_BYTES
    for tile in (nest.vector, *nest.rows):
        left //= decided[tile.label][3]
    for tile in sorted((*nest.rows, nest.vector), key=lambda t: t is nest.vector):
        room = tile.extent // decided[tile.label][3]
        options = [d for d in range(1, min(room, max(left, 1)) + 1) if room % d == 0]
        middle = one_of(options[-3:], rng)
        _set_inner(tile, decided, 2, middle)
        left //= middle


def parallel_grain(nest: Nest, decided: Plan, rng: np.random.Generator) -> None:
    """A few equal pieces of work per core, cut from the outermost loops."""
    pieces = math.prod(decided[t.label][0] for t in (*nest.rows, nest.vector))
    if "parallel" in nest.choices:
        enough = [c for c in nest.choices["parallel"] if c >= max(min(pieces, 64), nest.hardware.cores)]
        decided["parallel"] = [enough[0] if enough else nest.choices["parallel"][-1]]


def balance(nest: Nest, decided: Plan, rng: np.random.Generator) -> None:
    """The number of outermost pieces is a multiple of the core count if the loops allow it."""
    tiles = [*nest.rows, nest.vector]
    for tile in tiles:
        factors = decided[tile.label]
        factors[0], factors[1] = factors[0] * factors[1], 1
    if math.prod(decided[t.label][0] for t in tiles) % nest.hardware.cores:
        for tile in sorted(tiles, key=lambda t: -decided[t.label][2]):
            factors = decided[tile.label]
            if factors[2] % nest.hardware.cores == 0:
                factors[0], factors[2] = factors[0] * nest.hardware.cores, factors[2] // nest.hardware.cores
                return


def reduction_depth(nest: Nest, decided: Plan, rng: np.random.Generator) -> None:
    """Short reductions (stencils) stay entirely at the innermost level, which gets a few steps of long ones."""
    for tile in nest.reductions:
        short = tile.extent <= min(7, tile.innermost)
        inner = tile.extent if short else one_of(tile.divisors(min(32, tile.innermost))[-4:], rng)
        _set_inner(tile, decided, 1, inner)


def unrolling(nest: Nest, decided: Plan, rng: np.random.Generator) -> None:
    """The register tile is unrolled; otherwise its accumulators would live in memory."""
    if "unroll" in nest.choices:
        body = math.prod(decided[t.label][3] for t in nest.rows)
        decided["unroll"] = [one_of([c for c in nest.choices["unroll"] if c >= body][:2] or [0], rng)]


RULES: tuple[Rule, ...] = (register_tile, cache_fit, balance, reduction_depth, unrolling, parallel_grain)
"""In planning order: from the registers outwards."""


def _set_inner(tile: Tile, decided: Plan, level: int, factor: int) -> None:
    """Set the factor of one level of the tile; the outermost level absorbs what no longer fits."""
    factors = decided[tile.label]
    factors[level] = factor
    for other in range(len(factors) - 1, 0, -1):
        inner = math.prod(factors[other + 1 :])
        factors[other] = math.gcd(factors[other], tile.extent // inner)
    factors[0] = tile.extent // math.prod(factors[1:])


def one_of(options: Sequence[int], rng: np.random.Generator) -> int:
    return options[int(rng.integers(len(options)))]
