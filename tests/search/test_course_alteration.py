"""Course alteration for handwritten paths and streaks (paper section 3.4), and in a toy world."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pytest

from colt_pipeline.records import Edit, ModelSpec, PromptContext, Proposal, Rejection
from colt_pipeline.runs.events import Child, Planted, Stepped
from colt_pipeline.search.course_alteration import COURSE_RULES, CourseRule, NewChild
from colt_pipeline.search.expand import expand
from colt_pipeline.search.state import State
from tests.toy import LARGE, SMALL, ToyCostModel, ToyProgram, call, world


def new(
    fell: bool = True,
    predicted: bool = True,
    earlier: Sequence[bool] = (),
    earlier_at_birth: Sequence[bool] = (),
    streak: int = 0,
    rate: float = 0.0,
) -> NewChild:
    return NewChild(fell, predicted, earlier, earlier_at_birth, streak, rate, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("fell", "earlier", "path", "path_reset"),
    [
        (True, [True], True, True),  # two in a row, adjacent
        (True, [False, True], True, False),  # a rise between them
        (True, [False, False], False, False),
        (False, [True, True], False, False),  # the new child must regress
        (True, [], False, False),
    ],
)
def test_path_rules(fell: bool, earlier: list[bool], path: bool, path_reset: bool) -> None:
    for rule, expected in (("path", path), ("path_reset", path_reset)):
        assert COURSE_RULES[rule].triggers(new(fell, earlier=earlier, earlier_at_birth=[True])) is expected
    assert COURSE_RULES["path_birth"].triggers(new(fell, earlier_at_birth=earlier)) is path_reset


@pytest.mark.parametrize("rule", ["path", "path_reset", "path_birth"])
def test_without_predictions_nothing_is_a_regression(rule: str) -> None:
    assert not COURSE_RULES[rule].triggers(new(predicted=False, earlier=[True], earlier_at_birth=[True]))


def edges_seen(makers: Sequence[str | None], scores: Sequence[float], warm: bool = True) -> list[bool] | None:
    """What the rule is told of a path: its nodes' makers and present scores from the initial program on.

    Each node was a rise when it was made. None if the rule was not asked.
    """

    def score(program: ToyProgram, rng: np.random.Generator) -> float:
        return ([*scores, -1.0])[min(len(program.steps) - 1, len(scores))]

    def script(model: ModelSpec, context: PromptContext, occurrence: int) -> Proposal:
        return Proposal((Edit("Step"),), "small")

    seen: list[NewChild] = []

    def keep(child: NewChild) -> bool:
        seen.append(child)
        return False

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(COURSE_RULES, "path", CourseRule(keep))
        toy = world(script=script, score=score, rollout_length=0)
        cast(ToyCostModel, toy.cost_model).warm = warm
        state = State(toy.models, toy.settings)
        state.apply(toy.start())
        steps: tuple[int, ...] = ()
        for number, maker in enumerate(makers):
            steps = (*steps, number)
            program = ToyProgram(steps)
            made = Child(program.key, program.trace_json, "small", 0.6, 0.5, 0.6)
            if number == 0:
                state.apply(Planted((made,)))
            else:
                made_by = maker or None
                calls = () if maker is None else (call(maker),)
                state.apply(Stepped(number - 1, number, calls, made, made_by, None, None))
        expand(toy, state, state.tree.nodes[len(makers)])
    return list(seen[0].earlier) if seen else None


def test_the_edges_of_the_path_are_judged_by_the_present_cost_model() -> None:
    """Bottom up: those of small models only, whatever they were when they were made."""
    assert edges_seen([None, "small", "small"], [0.5, 0.9, 0.2]) == [True, False]
    assert edges_seen([None, "small", "large"], [0.5, 0.4, 0.2]) == [True]
    assert edges_seen([None, None, "small"], [0.5, 0.4, 0.6]) == [False]
    assert edges_seen([None], [0.5]) == []


def test_before_the_cost_model_predicts_no_edge_is_judged() -> None:
    assert edges_seen([None, "small", "small"], [0.5, 0.9, 0.2], warm=False) == []


@pytest.mark.parametrize(
    ("regressed", "streak", "expected"),
    [(True, 0, False), (True, 1, True), (True, 2, False), (True, 3, True), (False, 1, False)],
)
def test_streak_rule_fires_at_every_second_regression_wherever_it_is(
    regressed: bool, streak: int, expected: bool
) -> None:
    assert COURSE_RULES["streak"].triggers(new(regressed, streak=streak)) is expected


def test_random_rule_fires_at_its_rate_and_never_never() -> None:
    rng = np.random.default_rng(1)
    turns = [NewChild(fell, True, (), (), 1, 0.12, rng) for fell in (True, False) * 2000]
    fired = [COURSE_RULES["random"].triggers(t) for t in turns]
    assert np.mean(fired) == pytest.approx(0.12, abs=0.02)
    assert {t.fell for t, hit in zip(turns, fired, strict=True) if hit} == {True, False}  # always
    assert not any(COURSE_RULES["never"].triggers(t) for t in turns)


def step_after_a_streak(large_score: float | None, rule: str, course_rate: float = 0.0) -> Stepped:
    """One step in which the small model regresses from 1 to 0.4, after one earlier regression.

    The largest model's child has `large_score`; if None, it answers with prose.
    """

    def script(model: ModelSpec, context: PromptContext, occurrence: int) -> Proposal | Rejection:
        if model == LARGE and large_score is None:
            return Rejection("not_json", "prose")
        return Proposal((Edit("Step"),) * (1 if model == SMALL else 2), "small")

    def score(program: ToyProgram, rng: np.random.Generator) -> float:
        return {1: 1.0, 2: 0.4, 3: large_score or 0.0}[len(program.steps)]

    toy = world(script=script, score=score, rollout_length=0, course_alteration=rule, course_rate=course_rate)
    state = State(toy.models, toy.settings)
    state.apply(toy.start())
    first = ToyProgram((7,))
    state.apply(Planted((Child(first.key, first.trace_json, "small", 1.0, 1.0, 1.0),)))
    state.streak = 1
    step = expand(toy, state, state.tree.nodes[1])
    state.apply(step)
    return step


@pytest.mark.parametrize(
    ("large_score", "made_by", "score"),
    [(0.5, "large", 0.5), (0.4, "large", 0.4), (0.3, "small", 0.4), (None, "small", 0.4)],
)
def test_a_streak_keeps_the_better_child(large_score: float | None, made_by: str, score: float) -> None:
    step = step_after_a_streak(large_score, "streak")
    assert [(c.model, c.role) for c in step.calls] == [("small", "regular"), ("large", "course_alteration")]
    assert step.made_by == made_by
    assert step.child is not None and step.child.score == score
    assert (step.pruned is None) == (made_by == "small")
    assert step.retry_model is None


@pytest.mark.parametrize(("large_score", "made_by"), [(0.5, "large"), (0.3, "large"), (None, None)])
def test_other_rules_prune_the_small_models_child_whatever_comes(
    large_score: float | None, made_by: str | None
) -> None:
    step = step_after_a_streak(large_score, "random", course_rate=1.0)
    assert step.made_by == made_by
    assert step.pruned is not None and step.pruned.score == 0.4
    assert (step.child is None) == (step.retry_model is not None) == (large_score is None)


@pytest.mark.parametrize("rule", ["never", "random"])
def test_rules_that_do_not_fire_cost_no_call(rule: str) -> None:
    step = step_after_a_streak(0.9, rule)
    assert len(step.calls) == 1 and step.made_by == "small"


def test_a_streak_ends_with_a_rise_and_leaves_out_the_largest_models_calls() -> None:
    toy = world()
    state = State(toy.models, toy.settings)
    state.apply(Planted((Child("root", "[]", "small", 1.0, 1.0, 1.0),)))

    def after(model: str, score: float) -> int:
        born = len(state.known)
        child = Child(f"p{born}", "[]", "small", score, 0.5, score)
        state.apply(Stepped(state.steps, 1, (call(model),), child, model, None, None))
        return state.streak

    assert [after("small", 0.4), after("large", 0.4), after("large", 0.9), after("small", 0.4)] == [1, 1, 1, 2]
    assert [after("small", 0.6), after("small", 0.4)] == [0, 1]
