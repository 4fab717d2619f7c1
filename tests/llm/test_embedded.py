"""The stand-ins are deterministic, depend on size, and see nothing but the prompt."""

import dataclasses

import pytest

from colt_pipeline.llm.client import Question
from colt_pipeline.llm.embedded import EmbeddedClient, broken_rate, skill
from colt_pipeline.llm.parse import parse
from colt_pipeline.llm.prompt import render
from colt_pipeline.records import ModelSpec, Proposal, Rejection
from tests.llm.contexts import CONTEXT
from tests.support import printed_elsewhere

TINY = ModelSpec("tiny", "embedded", "tiny", 7.0, False)
HUGE = ModelSpec("huge", "embedded", "huge", 300.0, True)


def verdicts(model: ModelSpec, count: int) -> list[Proposal | Rejection]:
    client = EmbeddedClient()
    names, models = [n for n, _ in CONTEXT.transformations], [m.name for m in CONTEXT.models]
    return [parse(client.complete(Question(model, render(CONTEXT), {}), i), names, models) for i in range(count)]


def test_the_same_question_has_the_same_answer_in_any_process() -> None:
    code = (
        "from tests.llm.test_embedded import *;"
        "print(EmbeddedClient().complete(Question(TINY, render(CONTEXT), {}), 3).text, end='')"
    )
    expected = EmbeddedClient().complete(Question(TINY, render(CONTEXT), {}), 3).text
    for hash_seed in (1, 2):
        assert printed_elsewhere(code, hash_seed=hash_seed) == expected


def test_occurrences_differ() -> None:
    answers = {EmbeddedClient().complete(Question(TINY, render(CONTEXT), {}), i).text for i in range(20)}
    assert len(answers) > 3


@pytest.mark.parametrize(("parameters_b", "reported"), [(7, 0.172), (8, 0.105), (32, 0.0017)])
def test_broken_rates_follow_the_reported_ones(parameters_b: float, reported: float) -> None:
    assert broken_rate(parameters_b) == pytest.approx(reported, rel=0.15)


def test_a_70b_model_breaks_no_more_answers_than_reported() -> None:
    assert broken_rate(70) <= 0.0008


def test_small_models_break_answers_at_their_rate_and_large_ones_do_not() -> None:
    tiny = verdicts(TINY, 1000)
    broken = sum(isinstance(v, Rejection) for v in tiny) / len(tiny)
    assert broken == pytest.approx(broken_rate(7), abs=0.04)
    assert {v.kind for v in tiny if isinstance(v, Rejection)} == {"not_json", "unknown_transformation"}
    assert any(isinstance(v, Proposal) and v.flaw == "unknown_model" for v in tiny)
    assert all(isinstance(v, Proposal) and v.flaw is None for v in verdicts(HUGE, 200))


def test_skill_grows_with_size() -> None:
    assert skill(7) < skill(20) < skill(70) < skill(300) == 1.0


def test_a_stand_in_sees_only_the_prompt_and_says_what_it_is() -> None:
    shorter = dataclasses.replace(CONTEXT, transformations=CONTEXT.transformations[:1])
    answer = EmbeddedClient().complete(Question(HUGE, render(shorter), {}), 0)
    assert "Unroll" not in answer.text
    assert answer.backend == "embedded"
    assert answer.provider_model == "stand-in for huge"
