"""Which of the waiting programs are measured next: by score and diversity, or in order of creation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar, get_args

from colt_pipeline.config.schema import DraftsConfig
from colt_pipeline.records import DraftSource
from colt_pipeline.runs.events import Candidate
from colt_pipeline.search.state import CALL, Source, State
from colt_pipeline.search.world import P, Purpose, World

T = TypeVar("T")

_SIBLING_DISCOUNT = 0.8
"""Factor on a program's score for each program in the batch with the same parent."""


def choose_batch(world: World[P], state: State, size: int) -> Sequence[Candidate]:
    """Up to `size` of the waiting programs, in the order in which they are chosen.

    First those of earlier runs: they are known to be fast, which a cost model that has seen nothing yet may not see.
    Then, with ``search.candidates``, the best by current score, discounted for siblings already chosen: siblings differ
    little, so measuring one reveals much about the others. With ``search.drafts``, see `in_proportion`.
    """
    known = {candidate.program for candidate in world.start_from}
    first = [candidate for candidate in state.pending if candidate.program in known][:size]
    others = [candidate for candidate in state.pending if candidate.program not in known]
    return [*first, *_choose(world, state, others, size - len(first))]


def _choose(world: World[P], state: State, candidates: Sequence[Candidate], size: int) -> Sequence[Candidate]:
    if not world.settings.candidates or len(candidates) <= size:
        return candidates[:size]
    programs = [world.program(candidate) for candidate in candidates]
    if world.settings.drafts is not None and world.cost_model.warm:
        sources = [state.sources[candidate.program] for candidate in candidates]
        return [candidates[i] for i in in_proportion(world, world.settings.drafts, state, programs, sources, size)]
    scores = world.cost_model.score(programs, world.rng(len(state.samples), Purpose.BATCH))
    waiting = dict(zip((candidate.program for candidate in candidates), scores, strict=True))
    parents = {key: state.tree.nodes[state.nodes[key]].parent for key in waiting}
    chosen: list[str] = []
    taken: Counter[int | None] = Counter()
    for _ in range(size):
        best = max(waiting, key=lambda key: _discounted(waiting[key], taken[parents[key]]))
        del waiting[best]
        taken[parents[best]] += 1
        chosen.append(best)
    return [state.programs[key] for key in chosen]


def in_proportion(
    world: World[P],
    settings: DraftsConfig,
    state: State,
    programs: Sequence[P],
    sources: Sequence[Source],
    size: int,
) -> list[int]:
    """Up to `size` of these programs: of each source those with the best prospects, given what was chosen before.

    Calls and drafts share the places, and the kinds of drafts theirs, in proportion to how often their programs became
    the best. That is Laplace's estimate, (improvements + 1) / (measured + 2): at first all are equal, and where nothing
    improves any more, those that were measured less get more.

    Returns:
        Indices, in the order in which they were chosen.
    """

    def rate(*kinds: Source) -> float:
        return (sum(state.improved[kind] for kind in kinds) + 1) / (sum(state.tried[kind] for kind in kinds) + 2)

    prospects = world.drafting_model.prospects(programs, settings.optimism)
    chosen: list[int] = []
    for _ in range(min(size, len(programs))):
        left = [i for i in range(len(programs)) if i not in chosen]
        taken = [sources[i] for i in chosen]
        asked = _due([sources[i] == CALL for i in left], [kind == CALL for kind in taken], lambda a: rate(*_kinds(a)))
        left = [i for i in left if (sources[i] == CALL) == asked]
        kind = _due([sources[i] for i in left], taken, rate)
        values = prospects(chosen)
        chosen.append(max((i for i in left if sources[i] == kind), key=lambda i: values[i]))
    return chosen


def _kinds(asked: bool) -> tuple[Source, ...]:
    return (CALL,) if asked else get_args(DraftSource)


def _due(left: Sequence[T], taken: Sequence[T], rate: Callable[[T], float]) -> T:
    """Whose turn it is, by the method of highest averages."""
    return max(dict.fromkeys(left), key=lambda each: rate(each) / (taken.count(each) + 1))


def _discounted(score: float, siblings: int) -> float:
    """`score` lowered for each sibling, even if it is negative."""
    discount = _SIBLING_DISCOUNT**siblings
    return score * discount if score >= 0 else score / discount
