"""The next step of a search: one call after another, or several at once (``llm.concurrency``).

With concurrent calls a step has a beginning and an end, and each is an event. Whenever fewer answers are awaited than
may be, the search chooses a further node; otherwise it waits for the oldest answer and applies it. So the events are a
function of the answers, whenever these arrive, and calls are in flight while programs are measured, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from colt_pipeline.records import ModelSpec, Role
from colt_pipeline.runs.events import Chosen, Deferred, Event, Stepped
from colt_pipeline.search.context import context_of, path_scores, shown_scores
from colt_pipeline.search.expand import Attempt, Expansion, draws_at_random, expand
from colt_pipeline.search.in_flight import InFlight, Turn
from colt_pipeline.search.state import Inquiry, State
from colt_pipeline.search.tree import Node
from colt_pipeline.search.world import P, World


def next_step(world: World[P], state: State, policy: Callable[[Node, Node], float]) -> Event | None:
    """Begin or end a step; None if no node can be expanded and no answer is awaited."""
    in_flight = world.in_flight
    if in_flight is None or len(state.awaited) < min(in_flight.most, _wanted(world, state)):
        node = state.tree.select(policy)
        if node is not None:
            if in_flight is None or draws_at_random(world.settings, node):
                return expand(world, state, node)
            return Chosen(node.id, tuple(shown_scores(world, state, node, state.begun)))
    return None if in_flight is None or not state.awaited else _end(world, state, in_flight)


def _wanted(world: World[P], state: State) -> int:
    """How many more answers the search needs to its end, so that none is asked for in vain.

    Where kernels share what is known of the models, only to the end of the batch: the other kernels' turns follow, and
    would change the questions.
    """
    size, left = world.settings.batch_size, world.samples - state.spent
    if state.counts_calls:
        return left  # a call counts when its answer is applied
    if state.has_peers:
        left = min(left, size)
    return max(left - len(state.pending), math.ceil(left / size) * world.settings.candidates - state.fresh)


def _end(world: World[P], state: State, in_flight: InFlight) -> Deferred | Stepped:
    """Apply the oldest answer."""
    _send(world, state, in_flight)
    inquiry = state.awaited[0]
    with world.stopwatch.lap("llm"):
        in_flight.wait(_turn(inquiry))
    answer = in_flight.take(_turn(inquiry))
    model, role = _asked(world, inquiry)
    node = state.tree.nodes[inquiry.node]
    # Scores by two states of the cost model cannot be compared, and it may have learned since the question was sent.
    scores = path_scores(world, state, node, inquiry.step)
    expansion = Expansion(world, state, node, inquiry.step, scores)
    attempt = expansion.take(model, answer, role)
    if inquiry.first is not None:
        return expansion.ended(Attempt(*inquiry.first), attempt)
    if attempt.child is not None and expansion.alters_course(model.name, attempt.child):
        return Deferred(attempt.call, attempt.child)
    return expansion.ended(attempt)


def _send(world: World[P], state: State, in_flight: InFlight) -> None:
    """Ask all that has not been asked; equal questions are counted in the order in which their answers are applied."""
    occurrences = Counter(state.occurrences)
    for inquiry in state.awaited:
        turn = _turn(inquiry)
        if not in_flight.sent(turn):
            model, _ = _asked(world, inquiry)
            in_flight.send(turn, model, context_of(world, state, inquiry), occurrences)
        occurrences[in_flight.key(turn)] += 1


def _turn(inquiry: Inquiry) -> Turn:
    return inquiry.step, "regular" if inquiry.first is None else "course_alteration"


def _asked(world: World[P], inquiry: Inquiry) -> tuple[ModelSpec, Role]:
    """Who is asked, and what for."""
    if inquiry.first is None:
        return world.model(inquiry.model), "regular"
    return world.largest, "course_alteration"
