"""One step of the search: ask the node's model, apply, roll out, score, alter the course if need be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from colt_pipeline.records import Edit, ModelSpec, ProgramView, PromptContext, Proposal, Rejection
from colt_pipeline.runs.events import Call, Child, Planted, Stepped
from colt_pipeline.search.course_alteration import COURSE_RULES, Turn
from colt_pipeline.search.routing import ROUTERS
from colt_pipeline.search.state import State
from colt_pipeline.search.tree import Node
from colt_pipeline.search.world import P, Purpose, World

_LINEAGE = 3  # current program, parent, grandparent (paper appendix B)


@dataclass(frozen=True)
class _Attempt:
    """One LLM call and what became of it."""

    call: Call
    child: Child | None


def plant(world: World[P], state: State) -> Planted:
    """Sample the initial programs, later one more: the best by predicted score of as many new ones.

    Each gets a model by a uniform draw, for nothing is known of any yet.
    """
    rng = world.rng(state.plantings, Purpose.PLANT)
    programs = [p for p in world.space.initial(world.settings.initial_programs, rng) if p.key not in state.known]
    scores = world.cost_model.score(programs, rng) if programs else []
    models = [world.models[int(i)].name for i in rng.integers(len(world.models), size=len(programs))]
    children = [
        Child(p.key, p.trace_json, model, score, parent_score=score, reward=score)
        for p, model, score in zip(programs, models, scores, strict=True)
    ]
    if state.plantings:
        children = sorted(children, key=lambda child: -child.score)[:1]
    return Planted(tuple(children))


def expand(world: World[P], state: State, node: Node) -> Stepped:
    """Expand `node` by its model; where the course is altered, the largest model answers in its place."""
    settings, largest = world.settings, world.largest
    acting = next(m for m in world.models if m.name == node.model)
    if settings.first_children == "random" and node.depth == 1:
        return _mutated(world, state, node)
    context, parent_score = _context(world, state, node)
    attempt = _ask(world, state, node, acting, "regular", context, parent_score)
    calls, made_by, child, pruned = [attempt.call], acting.name, attempt.child, None
    rule = COURSE_RULES[settings.course_alteration]
    if child is not None and acting != largest and rule.triggers(_turn(world, state, node, child)):
        attempt = _ask(world, state, node, largest, "course_alteration", context, parent_score, (child.program,))
        calls.append(attempt.call)
        if not rule.keeps_better or (attempt.child is not None and attempt.child.score >= child.score):
            made_by, child, pruned = largest.name, attempt.child, child
    return Stepped(
        step=state.steps,
        parent=node.id,
        calls=tuple(calls),
        child=child,
        made_by=made_by if child else None,
        pruned=pruned,
        retry_model=None if child else _another(world, state, acting),
    )


def _turn(world: World[P], state: State, node: Node, child: Child) -> Turn:
    return Turn(
        regressed=child.score < child.parent_score,
        ancestors=state.tree.path(node.id),
        largest=world.largest.name,
        streak=state.streak,
        rate=world.settings.course_rate,
        rng=world.rng(state.steps, Purpose.COURSE),
    )


def _mutated(world: World[P], state: State, node: Node) -> Stepped:
    """A step without a call: one random transformation."""
    assert node.record is not None
    program = world.program(node.record)
    [parent_score] = world.cost_model.score([program], world.rng(state.steps, Purpose.SCORE_LINEAGE))
    offered, rng = world.space.applicable(program), world.rng(state.steps, Purpose.CHOOSE)
    child = None
    if offered:
        edit = Edit(offered[int(rng.integers(len(offered)))].name)
        grown = _grow(world, state, node, Proposal((edit,), None), parent_score)
        child = None if isinstance(grown, Rejection) else grown
    return Stepped(state.steps, node.id, (), child, None, None, None if child else node.model)


def _ask(
    world: World[P],
    state: State,
    node: Node,
    model: ModelSpec,
    role: str,
    context: PromptContext,
    parent_score: float,
    pruned: tuple[str, ...] = (),
) -> _Attempt:
    """One call: answer -> child program -> rollout -> scores. `pruned`: the program that was just taken away."""
    answer = world.proposer.ask(model, context, state.occurrences)
    verdict, child = answer.verdict, None
    proposal = None if isinstance(verdict, Rejection) else verdict
    if proposal is not None:
        grown = _grow(world, state, node, proposal, parent_score, int(role != "regular"), pruned)
        if isinstance(grown, Rejection):
            verdict = grown
        else:
            child = grown
    call = Call(
        model=model.name,
        role=role,
        key=answer.key,
        occurrence=answer.occurrence,
        outcome=verdict.kind if isinstance(verdict, Rejection) else "accepted",
        detail=verdict.detail if isinstance(verdict, Rejection) else "",
        transformations=tuple(map(str, proposal.transformations)) if proposal else (),
        next_model=proposal.next_model if proposal else None,
        flaw=proposal.flaw if proposal else None,
        prompt_tokens=answer.reply.prompt_tokens,
        completion_tokens=answer.reply.completion_tokens,
        hit=child is not None and child.score > parent_score,
    )
    return _Attempt(call, child)


def _grow(
    world: World[P],
    state: State,
    node: Node,
    proposal: Proposal,
    parent_score: float,
    altered: int = 0,
    pruned: tuple[str, ...] = (),
) -> Child | Rejection:
    """Apply `proposal`, keep the best of the draws by score, roll it out, and give it a model."""
    assert node.record is not None
    settings = world.settings
    drawn = world.space.apply(
        world.program(node.record),
        proposal.transformations,
        world.rng(state.steps, Purpose.APPLY, altered),
        settings.apply_attempts,
        {*state.known, *pruned}.__contains__,
        settings.draws_per_proposal,
    )
    if isinstance(drawn, Rejection):
        return drawn
    program = drawn[0]
    if len(drawn) > 1:
        scores = world.cost_model.score(drawn, world.rng(state.steps, Purpose.CHOOSE, altered))
        program = drawn[scores.index(max(scores))]
    terminal = world.space.rollout(
        program,
        settings.rollout_length,
        world.rng(state.steps, Purpose.ROLLOUT, altered),
        settings.apply_attempts,
        settings.rollout == "exhaustive",
    )
    score, reward = world.cost_model.score([program, terminal], world.rng(state.steps, Purpose.SCORE, altered))
    route = ROUTERS[settings.router]
    model = route(world.models, state, proposal.next_model, world.rng(state.steps, Purpose.ROUTE, altered))
    return Child(program.key, program.trace_json, model, score, parent_score, reward)


def _another(world: World[P], state: State, acting: ModelSpec) -> str:
    """After a failed expansion another model gets the node: a uniform draw, the same model if it is the only one."""
    others = [m.name for m in world.models if m.name != acting.name] or [acting.name]
    return others[int(world.rng(state.steps, Purpose.RETRY).integers(len(others)))]


def _context(world: World[P], state: State, node: Node) -> tuple[PromptContext, float]:
    """What any model is told about `node`, and the node's score under the present cost model."""
    assert node.record is not None and state.started is not None
    nodes = list(islice(state.tree.path(node.id), _LINEAGE))
    programs = [world.program(n.record) for n in nodes if n.record is not None]
    scores = world.cost_model.score(programs, world.rng(state.steps, Purpose.SCORE_LINEAGE))
    expanders = [node.model, *(n.made_by for n in nodes)]
    lineage = [
        ProgramView(p.code, p.history, score, model)
        for p, score, model in zip(programs, scores, expanders, strict=False)
    ]
    if len(programs) < len(nodes):
        lineage.append(ProgramView(world.space.base_code, (), None, None))
    known = state.known_stats
    context = PromptContext(
        target=world.target,
        lineage=tuple(lineage),
        transformations=tuple((t.name, t.description) for t in world.space.applicable(programs[0])),
        sites=world.space.sites(programs[0]) if world.settings.decisions else (),
        hardware=world.hardware,
        depth=node.depth,
        samples=min(len(state.samples) + len(state.pending), world.budget),
        budget=world.budget,
        models=tuple(known[m.name].view(m.name, m.parameters_b) for m in world.models),
        largest=world.largest.name,
    )
    return context, scores[0]
