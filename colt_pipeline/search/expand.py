"""One step of the search: ask the node's model, apply, roll out, score, alter the course if need be."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from colt_pipeline.events import Call, Child, Planted, Stepped
from colt_pipeline.records import ModelSpec, ProgramView, PromptContext, Rejection
from colt_pipeline.search.course import regresses_persistently
from colt_pipeline.search.state import State
from colt_pipeline.search.tree import Node
from colt_pipeline.search.world import P, Purpose, World

_LINEAGE = 3  # current program, parent, grandparent (paper appendix B)


@dataclass(frozen=True)
class _Attempt:
    """One LLM call and what became of it."""

    call: Call
    child: Child | None


def plant(world: World[P]) -> Planted:
    """Sample the initial programs; each gets a model by a uniform draw, for nothing is known of any yet."""
    rng = world.rng(0, Purpose.PLANT)
    programs = world.space.initial(world.settings.initial_programs, rng)
    scores = world.cost_model.score(programs, rng)
    models = [world.models[int(i)].name for i in rng.integers(len(world.models), size=len(programs))]
    return Planted(
        tuple(
            Child(p.key, p.trace_json, model, score, parent_score=score, reward=score)
            for p, model, score in zip(programs, models, scores, strict=True)
        )
    )


def expand(world: World[P], state: State, node: Node) -> Stepped:
    """Expand `node` by its model; on persistent regression prune the child and let the largest model answer."""
    models = {m.name: m for m in world.models}
    acting, largest = models[node.model or ""], world.largest
    context, parent_score = _context(world, state, node)
    attempt = _ask(world, state, node, acting, "regular", context, parent_score)
    calls, made_by, pruned = [attempt.call], acting.name, None
    regressed = attempt.child is not None and attempt.child.score < parent_score
    if world.settings.course_alteration and regresses_persistently(
        regressed, state.tree.path(node.id), acting.name, largest.name
    ):
        pruned, made_by = attempt.child, largest.name
        taken_away = (attempt.child.program,) if attempt.child else ()
        attempt = _ask(world, state, node, largest, "course_alteration", context, parent_score, taken_away)
        calls.append(attempt.call)
    return Stepped(
        step=state.steps,
        parent=node.id,
        calls=tuple(calls),
        child=attempt.child,
        made_by=made_by if attempt.child else None,
        pruned=pruned,
        retry_model=None if attempt.child else _another(world, state, acting),
    )


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
        assert node.record is not None
        altered = int(role != "regular")
        grown = world.space.apply(
            world.program(node.record),
            proposal.transformations,
            world.rng(state.steps, Purpose.APPLY, altered),
            world.settings.apply_attempts,
            {*state.known, *pruned}.__contains__,
        )
        if isinstance(grown, Rejection):
            verdict = grown
        else:
            child = _child(world, state, grown, proposal.next_model, parent_score, altered)
    call = Call(
        model=model.name,
        role=role,
        key=answer.key,
        occurrence=answer.occurrence,
        outcome=verdict.kind if isinstance(verdict, Rejection) else "accepted",
        detail=verdict.detail if isinstance(verdict, Rejection) else "",
        transformations=proposal.transformations if proposal else (),
        next_model=proposal.next_model if proposal else None,
        flaw=proposal.flaw if proposal else None,
        prompt_tokens=answer.reply.prompt_tokens,
        completion_tokens=answer.reply.completion_tokens,
        hit=child is not None and child.score > parent_score,
    )
    return _Attempt(call, child)


def _child(
    world: World[P], state: State, program: P, next_model: str | None, parent_score: float, altered: int
) -> Child:
    """Roll `program` out, score it and the terminal program, and give it the advised model (or a uniform draw)."""
    settings = world.settings
    terminal = world.space.rollout(
        program, settings.rollout_length, world.rng(state.steps, Purpose.ROLLOUT, altered), settings.apply_attempts
    )
    score, reward = world.cost_model.score([program, terminal], world.rng(state.steps, Purpose.SCORE, altered))
    if next_model is None:
        choice = world.rng(state.steps, Purpose.ROUTE, altered).integers(len(world.models))
        next_model = world.models[int(choice)].name
    return Child(program.key, program.trace_json, next_model, score, parent_score, reward)


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
    context = PromptContext(
        target=world.target,
        lineage=tuple(lineage),
        transformations=tuple((t.name, t.description) for t in world.space.applicable(programs[0])),
        depth=node.depth,
        samples=len(state.samples) + len(state.pending),
        budget=world.budget,
        models=tuple(state.stats[m.name].view(m.name, m.parameters_b) for m in world.models),
        largest=world.largest.name,
    )
    return context, scores[0]
