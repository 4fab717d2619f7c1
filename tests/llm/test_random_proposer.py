"""Random answers in place of a model's."""

import dataclasses
from collections import Counter

import pytest

from colt_pipeline.llm.random_proposer import RandomProposer, Weights
from colt_pipeline.records import Answer, Proposal, Rejection
from tests.llm.contexts import CONTEXT, WITH_SITES
from tests.toy import LARGE, SMALL

CPU = dataclasses.replace(
    CONTEXT, transformations=tuple((name, name) for name in ("TileSize", "ComputeLocation", "Unroll", "Parallel"))
)
BOTH: tuple[Weights, ...] = ("even", "tvm")


def names(weights: Weights, count: int = 400) -> list[list[str]]:
    """The names in this many answers to one question, distinguished by occurrence as in a run."""
    proposer, occurrences, drawn = RandomProposer(weights), Counter[str](), []
    for _ in range(count):
        answer = proposer.ask(SMALL, CPU, occurrences)
        occurrences[answer.key] += 1
        assert isinstance(answer.verdict, Proposal)
        drawn.append([edit.name for edit in answer.verdict.transformations])
    return drawn


def test_a_question_has_one_answer_and_other_questions_others() -> None:
    here, there = (RandomProposer("even").ask(SMALL, CPU, {}) for _ in range(2))
    assert here == there
    keys = {
        here.key,
        RandomProposer("tvm").ask(SMALL, CPU, {}).key,
        RandomProposer("even").ask(LARGE, CPU, {}).key,
        RandomProposer("even").ask(SMALL, dataclasses.replace(CPU, samples=11), {}).key,
        RandomProposer("even").ask(SMALL, dataclasses.replace(CPU, lineage=CPU.lineage[1:]), {}).key,
    }
    assert len(keys) == 5
    assert len({str(drawn) for drawn in names("even", 40)}) > 20


def test_keys_are_those_of_earlier_runs() -> None:
    keys = [RandomProposer(weights).ask(SMALL, CPU, {}).key[:12] for weights in BOTH]
    assert keys == ["496834e5509c", "2b565f68610c"]


def test_even_draws_are_even_and_weighted_ones_follow_tvm() -> None:
    even, tvm = (Counter(name for drawn in names(weights) for name in drawn) for weights in BOTH)
    for name in ("TileSize", "ComputeLocation", "Unroll", "Parallel"):
        assert even[name] / even.total() == pytest.approx(0.25, abs=0.05)
    assert tvm["TileSize"] / tvm.total() == pytest.approx(0.9, abs=0.03)
    assert tvm["ComputeLocation"] / tvm.total() == pytest.approx(0.05, abs=0.03)
    assert Counter(map(len, names("even"))).keys() == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("weights", BOTH)
@pytest.mark.parametrize("offered", [("Unroll",), ("TileSize", "Unroll", "ThreadBinding"), ()])
def test_only_what_is_offered_is_proposed_without_decision_advice_or_tokens(
    weights: Weights, offered: tuple[str, ...]
) -> None:
    context = dataclasses.replace(WITH_SITES, transformations=tuple((name, "") for name in offered))
    for occurrence in range(40):
        key = RandomProposer(weights).ask(SMALL, context, {}).key
        answer: Answer = RandomProposer(weights).ask(SMALL, context, {key: occurrence})
        assert answer.occurrence == occurrence
        assert (answer.reply.prompt_tokens, answer.reply.completion_tokens) == (0, 0)
        assert answer.reply.backend == "random"
        if offered:
            assert isinstance(answer.verdict, Proposal) and answer.verdict.next_model is answer.verdict.flaw is None
            assert {edit.name for edit in answer.verdict.transformations} <= set(offered)
            assert not any(edit.site for edit in answer.verdict.transformations)
        else:
            assert isinstance(answer.verdict, Rejection) and answer.verdict.kind == "inapplicable"
