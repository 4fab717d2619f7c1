"""One call as the search sees it: the configuration determines the question, and the question its key."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest

from colt_pipeline.config.schema import PromptConfig
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.llm.client import Question
from colt_pipeline.llm.prompt import render
from colt_pipeline.llm.proposer import Proposer
from colt_pipeline.llm.schema import answer_schema
from colt_pipeline.records import Edit, ModelSpec, Proposal, Rejection
from colt_pipeline.runs.stopwatch import Stopwatch
from tests.llm.contexts import WITH_SITES as CONTEXT
from tests.toy import ToyClient

MODEL = ModelSpec("qwen3-8b", "embedded", "qwen3-8b", 8.0, False)
SAMPLING: Mapping[str, float] = {"temperature": 0.7}
GOOD = '{"transformations": ["unroll"], "next_model": "GPT-5.2"}'


Make = Callable[..., Proposer]


@pytest.fixture
def proposer(tmp_path: Path) -> Iterator[Make]:
    """Proposers with separate recordings, closed at the end."""
    with ExitStack() as stack:

        def make(client: ToyClient, code: str = "full", order: str = "listed", seed: int = 0) -> Proposer:
            path = tmp_path / f"{code}-{order}-{seed}.jsonl"
            cassette = stack.enter_context(closing(Cassette(path, lambda provider: client, Stopwatch())))
            return Proposer(cassette, SAMPLING, PromptConfig(code, order, "changes"), seed)

        yield make


def test_by_default_the_question_is_that_of_the_recordings(proposer: Make) -> None:
    client = ToyClient(GOOD)
    answer = proposer(client).ask(MODEL, CONTEXT, {})
    assert answer.key == Question(MODEL, render(CONTEXT), SAMPLING).key
    assert answer.verdict == Proposal((Edit("Unroll"),), "gpt-5.2")
    assert client.questions[0].answer_schema is None


def test_the_schema_goes_only_to_models_that_take_one(proposer: Make) -> None:
    client = ToyClient(GOOD)
    there = proposer(client)
    free = there.ask(MODEL, CONTEXT, {})
    bound = there.ask(replace(MODEL, json_schema=True), CONTEXT, {})
    assert [q.answer_schema for q in client.questions] == [None, answer_schema(CONTEXT)]
    assert bound.key != free.key and bound.verdict == free.verdict


def test_a_seeded_order_is_in_the_question_and_its_key_and_not_in_the_verdict(proposer: Make) -> None:
    model = replace(MODEL, json_schema=True)
    context = replace(CONTEXT, transformations=tuple((name, "words") for name in ("Unroll", *"abcdefg")))
    here, other = (proposer(ToyClient(GOOD), order="seeded", seed=seed) for seed in (0, 1))
    question = here.question(model, context)
    assert question.key == here.question(model, context).key != other.question(model, context).key
    assert question.key != Question(model, render(context), SAMPLING, answer_schema(context)).key
    assert question.answer_schema is not None
    shown = question.answer_schema["properties"]["transformations"]["items"]["anyOf"][0]["enum"]
    assert f"Available transformations: {', '.join(shown)}\n" in question.messages[1]["content"]
    assert here.ask(model, context, {}).verdict == other.ask(model, context, {}).verdict


def test_a_compact_prompt_is_asked_where_configured(proposer: Make) -> None:
    client = ToyClient(GOOD)
    proposer(client, code="compact").ask(MODEL, CONTEXT, {})
    assert list(client.questions[0].messages) == render(CONTEXT, "compact") != render(CONTEXT)


@pytest.mark.parametrize(
    ("text", "finish_reason", "kind"),
    [("no answer within 60 s", "transport", "transport"), ("no JSON", "stop", "not_json")],
)
def test_what_cannot_be_used_is_a_rejection(proposer: Make, text: str, finish_reason: str, kind: str) -> None:
    answer = proposer(ToyClient(text, finish_reason)).ask(MODEL, CONTEXT, {})
    assert isinstance(answer.verdict, Rejection) and answer.verdict.kind == kind
    assert answer.reply.text == text
