"""The decisions of a trace: what of it a search may change, changed at random without a replay.

TVM's mutators replay a trace to see its loops before they edit it, which takes milliseconds. The edits here look at the
instructions alone. Some results are invalid, or equal the program they came from; that shows when they are made.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm.s_tir.schedule import Instruction, Trace

from colt_pipeline.serialization import canonical_json
from colt_pipeline.space.sites import LIMITS, PARALLEL

_DEEPEST = 8
"""Loops that a block may be moved under; TVM takes the nearest loop that is possible."""

Values = tuple[tuple[int, ...], ...]
"""One value per decision of a trace: the factors of a tile, otherwise a single number."""


@dataclass(frozen=True)
class Place:
    """An instruction of a design that decides something."""

    index: int
    """Which of the trace's instructions it is."""
    kind: str
    bound: int
    """Largest innermost factor of a tile, number of choices of a categorical decision; otherwise 0."""


@lru_cache(maxsize=256)
def places(design: str) -> tuple[Place, ...]:
    """Where a design decides something, in the order of its instructions."""
    found = []
    for index, (kind, _, attrs, _) in enumerate(json.loads(design)):
        if kind == "SamplePerfectTile":
            found.append(Place(index, kind, attrs[1]))
        elif kind == "SampleCategorical":
            found.append(Place(index, kind, len(attrs[0])))
        elif kind.startswith("Sample") or (kind == "Annotate" and attrs == [PARALLEL]):
            found.append(Place(index, kind, 0))
    return tuple(found)


def values_of(trace: Trace, decided: Sequence[Place]) -> Values:
    """What a trace that has been replayed, or was drawn from one that has, decides at these places of its design."""
    insts = trace.insts
    return tuple(_value(trace, insts[place.index], place.kind) for place in decided)


def _value(trace: Trace, inst: Instruction, kind: str) -> tuple[int, ...]:
    match kind:
        case "Annotate":
            return (int(inst.inputs[1]),)
        case "SamplePerfectTile":
            return tuple(map(int, trace.get_decision(inst)))
    return (int(trace.get_decision(inst)),)


@dataclass(frozen=True, eq=False)
class Decisions:
    """A trace as the design it belongs to and the values of its decisions."""

    trace: Trace
    design: str
    values: Values

    @classmethod
    def of(cls, trace: Trace, design: str) -> Decisions:
        """The decisions of a trace that has been replayed, so that all of them are made."""
        return cls(trace, design, values_of(trace, places(design)))

    @property
    def places(self) -> tuple[Place, ...]:
        return places(self.design)

    def made(self, values: Values) -> Trace:
        """The trace with other values."""
        insts, decided = list(self.trace.insts), {}
        for place, value in zip(self.places, values, strict=True):
            inst = insts[place.index]
            if place.kind == "Annotate":
                insts[place.index] = Instruction(inst.kind, [inst.inputs[0], value[0]], inst.attrs, inst.outputs)
            else:
                decided[inst] = list(value) if place.kind == "SamplePerfectTile" else value[0]
        return Trace(insts, decided)

    def coordinates(self, values: Values) -> npt.NDArray[np.float64]:
        """These values as a point, near which programs behave alike: log2 of the factors of tiles and of the grain of
        parallelism, other numbers as they are."""
        numbers: list[float] = []
        for place, value in zip(self.places, values, strict=True):
            match place.kind:
                case "SamplePerfectTile":
                    numbers += [math.log2(max(factor, 1)) for factor in value]
                case "Annotate":
                    numbers.append(math.log2(1 + abs(value[0])))
                case _:
                    numbers.append(float(value[0]))
        return np.array(numbers)

    def mutated(self, rng: np.random.Generator, values: Values) -> Values:
        """`values` with one of them, drawn uniformly, drawn anew; the same if there is nothing to draw."""
        free = [n for n, (place, value) in enumerate(zip(self.places, values, strict=True)) if _is_free(place, value)]
        if not free:
            return values
        chosen = free[int(rng.integers(len(free)))]
        drawn = _drawn(self.places[chosen], values[chosen], rng)
        return (*values[:chosen], drawn, *values[chosen + 1 :])

    def as_json(self) -> str:
        """The trace as canonical JSON: what ``Trace.as_json`` gives in ten times the time."""
        insts = json.loads(self.design)
        made = []
        for place, value in zip(self.places, self.values, strict=True):
            if place.kind == "Annotate":
                insts[place.index][1] += value
            else:
                made.append([place.index, list(value) if place.kind == "SamplePerfectTile" else value[0]])
        return canonical_json([insts, made])


def crossed(left: Values, right: Values, rng: np.random.Generator) -> Values:
    """Each value from either parent; both are of the same design."""
    pairs = zip(left, right, rng.integers(2, size=len(left)), strict=True)
    return tuple(b if take else a for a, b, take in pairs)


def _is_free(place: Place, value: Sequence[int]) -> bool:
    match place.kind:
        case "SamplePerfectTile":
            return len(value) > 1 and any(factor > 1 for factor in value)
        case "SampleCategorical":
            return place.bound > 1
    return True


def _drawn(place: Place, value: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
    """Another value for a decision."""
    match place.kind:
        case "SamplePerfectTile":
            return _moved(value, place.bound, rng)
        case "SampleCategorical":
            return (_other(range(place.bound), value[0], rng),)
        case "SampleComputeLocation":
            return (_other(range(-2, _DEEPEST), value[0], rng),)
    return (_other(LIMITS, value[0], rng),)


def _other(choices: Sequence[int], now: int, rng: np.random.Generator) -> int:
    others = [choice for choice in choices if choice != now]
    return others[int(rng.integers(len(others)))]


def _moved(factors: tuple[int, ...], most_innermost: int, rng: np.random.Generator) -> tuple[int, ...]:
    """A tile with a divisor of one factor moved to another, uniform over the moves; the same if none is possible."""
    last = len(factors) - 1
    moves = [
        (source, goal, divisor)
        for source, factor in enumerate(factors)
        for divisor in _divisors(factor)
        for goal in range(len(factors))
        if goal != source and (goal != last or factors[last] * divisor <= most_innermost)
    ]
    if not moves:
        return factors
    source, goal, divisor = moves[int(rng.integers(len(moves)))]
    moved = list(factors)
    moved[source] //= divisor
    moved[goal] *= divisor
    return tuple(moved)


@lru_cache(maxsize=1024)
def _divisors(number: int) -> tuple[int, ...]:
    """The divisors of a number, except for 1."""
    return tuple(d for d in range(2, number + 1) if number % d == 0)


def undecided(trace: list[Any]) -> str:
    """What no mutator changes: the instructions of a trace without the extent of the parallel loop."""
    return canonical_json([i if i[2] != [PARALLEL] else [i[0], i[1][:1], *i[2:]] for i in trace[0]])


def ordered(trace: Trace, design: str) -> Trace:
    """`trace` with its decisions in the order of its instructions.

    MutateTileSize draws by position in the map of decisions, and TVM's operations leave that map in an order that
    depends on memory addresses; otherwise the same seed would give different programs in different processes.
    """
    insts = trace.insts
    sampling = [insts[place.index] for place in places(design) if place.kind != "Annotate"]
    return Trace(insts, {inst: trace.get_decision(inst) for inst in sampling})


def plain(value: Any) -> Any:
    """TVM's containers and constants as lists, numbers and strings."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if hasattr(value, "value"):
        return value.value
    if hasattr(value, "items"):
        return {str(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value]
