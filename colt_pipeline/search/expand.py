"""One step of the search: ask the node's model, apply, roll out, score, and alter the course if necessary."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from itertools import islice
from typing import Generic

import numpy as np

from colt_pipeline.config.schema import SearchConfig
from colt_pipeline.records import Answer, Edit, ModelSpec, ProgramView, PromptContext, Proposal, Rejection, Role
from colt_pipeline.runs.events import Call, Child, Planted, Stepped
from colt_pipeline.search.course_alteration import COURSE_RULES, NewChild
from colt_pipeline.search.routing import ROUTERS
from colt_pipeline.search.state import Inquiry, State
from colt_pipeline.search.tree import Node
from colt_pipeline.search.world import P, Purpose, World

_LINEAGE = 3  # current program, parent, grandparent (paper appendix B)


def plant(world: World[P], state: State) -> Planted:
    """Sample the initial programs; on later calls, one more: the best by predicted score of as many new samples.

    Programs of earlier runs take the first places. Each program gets a uniformly drawn model, because nothing is known
    about any model yet.
    """
    rng = world.rng(state.plantings, Purpose.PLANT)
    count = world.settings.initial_programs
    taken = {} if state.plantings else {p.key: p for p in map(world.program, world.start_from[:count])}
    sampled = [p for p in world.space.initial(count, rng) if p.key not in state.known and p.key not in taken]
    programs = [*taken.values(), *sampled][:count]
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
    """Expand `node` with its model; if the course is altered, the largest model answers in its place."""
    inquiry = state.inquiry(node, lineage_scores(world, state, node, state.begun))
    expansion = Expansion(world, state, node, inquiry.step, inquiry.scores[0])
    context = context_of(world, state, inquiry)
    if draws_at_random(world.settings, node):
        return _mutated(expansion, context)
    first = expansion.ask(world.model(inquiry.model), context)
    if first.child is None or not expansion.alters_course(first.call.model, first.child):
        return expansion.ended(first)
    return expansion.ended(first, expansion.ask(world.largest, context, "course_alteration", {first.child.program}))


def draws_at_random(settings: SearchConfig, node: Node) -> bool:
    """Whether this node is expanded without a call."""
    return settings.first_children == "random" and node.depth == 1


@dataclass(frozen=True)
class Attempt:
    """One LLM call and what became of it."""

    call: Call
    child: Child | None


@dataclass(frozen=True)
class Expansion(Generic[P]):
    """A node being expanded: one question, put to one model or, after a course alteration, to two."""

    world: World[P]
    state: State
    node: Node
    step: int
    parent_score: float
    """Score of the node's program under the current cost model."""

    def ask(
        self, model: ModelSpec, context: PromptContext, role: Role = "regular", taken: Set[str] = frozenset()
    ) -> Attempt:
        """Make one call and `take` its answer."""
        return self.take(model, self.world.proposer.ask(model, context, self.state.occurrences), role, taken)

    def take(self, model: ModelSpec, answer: Answer, role: Role = "regular", taken: Set[str] = frozenset()) -> Attempt:
        """Answer -> child program -> rollout -> scores; for `taken` see `grow`."""
        verdict = answer.verdict
        grown = verdict if isinstance(verdict, Rejection) else self.grow(verdict, role, taken)
        return Attempt(self._call(model, role, answer, grown), grown if isinstance(grown, Child) else None)

    def alters_course(self, acting: str, child: Child) -> bool:
        """Whether this child of the `acting` model makes the largest one answer in its place."""
        world, state = self.world, self.state
        new = NewChild(
            regressed=child.score < child.parent_score,
            ancestors=state.tree.path(self.node.id),
            largest=world.largest.name,
            streak=state.streak,
            rate=world.settings.course_rate,
            rng=world.rng(self.step, Purpose.COURSE),
        )
        return acting != world.largest.name and COURSE_RULES[world.settings.course_alteration].triggers(new)

    def ended(self, first: Attempt, second: Attempt | None = None) -> Stepped:
        """The step as it ends, if need be after the largest model's attempt."""
        acting, child, pruned = first.call.model, first.child, None
        made_by, calls = acting, [first.call]
        if second is not None:
            calls.append(second.call)
            if not self._keeps(first.child, second.child):
                made_by, child, pruned = second.call.model, second.child, first.child
        return Stepped(
            step=self.step,
            parent=self.node.id,
            calls=tuple(calls),
            child=child,
            made_by=made_by if child else None,
            pruned=pruned,
            retry_model=None if child else self._another(acting),
        )

    def _keeps(self, child: Child | None, others: Child | None) -> bool:
        """Whether the small model's child stays although the course was altered."""
        if child is None or not COURSE_RULES[self.world.settings.course_alteration].keeps_better:
            return False
        if others is None:
            return True
        score = child.score
        if child.parent_score != self.parent_score:  # the cost model has learned since
            [score] = self.world.cost_model.score([self.world.program(child)], self._rng(Purpose.RESCORE, "regular"))
        return others.score < score

    def _another(self, acting: str) -> str:
        """The model to expand a node after a failure: a uniform draw from the others, or the same if it is alone."""
        others = [m.name for m in self.world.models if m.name != acting] or [acting]
        return others[int(self.world.rng(self.step, Purpose.RETRY).integers(len(others)))]

    def grow(self, proposal: Proposal, role: Role = "regular", taken: Set[str] = frozenset()) -> Child | Rejection:
        """Apply `proposal`, keep the best-scoring draw, roll it out, and assign it a model.

        Args:
            proposal: what to apply.
            role: what the call is for.
            taken: keys of programs that count as duplicates in addition to those the search knows.
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
        # Until the model is warm, the score is noise whatever the program, so no rollout is needed.
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
        return self.world.rng(self.step, purpose, int(role == "course_alteration"))


def _mutated(expansion: Expansion[P], context: PromptContext) -> Stepped:
    """A step without a call: one random transformation."""
    world, node, step = expansion.world, expansion.node, expansion.step
    offered, child = context.transformations, None
    if offered:
        name, _ = offered[int(world.rng(step, Purpose.CHOOSE).integers(len(offered)))]
        grown = expansion.grow(Proposal((Edit(name),), None))
        child = None if isinstance(grown, Rejection) else grown
    return Stepped(step, node.id, (), child, None, None, None if child else node.model)


def lineage_scores(world: World[P], state: State, node: Node, step: int) -> list[float]:
    """Scores of the node's program and its ancestors that a prompt shows, under the current cost model."""
    programs = [world.program(n.record) for n in _lineage(state, node) if n.record is not None]
    return world.cost_model.score(programs, world.rng(step, Purpose.SCORE_LINEAGE))


