"""One step of the search: ask the node's model, apply, roll out, score, alter the course if need be."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from itertools import islice
from typing import Generic

import numpy as np

from colt_pipeline.records import Answer, Edit, ModelSpec, ProgramView, PromptContext, Proposal, Rejection, Role
from colt_pipeline.runs.events import Call, Child, Planted, Stepped
from colt_pipeline.search.course_alteration import COURSE_RULES, NewChild
from colt_pipeline.search.routing import ROUTERS
from colt_pipeline.search.state import State
from colt_pipeline.search.tree import Node
from colt_pipeline.search.world import P, Purpose, World

_LINEAGE = 3  # current program, parent, grandparent (paper appendix B)


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
    expansion = Expansion(world, state, node, *_context(world, state, node))
    if world.settings.first_children == "random" and node.depth == 1:
        return _mutated(expansion)
    acting, largest = next(m for m in world.models if m.name == node.model), world.largest
    attempt = expansion.ask(acting)
    calls, made_by, child, pruned = [attempt.call], acting.name, attempt.child, None
    rule = COURSE_RULES[world.settings.course_alteration]
    if child is not None and acting != largest and rule.triggers(_new_child(world, state, node, child)):
        attempt = expansion.ask(largest, "course_alteration", {child.program})
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


@dataclass(frozen=True)
class Attempt:
    """One LLM call and what became of it."""

    call: Call
    child: Child | None


@dataclass(frozen=True)
class Expansion(Generic[P]):
    """A node that is being expanded: one question, put to one model or, after a course alteration, to two."""

    world: World[P]
    state: State
    node: Node
    context: PromptContext
    """What every model is told."""
    parent_score: float
    """Of the node's program, under the cost model of the moment."""

    def ask(self, model: ModelSpec, role: Role = "regular", taken: Set[str] = frozenset()) -> Attempt:
        """One call: answer -> child program -> rollout -> scores; `taken`: see `grow`."""
        answer = self.world.proposer.ask(model, self.context, self.state.occurrences)
        verdict = answer.verdict
        grown = verdict if isinstance(verdict, Rejection) else self.grow(verdict, role, taken)
        return Attempt(self._call(model, role, answer, grown), grown if isinstance(grown, Child) else None)

    def grow(self, proposal: Proposal, role: Role = "regular", taken: Set[str] = frozenset()) -> Child | Rejection:
        """Apply `proposal`, keep the best of the draws by score, roll it out, and give it a model.

        `taken`: keys of programs that count as duplicates besides those that the search knows.
        """
        assert self.node.record is not None
        world, settings = self.world, self.world.settings
        drawn = world.space.apply(
            world.program(self.node.record),
            proposal.transformations,
            self._rng(Purpose.APPLY, role),
            settings.apply_attempts,
            {*self.state.known, *taken}.__contains__,
            settings.draws_per_proposal,
        )
        if isinstance(drawn, Rejection):
            return drawn
        program = drawn[0]
        if len(drawn) > 1:
            scores = world.cost_model.score(drawn, self._rng(Purpose.CHOOSE, role))
            program = drawn[scores.index(max(scores))]
        # Noise is the same for every program, so until the model is warm nobody looks at where a rollout ends.
        terminal = self._rolled_out(program, role) if world.cost_model.warm else program
        score, reward = world.cost_model.score([program, terminal], self._rng(Purpose.SCORE, role))
        route = ROUTERS[settings.router]
        model = route(world.models, self.state, proposal.next_model, self._rng(Purpose.ROUTE, role))
        return Child(program.key, program.trace_json, model, score, self.parent_score, reward)

    def _rolled_out(self, program: P, role: Role) -> P:
        settings, rng = self.world.settings, self._rng(Purpose.ROLLOUT, role)
        return self.world.space.rollout(
            program, settings.rollout_length, rng, settings.apply_attempts, settings.rollout
        )

    def _call(self, model: ModelSpec, role: Role, answer: Answer, grown: Child | Rejection) -> Call:
        rejection = grown if isinstance(grown, Rejection) else None
        proposal = answer.verdict if isinstance(answer.verdict, Proposal) else None
        return Call(
            model=model.name,
            role=role,
            key=answer.key,
            occurrence=answer.occurrence,
            outcome=rejection.kind if rejection else "accepted",
            detail=rejection.detail if rejection else "",
            transformations=tuple(map(str, proposal.transformations)) if proposal else (),
            next_model=proposal.next_model if proposal else None,
            flaw=proposal.flaw if proposal else None,
            prompt_tokens=answer.reply.prompt_tokens,
            completion_tokens=answer.reply.completion_tokens,
            hit=isinstance(grown, Child) and grown.score > self.parent_score,
        )

    def _rng(self, purpose: Purpose, role: Role) -> np.random.Generator:
        return self.world.rng(self.state.steps, purpose, int(role == "course_alteration"))


def _new_child(world: World[P], state: State, node: Node, child: Child) -> NewChild:
    return NewChild(
        regressed=child.score < child.parent_score,
        ancestors=state.tree.path(node.id),
        largest=world.largest.name,
        streak=state.streak,
        rate=world.settings.course_rate,
        rng=world.rng(state.steps, Purpose.COURSE),
    )


def _mutated(expansion: Expansion[P]) -> Stepped:
    """A step without a call: one random transformation."""
    world, state, node = expansion.world, expansion.state, expansion.node
    offered, child = expansion.context.transformations, None
    if offered:
        name, _ = offered[int(world.rng(state.steps, Purpose.CHOOSE).integers(len(offered)))]
        grown = expansion.grow(Proposal((Edit(name),), None))
        child = None if isinstance(grown, Rejection) else grown
    return Stepped(state.steps, node.id, (), child, None, None, None if child else node.model)


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
        samples=min(len(state.samples) + len(state.pending), world.samples),
        budget=world.samples,
        models=tuple(known[m.name].view(m.name, m.parameters_b) for m in world.models),
        largest=world.largest.name,
    )
    return context, scores[0]
