"""Programs drawn from design spaces: a few at the start of a search, or many for a cost model to choose from.

What is drawn depends on the random generator alone, not on how many programs are made side by side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import tvm
from tvm.s_tir.schedule import Trace

from colt_pipeline.errors import SpaceError
from colt_pipeline.space.decisions import Values, crossed, plain, undecided
from colt_pipeline.space.generate import Designs
from colt_pipeline.space.program import Program, Sketch
from colt_pipeline.space.replay import realize, replay, side_by_side, surely_refused
from colt_pipeline.space.threads import draw_tiles

MAX_SEED = 2**31 - 1
_SAMPLING_ATTEMPTS = 256
_PATIENCE = 4  # times as many attempts on a GPU before it is an error: 1 in 500 fits for FLUX attention on sm_90
_CROSSED = 0.4  # share of sketches that cross two programs, where they can
_MUTATIONS = 3  # at most, of a sketch
_FAILURES = 128  # replays on a GPU until sampling gives up; each takes 30 to 200 ms


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
        trace, seed, design = _open(designs, rng)
        if surely_refused(designs, trace):
            continue
        program = replay(designs, trace, seed, design)
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


def _open(designs: Designs, rng: np.random.Generator) -> tuple[Trace, int, str]:
    """A uniformly drawn design space, the seed for the decisions that it leaves open, and its instructions."""
    number = int(rng.integers(len(designs.traces)))
    trace = designs.traces[number]
    # On a GPU the sampled decisions are needed, because they determine the extents of the tiles.
    trace = draw_tiles(trace, rng) if designs.on_gpu else Trace(trace.insts, {})
    return trace, int(rng.integers(1, MAX_SEED)), undecided_designs(designs)[number]


@lru_cache(maxsize=8)
def undecided_designs(designs: Designs) -> tuple[str, ...]:
    """See `Program.design`."""
    return tuple(undecided(plain(trace.simplified(True).as_json())) for trace in designs.traces)


def fresh(designs: Designs, count: int, rng: np.random.Generator) -> list[Program]:
    """Up to `count` programs, each a sample of a uniformly drawn design space."""

    def make(drawn: tuple[Trace, int, str], module: tvm.IRModule) -> Program | None:
        program = realize(designs, *drawn, module=module)
        if program is not None:
            program.key  # noqa: B018  printed here, side by side
        return program

    made = side_by_side(designs, make, [_open(designs, rng) for _ in range(count)])
    return [program for program in made if program is not None]


def sketches(programs: Sequence[Program], count: int, rng: np.random.Generator) -> list[Sketch]:
    """Distinct sketches of programs near these: mutations of up to three decisions and, between two of one design,
    crossovers; up to `count` of them."""
    seen: set[tuple[str, Values]] = {(p.design, p.decisions.values) for p in programs}
    found: list[Sketch] = []
    for _ in range(count if programs else 0):
        first, second = (int(i) for i in rng.integers(len(programs), size=2))
        program, other, crosses = programs[first], programs[second], rng.random() < _CROSSED
        values = program.decisions.values
        parents: tuple[int, ...] = (first,)
        if crosses and first != second and program.design == other.design:
            values, parents = crossed(values, other.decisions.values, rng), (first, second)
        else:
            for _ in range(int(rng.integers(1, _MUTATIONS + 1))):
                values = program.decisions.mutated(rng, values)
        if (program.design, values) not in seen:
            seen.add((program.design, values))
            found.append(Sketch(parents, program, values))
    return found
