"""The search loop: decide the next event, write it to disk, apply it.

`next_event` depends on the state alone (the world gives equal answers to equal questions), so a search killed after any
event resumes from the journal as if nothing had happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from colt_pipeline.config.schema import SearchConfig
from colt_pipeline.runs.events import Event, Finished, Measured
from colt_pipeline.runs.journal import Journal
from colt_pipeline.search import evolutionary
from colt_pipeline.search.batch import choose_batch
from colt_pipeline.search.concurrency import next_step
from colt_pipeline.search.drafts import draft
from colt_pipeline.search.expand import plant
from colt_pipeline.search.policy import ma_uct, preferences
from colt_pipeline.search.state import State
from colt_pipeline.search.tree import Node
from colt_pipeline.search.world import P, World


def search(world: World[P], journal: Journal, state: State) -> Iterator[Event]:
    """Fold the journal's events, then search until the budget is spent, yielding each new event after applying it.

    Raises:
        ColtError: recording, device or disk failed permanently; the search can be resumed from the journal.
    """
    fold(world, journal, state)
    yield from advance(world, journal, state)


def fold(world: World[P], journal: Journal, state: State) -> None:
    """Bring a fresh `state` to the end of its journal."""
    for event in journal.events:
        apply(world, state, event)


def advance(world: World[P], journal: Journal, state: State) -> Iterator[Event]:
    """Continue the search from a folded state; see `search`."""
    while state.finished is None:
        event = next_event(world, state)
        journal.append(event)
        apply(world, state, event)
        yield event


def next_event(world: World[P], state: State) -> Event:
    """What happens next: start, plant, take one search step, measure a batch, or finish."""
    if state.started is None:
        return world.start()
    if world.evolution is not None:
        return evolutionary.next_event(world, world.evolution, state)
    if wants_roots(world.settings, state):
        return plant(world, state)
    left = world.samples - state.spent
    if left <= 0 and not (state.counts_calls and state.pending):
        return Finished("budget")
    batch = world.settings.batch_size if state.counts_calls else min(world.settings.batch_size, left)
    if left > 0 and (len(state.pending) < batch or state.fresh < world.settings.candidates):
        step = next_step(world, state, tree_policy(world, state))
        if step is not None:
            return step
    if left > 0 and world.settings.drafts is not None and world.cost_model.warm and not state.drafted:
        return draft(world, world.settings.drafts, state)
    if not state.pending:
        return Finished("exhausted")
    return world.measure(choose_batch(world, state, batch))


def wants_roots(settings: SearchConfig, state: State) -> bool:
    """Whether to sample programs from the design spaces: at the start, and as the search widens."""
    wanted = settings.widening * math.sqrt(len(state.samples))
    return not state.plantings or settings.initial_programs + state.plantings - 1 < wanted


def tree_policy(world: World[P], state: State) -> Callable[[Node, Node], float]:
    """MA-UCT over the model set (paper section 3.2)."""
    phi = preferences({m.name: m.parameters_b for m in world.models})
    # With one model there is nothing to prefer, and a weight would only make c larger beside the rewards.
    lambda_ = 0.0 if len(world.models) == 1 and not world.settings.legacy else world.settings.lambda_
    c, best_secs = world.settings.c, state.best_secs

    def score(node: Node, parent: Node) -> float:
        visits, above = node.visits + node.awaited_below, parent.visits + parent.awaited_below
        return ma_uct(node.total(best_secs), visits, above, phi[node.model or ""], lambda_, c)

    return score


def apply(world: World[P], state: State, event: Event) -> None:
    """Fold one event into the state and any measurements into the cost model (an evolution has its own)."""
    state.apply(event)
    if isinstance(event, Measured) and world.evolution is None:
        programs = [world.program(state.programs[s.program]) for s in event.samples]
        world.cost_model.update(programs, event.samples)
