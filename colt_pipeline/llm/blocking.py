"""What the stand-ins know about register tiles and blocks for the cache: rules over the sites of ``space=extended``.

As in knowledge.py, the rules are textbook knowledge (Goto, van de Geijn 2008; Van Zee, van de Geijn 2015) and draw at
random where several decisions are sensible. What a site is follows from its line in the prompt alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from colt_pipeline.llm.knowledge import Hardware, Plan, one_of, read_choices, read_hardware

_TILE = re.compile(
    r"^(\S+): TileSize, \d+ factors with product \d+, the last at most (\d+); now \[([\d, ]+)\]; "
    r"counts (?:(vectors|groups) of (\d+)|single iterations)(, unrolled)?(; last factor unrolled)?$",
    re.MULTILINE,
)
_FLOAT_BYTES = 4
_PAGE_BYTES = 4096
_PAGES = 32
"""Pages that a block may touch at a time: half of the 64 that the first level of a TLB usually holds."""
_ROWS = 8
"""Rows of a register tile whose rows are no site."""
_RESULTS = 2
"""Of a block of fused rows at a time: what a step reads and what it writes."""
_NEAR = 0.65
"""Share of the best ratio of arithmetic to loads that is still sensible."""
_JOBS_PER_CORE = 16


@dataclass(frozen=True)
class Axis:
    """A tiled loop as a prompt shows it."""

    label: str
    factors: tuple[int, ...]
    innermost: int
    """Largest last factor."""
    unit: int
    """Iterations that the factors count as one."""
    vectors: bool
    """Whether these are a vector."""
    grouped: bool
    """Whether the loop counts groups."""
    unrolled: bool
    """Whether a group is unrolled."""
    in_tile: bool
    """Whether the last factor is unrolled: it belongs to the register tile."""

    @property
    def block(self) -> str:
        return self.label.rpartition(".")[0]

    @property
    def extent(self) -> int:
        return math.prod(self.factors)

    @property
    def reduced(self) -> bool:
        """A reduction: of its steps some are unrolled, but it is no part of the tile."""
        return self.grouped and self.unrolled and not self.in_tile

    @property
    def fused(self) -> bool:
        """Groups of rows that go through a chain of blocks together, as the vectors of these blocks."""
        return self.grouped and not self.vectors and not self.unrolled

    def divisors(self, limit: float, within: int | None = None) -> list[int]:
        """Divisors of the extent, or of `within`, up to `limit`, ascending; 1 if there is no other."""
        whole = self.extent if within is None else within
        return [d for d in range(1, min(int(limit), whole) + 1) if whole % d == 0] or [1]


@dataclass(frozen=True)
class Kernel:
    """All sites of a program with register tiles."""

    axes: tuple[Axis, ...]
    hardware: Hardware
    choices: dict[str, tuple[tuple[int, ...], int]]
    """Choices of the sites ``unroll`` and ``parallel``, if they exist, and what is chosen now."""

    @property
    def blocks(self) -> list[list[Axis]]:
        """The axes of each block."""
        return [[a for a in self.axes if a.block == name] for name in dict.fromkeys(a.block for a in self.axes)]


Rule = Callable[[Kernel, Plan, np.random.Generator], None]
"""Writes its decisions into the plan, which starts out with the current ones."""


def read(messages: str) -> Kernel | None:
    """The sites of the current program; None if it has no register tiles or the target is not a CPU."""
    hardware = read_hardware(messages)
    axes = tuple(
        Axis(
            label,
            tuple(map(int, now.split(", "))),
            int(innermost),
            int(unit or 1),
            vectors=what == "vectors",
            grouped=bool(what),
            unrolled=bool(unrolled),
            in_tile=bool(in_tile),
        )
        for label, innermost, now, what, unit, unrolled, in_tile in _TILE.findall(messages)
    )
    if hardware is None or not axes:
        return None
    return Kernel(axes, hardware, read_choices(messages))


def plan(kernel: Kernel, rules: Iterable[Rule], rng: np.random.Generator) -> Plan:
    """The decisions of `rules`, applied in order; only those that differ from the current ones."""
    present = {a.label: list(a.factors) for a in kernel.axes} | {k: [now] for k, (_, now) in kernel.choices.items()}
    decided = {label: list(decision) for label, decision in present.items()}
    for rule in rules:
        rule(kernel, decided, rng)
    return {label: decision for label, decision in decided.items() if decision != present[label]}


def register_tile(kernel: Kernel, decided: Plan, rng: np.random.Generator) -> None:
    """Sums and one row of operands fit into the vector registers, with much arithmetic for each load."""
    lanes, registers = kernel.hardware.lanes, kernel.hardware.registers
    for axes in kernel.blocks:
        rows = next((a for a in axes if a.in_tile and not a.vectors), None)
        columns = next((a for a in axes if a.in_tile and a.vectors), None)
        # Without columns of its own, a block has the rows that are fused as its vectors.
        columns = columns or next((a for a in kernel.axes if a.fused), None)
        tall = [(_ROWS, 1)] if rows is None else [(rows.unit * n, n) for n in rows.divisors(rows.innermost)]
        if columns is None:
            continue
        wide = [(-(-columns.unit // lanes) * n, n) for n in columns.divisors(columns.innermost)]
        tiles = [(r, v, m, n) for r, m in tall for v, n in wide]
        fitting = [tile for tile in tiles if tile[0] * tile[1] + tile[1] < registers] or tiles[:1]  # the smallest
        best = max(_intensity(r, v) for r, v, *_ in fitting)
        near = [(m, n) for r, v, m, n in fitting if _intensity(r, v) >= _NEAR * best]
        m, n = near[int(rng.integers(len(near)))]
        if rows is not None:
            _set_last(rows, decided, m)
        _set_last(columns, decided, n)


def _intensity(rows: int, vectors: int) -> float:
    """Multiply-adds for each operand that is loaded."""
    return rows * vectors / (rows + vectors)


def output_block(kernel: Kernel, decided: Plan, rng: np.random.Generator) -> None:
    """What is in use between the outermost loops fits into half of the L2 cache: sums, or rows that are fused."""
    room = kernel.hardware.l2_bytes // 2 // _FLOAT_BYTES
    for axes in kernel.blocks:
        free = [a for a in axes if _has_middle(a)]
        left = room // math.prod(_inner(a, decided) for a in axes if not a.reduced and a not in free)
        left //= math.prod(decided[a.label][-1] * a.unit for a in free if a.in_tile)
        for axis in sorted(free, key=lambda a: rng.random()):
            last = decided[axis.label][-1] if axis.in_tile else 1
            most = left if axis.in_tile else min(left, axis.innermost)
            middle = one_of(axis.divisors(most, axis.extent // last)[-3:], rng)
            decided[axis.label][:2] = [axis.extent // last // middle, middle]
            left //= middle
    for axis in (a for a in kernel.axes if a.fused):
        row = max((_inner(a, decided) for a in kernel.axes if a.in_tile and not a.vectors), default=1)
        most = room // (_RESULTS * row * axis.unit)
        if decided[axis.label][-1] > most:
            _set_last(axis, decided, axis.divisors(min(most, axis.innermost))[-1])


def reduction_block(kernel: Kernel, decided: Plan, rng: np.random.Generator) -> None:
    """A block of operands fits into half of the L2 cache, and its rows into the pages that a TLB holds."""
    for axes in kernel.blocks:
        for axis in (a for a in axes if a.reduced):
            across = math.prod(_inner(a, decided) for a in axes if not a.reduced and (a.vectors or not a.in_tile))
            along = math.prod(_inner(a, decided) for a in axes if a.in_tile and not a.vectors)
            row = _FLOAT_BYTES * math.prod(_inner(a, decided) for a in axes if a.vectors)
            fits = kernel.hardware.l2_bytes // 2 / (_FLOAT_BYTES * (across + along))
            reached = _PAGES * _PAGE_BYTES / min(row, _PAGE_BYTES)
            most = min(fits, reached) / axis.unit
            _set_last(axis, decided, one_of(axis.divisors(min(most, axis.innermost))[-3:], rng))


def parallel_grain(kernel: Kernel, decided: Plan, rng: np.random.Generator) -> None:
    """At least one piece of work for each core, and no more than a few."""
    if "parallel" in kernel.choices:
        choices, now = kernel.choices["parallel"]
        cores = kernel.hardware.cores
        if not cores <= now <= _JOBS_PER_CORE * cores:
            sensible = [c for c in choices if cores <= c <= _JOBS_PER_CORE * cores]
            decided["parallel"] = [one_of(sensible or choices[-1:], rng)]


def unrolling(kernel: Kernel, decided: Plan, rng: np.random.Generator) -> None:
    """Little more, because the register tile is unrolled already and instructions have a cache, too."""
    if "unroll" in kernel.choices:
        choices, now = kernel.choices["unroll"]
        if now not in choices[:2]:
            decided["unroll"] = [one_of(choices[:2], rng)]


RULES: tuple[Rule, ...] = (register_tile, output_block, reduction_block, unrolling, parallel_grain)
"""In planning order: from the registers outwards."""

FAMOUS_FIRST: tuple[Rule, ...] = (register_tile, reduction_block, output_block, parallel_grain, unrolling)
"""The best known first."""


def rules_of(able: float) -> list[Rule]:
    """The rules that a model of this skill knows, in planning order: at least the best known one."""
    known = FAMOUS_FIRST[: max(1, math.ceil(able * len(FAMOUS_FIRST)))]
    return [rule for rule in RULES if rule in known]


def _has_middle(axis: Axis) -> bool:
    """Whether there is a factor between the outermost loops and the register tile that is free to choose."""
    return not axis.reduced and not axis.fused and len(axis.factors) == (3 if axis.in_tile else 2)


def _set_last(axis: Axis, decided: Plan, last: int) -> None:
    """Set the last factor; the middle one keeps what still divides, and the first takes the rest."""
    middle = [math.gcd(factor, axis.extent // last) for factor in decided[axis.label][1:-1]]
    decided[axis.label] = [axis.extent // last // math.prod(middle), *middle, last]


def _inner(axis: Axis, decided: Plan) -> int:
    """Iterations within the outermost loops; with two factors of which the last is in the tile, these are all."""
    factors = decided[axis.label]
    whole = axis.in_tile and len(factors) == 2
    return axis.unit * math.prod(factors if whole else factors[1:])
