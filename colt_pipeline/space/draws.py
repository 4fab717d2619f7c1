"""Programs drawn from design spaces: a few at the start of a search, or many for a cost model to choose from.

What is drawn depends on the random generator alone, not on how many programs are made side by side.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import tvm
from tvm.s_tir.schedule import Trace

from colt_pipeline.errors import SpaceError
from colt_pipeline.space.decisions import Values, crossed
from colt_pipeline.space.generate import Designs
from colt_pipeline.space.program import Program
from colt_pipeline.space.replay import realize, replay, side_by_side, surely_refused
from colt_pipeline.space.threads import draw_tiles

MAX_SEED = 2**31 - 1
_SAMPLING_ATTEMPTS = 256
_PATIENCE = 4  # times as many attempts on a GPU before it is an error: 1 in 500 fits for FLUX attention on sm_90
_TRIES = 4  # draws per program that is wanted, when many are
_FAILURES = 128  # replays on a GPU until sampling gives up; each takes 30 to 200 ms


@dataclass(frozen=True)
class _Draw:
    """A trace to replay."""

    trace: Trace
    seed: int = 1
    """For decisions that the trace leaves open."""
    design: str = ""


@lru_cache(maxsize=8)
def sampled(designs: Designs, count: int, rng_state: str) -> tuple[tuple[Program, ...], Mapping[str, Any]]:
    """Distinct samples, and the generator's state afterwards; cached, because runs of one seed begin alike."""
    rng = np.random.default_rng()
    rng.bit_generator.state = json.loads(rng_state)
    found: dict[str, Program] = {}
    samples = failed = 0
    limit = _SAMPLING_ATTEMPTS * count
    while len(found) < count and samples < limit * (1 if found or not designs.on_gpu else _PATIENCE):
        if designs.on_gpu and not found and failed == _FAILURES:
            break
        samples += 1
        trace, seed = _open(designs, rng)
        if surely_refused(designs, trace):
            continue
        program = replay(designs, trace, seed)
        if program is None:
            failed += 1
        else:
            found.setdefault(program.key, program)
    if not found:
        raise SpaceError(
            f"no valid initial program in {samples} samples of {len(designs.traces)} design spaces; try another shape "
            "or target"
        )
    return tuple(found.values()), rng.bit_generator.state


def _open(designs: Designs, rng: np.random.Generator) -> tuple[Trace, int]:
    """A uniformly drawn design space, and the seed for the decisions that it leaves open."""
    trace = designs.traces[int(rng.integers(len(designs.traces)))]
    # On a GPU the sampled decisions are needed, because they determine the extents of the tiles.
    trace = draw_tiles(trace, rng) if designs.on_gpu else Trace(trace.insts, {})
    return trace, int(rng.integers(1, MAX_SEED))


def fresh(designs: Designs, count: int, rng: np.random.Generator) -> list[Program]:
    """Up to `count` distinct programs, each a sample of a uniformly drawn design space."""
    drawn = (_Draw(*_open(designs, rng)) for _ in range(_TRIES * count))
    return _made(designs, drawn, count, ())


def mutants(
    designs: Designs, programs: Sequence[Program], count: int, rng: np.random.Generator, length: int
) -> list[Program]:
    """Up to `count` distinct programs, each one of `programs` with up to `length` decisions drawn anew."""
    return _made(designs, _mutated(programs, _TRIES * count, rng, length), count, programs)


def _mutated(programs: Sequence[Program], tries: int, rng: np.random.Generator, length: int) -> Iterator[_Draw]:
    seen = {(p.design, p.decisions.values) for p in programs}
    for _ in range(tries if programs else 0):
        program = programs[int(rng.integers(len(programs)))]
        values = program.decisions.values
        for _ in range(int(rng.integers(1, length + 1))):
            values = program.decisions.mutated(rng, values)
        if (program.design, values) not in seen:
            seen.add((program.design, values))
            yield _Draw(program.decisions.made(values), design=program.design)


def offspring(designs: Designs, pairs: Iterable[tuple[Program, Program]], rng: np.random.Generator) -> list[Program]:
    """One program per pair of programs of one design, with each decision from either; less those that are not new."""
    parents: list[Program] = []
    drawn: list[_Draw] = []
    seen: set[tuple[str, Values]] = set()
    for pair in pairs:
        left, right = pair
        values = crossed(left.decisions.values, right.decisions.values, rng)
        seen |= {(p.design, p.decisions.values) for p in pair}
        parents += pair
        if left.design == right.design and (left.design, values) not in seen:
            seen.add((left.design, values))
            drawn.append(_Draw(left.decisions.made(values), design=left.design))
    return _made(designs, iter(drawn), len(drawn), parents)


def _made(designs: Designs, drawn: Iterator[_Draw], count: int, known: Sequence[Program]) -> list[Program]:
    """The first `count` distinct programs that are none of `known`."""
    taken = {program.structure for program in known}
    found: dict[int, Program] = {}

    def make(draw: _Draw, module: tvm.IRModule) -> Program | None:
        program = realize(designs, draw.trace, draw.seed, draw.design, module)
        if program is not None:
            program.structure  # noqa: B018  hashed here, side by side
        return program

    while len(found) < count and (batch := list(islice(drawn, count - len(found)))):
        for program in side_by_side(designs, make, batch):
            if program is not None and program.structure not in taken:
                found.setdefault(program.structure, program)
    return list(found.values())
