"""What a question tells a model: the current program, how it came about, what was tried there, and the statistics.

Everything follows from the inquiry, so a question stays the same whatever happens between its choice and its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice

from colt_pipeline.records import AttemptView, ProgramView, Progress, PromptContext, StepView
from colt_pipeline.runs.events import Child, Draft, Stepped
from colt_pipeline.search.state import Inquiry, State
from colt_pipeline.search.tree import Node
from colt_pipeline.search.world import P, Purpose, TransformationLike, World

_LINEAGE = 3  # current program, parent, grandparent (paper appendix B)


def path_of(state: State, node: Node) -> list[Node]:
    """The node and those above it, up to the initial program; the root has no trace."""
    return [each for each in state.tree.path(node.id) if each.record is not None]


def path_scores(world: World[P], state: State, node: Node, step: int) -> list[float]:
    """Scores of the programs of `path_of` under the present cost model; of the node's alone if it does not predict."""
    nodes = _lineage(state, node) if world.settings.legacy else path_of(state, node)
    records = [each.record for each in nodes if each.record is not None]
    return _scores(world, records if world.settings.legacy or world.cost_model.warm else records[:1], step)


def shown_scores(world: World[P], state: State, node: Node, step: int) -> list[float]:
    """The scores that a question at this node shows: those of `path_scores`, and of what was tried there.

    None if the cost model does not predict.
    """
    if world.settings.legacy:
        return path_scores(world, state, node, step)
    if not world.cost_model.warm:
        return path_scores(world, state, node, step) if world.settings.early_scores else []
    records = [each.record for each in path_of(state, node) if each.record is not None]
    tried = [child for each in state.tried_at.get(node.id, []) for child in _children(each)]
    return _scores(world, [*records, *tried], step)


def context_of(world: World[P], state: State, inquiry: Inquiry) -> PromptContext:
    """What any model is told for this step."""
    settings, node = world.settings, state.tree.nodes[inquiry.node]
    nodes = _lineage(state, node)
    programs = [world.program(n.record) for n in nodes if n.record is not None]
    predicted = settings.legacy or len(inquiry.scores) >= len(path_of(state, node))  # with early_scores some
    scores = inquiry.scores if predicted else [None] * len(programs)
    expanders = [inquiry.model, *(n.made_by for n in nodes)]
    lineage = [
        ProgramView(p.code, p.history, score, model)
        for p, score, model in zip(programs, scores, expanders, strict=False)
    ]
    if len(programs) < len(nodes):
        lineage.append(ProgramView(world.space.base_code, (), None, None))
    known = state.with_peers(inquiry.stats)
    context = PromptContext(
        target=world.target,
        lineage=tuple(lineage),
        transformations=_described(world, world.space.applicable(programs[0])),
        sites=world.space.sites(programs[0]) if settings.decisions else (),
        hardware=world.hardware,
        depth=node.depth,
        samples=min(inquiry.measured + inquiry.waiting, world.samples),
        budget=world.samples,
        models=tuple(known[m.name].view(m.name, m.parameters_b) for m in world.models),
        largest=world.largest.name,
    )
    if settings.legacy:
        return context
    path, tried = _path_and_tried(world, state, inquiry, predicted)
    return replace(
        context,
        base_code=world.space.base_code,
        offer=_described(world, world.space.transformations),
        path=path,
        tried=tried,
        progress=_progress(world, state, inquiry),
    )


def _described(world: World[P], transformations: Sequence[TransformationLike]) -> tuple[tuple[str, str], ...]:
    decided = world.settings.decisions and not world.settings.legacy
    return tuple((t.name, (decided and t.decided) or t.description) for t in transformations)


def _path_and_tried(
    world: World[P], state: State, inquiry: Inquiry, predicted: bool
) -> tuple[tuple[StepView, ...], tuple[AttemptView, ...]]:
    """How the node's program came about, the oldest first, and what was tried at it."""
    node = state.tree.nodes[inquiry.node]
    scores = iter(inquiry.scores if predicted else ())

    def view(child: Child, model: str | None) -> StepView:
        number = state.numbers.get(child.program, inquiry.measured)
        sample = state.samples[number] if number < inquiry.measured else None
        latency_secs = None if sample is None else sample.latency_secs
        failed = sample is not None and latency_secs is None
        return StepView(world.program(child).history, model, next(scores, None), latency_secs, failed)

    # in the order of the scores
    path = [view(each.record, each.made_by) for each in path_of(state, node) if each.record is not None]
    tried = [
        attempt
        for each in state.tried_at.get(node.id, [])[: inquiry.tried]
        for attempt in ([_drafted(each, view)] if isinstance(each, Draft) else _attempts(each, view))
    ]
    return tuple(reversed(path)), tuple(tried)


_View = Callable[[Child, str | None], StepView]


def _drafted(draft: Draft, view: _View) -> AttemptView:
    return AttemptView(None, (), "accepted", view(draft, None))


def _attempts(step: Stepped, view: _View) -> list[AttemptView]:
    """The calls of a step, the largest model's after a course alteration included."""
    if not step.calls:  # a random transformation
        return [] if step.child is None else [AttemptView(None, (), "accepted", view(step.child, None))]
    made = [view(step.pruned, step.calls[0].model)] if step.pruned is not None else []
    kept = None if step.child is None else view(step.child, step.made_by)
    found = []
    for number, call in enumerate(step.calls):
        pruned = number == 0 and bool(made)
        child = made[0] if pruned else kept if call.model == step.made_by else None
        found.append(AttemptView(call.model, call.transformations, call.outcome, child, pruned))
    return found


def _children(tried: Stepped | Draft) -> list[Child]:
    """The programs of `_drafted` and `_attempts`, in their order."""
    if isinstance(tried, Draft):
        return [tried]
    return [child for child in (tried.pruned, tried.child) if child is not None]


def _progress(world: World[P], state: State, inquiry: Inquiry) -> Progress:
    assert state.started is not None
    calls = world.settings.sample == "call"
    latencies = [s.latency_secs for s in state.samples[: inquiry.measured] if s.latency_secs is not None]
    return Progress(
        spent=sum(stats.regular_calls for stats in inquiry.stats.values()) if calls else inquiry.measured,
        budget=world.samples,
        unit="call" if calls else "program",
        measured=inquiry.measured,
        waiting=inquiry.waiting,
        best_secs=min(latencies, default=None),
        baseline_secs=state.started.baseline_secs,
    )


def _lineage(state: State, node: Node) -> list[Node]:
    return list(islice(state.tree.path(node.id), _LINEAGE))


def _scores(world: World[P], children: Sequence[Child], step: int) -> list[float]:
    programs = [world.program(child) for child in children]
    return world.cost_model.score(programs, world.rng(step, Purpose.SCORE_LINEAGE))
