"""Which of the waiting programs are measured next: by score and diversity, or in order of creation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from colt_pipeline.config.schema import DraftsConfig
from colt_pipeline.runs.events import Candidate
from colt_pipeline.search.state import State
from colt_pipeline.search.world import P, Purpose, World

_SIBLING_DISCOUNT = 0.8
"""Factor on a program's score for each program in the batch with the same parent."""


def choose_batch(world: World[P], state: State, size: int) -> Sequence[Candidate]:
    """Up to `size` of the waiting programs, in the order in which they are chosen.

    With ``search.candidates``, the best by current score, discounted for siblings already chosen: siblings differ
    little, so measuring one reveals much about the others. With ``search.drafts``, see `_by_source`.
    """
    if not world.settings.pool or len(state.pending) <= size:
        return state.pending[:size]
    if world.settings.drafts is not None and world.cost_model.warm:
        return _by_source(world, world.settings.drafts, state, size)
    programs = [world.program(candidate) for candidate in state.pending]
    scores = world.cost_model.score(programs, world.rng(len(state.samples), Purpose.BATCH))
    waiting = dict(zip((candidate.program for candidate in state.pending), scores, strict=True))
    parents = {key: state.tree.nodes[state.nodes[key]].parent for key in waiting}
    chosen: list[str] = []
    taken: Counter[int | None] = Counter()
    for _ in range(size):
        best = max(waiting, key=lambda key: _discounted(waiting[key], taken[parents[key]]))
        del waiting[best]
        taken[parents[best]] += 1
        chosen.append(best)
    return [state.programs[key] for key in chosen]


def _by_source(world: World[P], settings: DraftsConfig, state: State, size: int) -> Sequence[Candidate]:
    """Of each source the programs with the best prospects, in proportion to how often its programs became the best.

    The proportion is Laplace's estimate, (improvements + 1) / (measured + 2): at first all sources are equal, and where
    nothing improves any more, those that were measured less get more.
    """
    waiting = [world.program(candidate) for candidate in state.pending]
    prospects = world.drafting_model.prospects(waiting, settings.optimism)
    sources = [state.sources[candidate.program] for candidate in state.pending]
    rates = {source: (state.improved[source] + 1) / (state.tried[source] + 2) for source in dict.fromkeys(sources)}
    chosen: list[int] = []
    for _ in range(size):
        left = [i for i in range(len(waiting)) if i not in chosen]
        taken = Counter(sources[i] for i in chosen)
        source = max({sources[i]: None for i in left}, key=lambda name: rates[name] / (taken[name] + 1))
        values = prospects(chosen)
        chosen.append(max((i for i in left if sources[i] == source), key=lambda i: values[i]))
    return [state.pending[i] for i in chosen]


def _discounted(score: float, siblings: int) -> float:
    """`score` lowered for each sibling, even if it is negative."""
    discount = _SIBLING_DISCOUNT**siblings
    return score * discount if score >= 0 else score / discount
