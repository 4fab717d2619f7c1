"""Programs without a call: many cheap draws, of which the cost model picks a few for the tree.

A call costs far more than a draw, and its answer is one program near one node. So before each batch programs are also
drawn from the design spaces and around the best of the tree, by mutation and crossover, in a few generations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from colt_pipeline.config.schema import DraftsConfig
from colt_pipeline.records import DraftSource
from colt_pipeline.runs.events import Draft, Drafted
from colt_pipeline.search.state import State
from colt_pipeline.search.tree import ROOT
from colt_pipeline.search.world import P, Purpose, World

_SOURCES: tuple[DraftSource, ...] = ("sample", "mutation", "crossover")
"""By the number of parents."""
_SHARES = (0.25, 0.45, 0.3)
"""Of the draws of a generation, per source."""


@dataclass(frozen=True)
class _Known(Generic[P]):
    """A program to draw from, or one that was drawn."""

    program: P
    score: float
    node: int
    """Its node in the tree, or that of the program that it was drawn from."""
    source: DraftSource = "sample"


def draft(world: World[P], settings: DraftsConfig, state: State) -> Drafted:
    """The best of ``draws`` programs by predicted score, at most a batch of them and few from the same parent."""
    rng = world.rng(len(state.samples), Purpose.DRAFT)
    known = _elites(world, settings, state, rng)
    drawn: dict[str, _Known[P]] = {}
    for _ in range(settings.generations):
        best = sorted([*known, *drawn.values()], key=lambda each: -each.score)[: settings.elites]
        for each in _generation(world, state, best, settings.draws // settings.generations, rng):
            drawn.setdefault(each.program.key, each)
    scores = {each.node: each.score for each in known}
    chosen = sorted(drawn.values(), key=lambda each: -each.score)[: world.settings.batch_size]
    models = rng.integers(len(world.models), size=len(chosen))
    return Drafted(
        tuple(
            Draft(
                each.program.key,
                each.program.trace_json,
                world.models[int(model)].name,
                each.score,
                scores.get(each.node, each.score),
                each.score,
                each.node,
                each.source,
            )
            for each, model in zip(chosen, models, strict=True)
        )
    )


def _elites(world: World[P], settings: DraftsConfig, state: State, rng: np.random.Generator) -> list[_Known[P]]:
    """The programs of the tree to draw from: measured ones by latency, waiting ones by predicted score."""
    best_secs = state.best_secs
    measured = {s.program: best_secs / s.latency_secs for s in state.samples if s.latency_secs is not None}
    keys = sorted(measured, key=lambda key: -measured[key])[: settings.elites]
    waiting = [candidate.program for candidate in state.pending]
    programs = [world.program(state.programs[key]) for key in (*keys, *waiting)]
    if not programs:
        return []
    scores = [measured[key] for key in keys] + world.cost_model.score(programs, rng)[len(keys) :]
    return [
        _Known(program, score, state.nodes[key])
        for program, score, key in zip(programs, scores, (*keys, *waiting), strict=True)
    ]


def _generation(
    world: World[P], state: State, best: Sequence[_Known[P]], draws: int, rng: np.random.Generator
) -> list[_Known[P]]:
    """New programs with their scores: samples of the design spaces, and mutations and crossovers of the best."""
    counts = [round(share * draws) for share in _SHARES] if best else [draws, 0, 0]
    parents: list[tuple[_Known[P], ...]] = []
    for count, size in zip(counts, (0, 1, 2), strict=True):
        parents += [tuple(best[i] for i in rng.integers(len(best), size=size)) for _ in range(count)] if size else [
            ()
        ] * count
    programs = world.space.draw([tuple(each.program for each in given) for given in parents], rng)
    new = {
        program.key: (program, given)
        for program, given in zip(programs, parents, strict=True)
        if program is not None and program.key not in state.known
    }
    if not new:
        return []
    scores = world.cost_model.score([program for program, _ in new.values()], rng)
    return [
        _Known(program, score, given[0].node if given else ROOT, _SOURCES[len(given)])
        for (program, given), score in zip(new.values(), scores, strict=True)
    ]
