"""Programs without a call: many cheap draws, of which the cost model picks a few for the tree.

A call costs far more than a draw, and its answer is one program near one node. So before each batch programs are also
drawn from the design spaces and around the best of the tree, by mutation and crossover, in a few generations. Most of
them are only sketched: their decisions alone tell the cost model which are worth making.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np

from colt_pipeline.config.schema import DraftsConfig
from colt_pipeline.errors import RecordingError
from colt_pipeline.records import DraftSource
from colt_pipeline.runs.drafted import Pick
from colt_pipeline.runs.events import Draft, Drafted
from colt_pipeline.search.batch import in_proportion
from colt_pipeline.search.state import State
from colt_pipeline.search.tree import ROOT
from colt_pipeline.search.world import P, Purpose, World

_SOURCES: tuple[DraftSource, ...] = ("design", "mutation", "crossover")
"""By the number of parents."""
_ATTEMPTS = 8
"""How often to draw if nothing else waits for measurement, because finding nothing new then ends the search."""


@dataclass(frozen=True)
class _Drawn(Generic[P]):
    """A program to draw from, or one that was drawn."""

    program: P
    score: float
    node: int
    """Its node in the tree, or that of the program that it was drawn from."""
    source: DraftSource = "design"


def draft(world: World[P], settings: DraftsConfig, state: State) -> Drafted:
    """The picks for the next batch, from the record or drawn and recorded, with their scores.

    Raises:
        RecordingError: the record contradicts the tree.
        ReplayMissError: strict replay, and it is not recorded.
    """
    assert world.drafts is not None
    rng = world.rng(len(state.samples), Purpose.DRAFT)
    picks = world.drafts.get(state.samples, state.pending)
    if picks is None:
        attempts = (_picked(world, settings, state, rng) for _ in range(1 if state.pending else _ATTEMPTS))
        with world.stopwatch.lap("draft"):
            picks = next((found for found in attempts if found), [])
        world.drafts.add(state.samples, state.pending, picks)
    elif not all(pick.parent < len(state.tree.nodes) and pick.program not in state.known for pick in picks):
        raise RecordingError(
            f"{world.drafts.path}: what was drafted after {len(state.samples)} measured programs has a program that is "
            "in the tree already, or a parent that is not; restore the file"
        )
    parents = {pick.parent: state.tree.nodes[pick.parent].record for pick in picks}
    known = {node: record for node, record in parents.items() if record is not None}
    programs = [world.program(each) for each in (*picks, *known.values())]
    scores = world.cost_model.score(programs, rng) if programs else []
    of_parents = dict(zip(known, scores[len(picks) :], strict=True))
    models = world.rng(len(state.samples), Purpose.ROUTE_DRAFTS).integers(len(world.models), size=len(picks))
    return Drafted(
        tuple(
            Draft(
                program=pick.program,
                trace=pick.trace,
                model=world.models[int(model)].name,
                score=score,
                parent_score=of_parents.get(pick.parent, score),
                reward=score,
                parent=pick.parent,
                source=pick.source,
            )
            for pick, model, score in zip(picks, models, scores, strict=False)
        )
    )


def _picked(world: World[P], settings: DraftsConfig, state: State, rng: np.random.Generator) -> list[Pick]:
    """A batch chosen from all draws, see `in_proportion`."""
    known = _elites(world, settings, state, rng)
    drawn: dict[str, _Drawn[P]] = {}
    for _ in range(settings.generations):
        seen = [*known, *drawn.values()]
        for each in _generation(world, settings, state, seen, rng):
            drawn.setdefault(each.program.key, each)
    made = list(drawn.values())
    programs, sources = [each.program for each in made], [each.source for each in made]
    chosen = in_proportion(world, settings, state, programs, sources, world.settings.batch_size)
    return [Pick(made[i].program.key, made[i].program.trace_json, made[i].node, made[i].source) for i in chosen]


def _elites(world: World[P], settings: DraftsConfig, state: State, rng: np.random.Generator) -> list[_Drawn[P]]:
    """The programs of the tree to draw from: measured ones by latency, waiting ones by predicted score."""
    best_secs = state.best_secs
    measured = {s.program: best_secs / s.latency_secs for s in state.samples if s.latency_secs is not None}
    fastest = sorted(measured, key=lambda key: -measured[key])[: settings.elites]
    waiting = [candidate.program for candidate in state.pending]
    programs = [world.program(state.programs[key]) for key in (*fastest, *waiting)]
    predicted = world.cost_model.score(programs[len(fastest) :], rng) if waiting else []
    scores = [*(measured[key] for key in fastest), *predicted]
    return [
        _Drawn(program, score, state.nodes[key])
        for program, score, key in zip(programs, scores, (*fastest, *waiting), strict=True)
    ]


def _generation(
    world: World[P], settings: DraftsConfig, state: State, seen: Sequence[_Drawn[P]], rng: np.random.Generator
) -> list[_Drawn[P]]:
    """New programs with their scores: draws from the design spaces, and sketches of programs near the best seen."""
    known = {*state.known, *(each.program.key for each in seen)}
    designs = {p.key: p for p in world.space.designs(settings.designs, rng) if p.key not in known}
    best = _best(seen, settings.elites)
    sketched = world.space.sketches([each.program for each in best], settings.sketches, rng)
    promise = world.drafting_model.screen(sketched, [*(each.program for each in seen), *designs.values()])
    promising = [sketched[i] for i in np.argsort(-np.array(promise), kind="stable")]
    made = world.space.make(promising, settings.draws, {*known, *designs})
    new = [*((program, ()) for program in designs.values()), *((program, sketch.parents) for sketch, program in made)]
    scores = world.cost_model.score([program for program, _ in new], rng) if new else []
    return [
        _Drawn(program, score, best[parents[0]].node if parents else ROOT, _SOURCES[len(parents)])
        for (program, parents), score in zip(new, scores, strict=True)
    ]


def _best(drawn: Iterable[_Drawn[P]], count: int) -> list[_Drawn[P]]:
    return sorted(drawn, key=lambda each: -each.score)[:count]