def context_of(world: World[P], state: State, inquiry: Inquiry) -> PromptContext:
    """What any model is told for this step."""
    assert state.started is not None
    node = state.tree.nodes[inquiry.node]
    nodes = _lineage(state, node)
    programs = [world.program(n.record) for n in nodes if n.record is not None]
    expanders = [inquiry.model, *(n.made_by for n in nodes)]
    lineage = [
        ProgramView(p.code, p.history, score, model)
        for p, score, model in zip(programs, inquiry.scores, expanders, strict=False)
    ]
    if len(programs) < len(nodes):
        lineage.append(ProgramView(world.space.base_code, (), None, None))
    known = state.with_peers(inquiry.stats)
    return PromptContext(
        target=world.target,
        lineage=tuple(lineage),
        transformations=tuple((t.name, t.description) for t in world.space.applicable(programs[0])),
        sites=world.space.sites(programs[0]) if world.settings.decisions else (),
        hardware=world.hardware,
        depth=node.depth,
        samples=min(inquiry.samples, world.samples),
        budget=world.samples,
        models=tuple(known[m.name].view(m.name, m.parameters_b) for m in world.models),
        largest=world.largest.name,
    )


def _lineage(state: State, node: Node) -> list[Node]:
    return list(islice(state.tree.path(node.id), _LINEAGE))
