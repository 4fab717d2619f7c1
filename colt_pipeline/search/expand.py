"""One step of the search: ask the node's model, apply, roll out, score, and alter the course if necessary."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Generic

import numpy as np

from colt_pipeline.config.schema import SearchConfig
from colt_pipeline.records import Answer, Edit, ModelSpec, PromptContext, Proposal, Rejection, Role
from colt_pipeline.runs.events import Call, Child, Planted, Stepped
from colt_pipeline.search.context import context_of, path_of, path_scores, shown_scores
from colt_pipeline.search.course_alteration import COURSE_RULES, CourseRule, NewChild
from colt_pipeline.search.routing import ROUTERS
from colt_pipeline.search.state import State
from colt_pipeline.search.tree import Node
from colt_pipeline.search.world import P, Purpose, World


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
    inquiry = state.inquiry(node, shown_scores(world, state, node, state.begun))
    scores = inquiry.scores or path_scores(world, state, node, inquiry.step)
    expansion = Expansion(world, state, node, inquiry.step, scores)
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
    scores: Sequence[float]
    """Scores of the node's program and of those above it on its path, under the current cost model. The first is
    always there, the others only if the cost model predicts."""

    @property
    def parent_score(self) -> float:
        """Score of the node's program."""
        return self.scores[0]

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
        nodes = path_of(state, self.node)
        by_small = [n.made_by is not None and n.made_by != world.largest.name for n in nodes]
        falls = [after < before for after, before in pairwise(self.scores[: len(nodes)])]
        new = NewChild(
            fell=child.score < child.parent_score,
            predicted=world.cost_model.warm or world.settings.legacy,
            earlier=[fell for fell, small in zip(falls, by_small, strict=False) if small],
            earlier_at_birth=[n.regressed for n, small in zip(nodes, by_small, strict=True) if small],
            streak=state.streak,
            rate=world.settings.course_rate,
            rng=world.rng(self.step, Purpose.COURSE),
        )
        return acting != world.largest.name and self._rule.triggers(new)

    @property
    def _rule(self) -> CourseRule:
        settings = self.world.settings
        birth = settings.legacy and settings.course_alteration == "path"
        return COURSE_RULES["path_birth" if birth else settings.course_alteration]

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
        if child is None or not self._rule.keeps_better:
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
