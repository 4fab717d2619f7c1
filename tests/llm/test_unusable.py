"""Models that gave no usable answer are named at the end of a run, with the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from colt_pipeline.llm.unusable import unusable_models
from colt_pipeline.records import Outcome, Reply
from colt_pipeline.runs.events import Stepped
from tests.toy import call

THOUGHTS = "<think>so many thoughts</think>"


def lines(outcomes: list[Outcome], text: str = "", finish_reason: str = "stop", detail: str = "") -> list[str]:
    calls = [*(replace(call("small", outcome=outcome), detail=detail) for outcome in outcomes), call("large")]
    reply = Reply(text, finish_reason, 1, 1, 0.0, "m", "served")
    return unusable_models([Stepped(0, 1, (each,), None, None, None, None) for each in calls], lambda *_: reply)


@pytest.mark.parametrize(
    ("outcome", "text", "finish_reason", "reason"),
    [
        ("empty", "", "stop", "were empty"),
        ("empty", THOUGHTS, "stop", "are nothing but reasoning"),
        ("empty", "", "tool_calls", "are tool calls instead of text"),
        ("truncated", THOUGHTS, "length", "were cut off within the reasoning; raise llm.max_tokens"),
        ("truncated", "{", "length", "were cut off; raise llm.max_tokens"),
        ("not_json", "hello", "stop", "hold no JSON object"),
        ("refusal", "", "content_filter", "were refused"),
        ("unknown_transformation", "{}", "stop", "name transformations that were not on offer"),
        ("bad_decision", "{}", "stop", "hold decisions that were not on offer"),
    ],
)
def test_the_reason_says_what_to_change(outcome: Outcome, text: str, finish_reason: str, reason: str) -> None:
    [line] = lines([outcome] * 3, text, finish_reason)
    assert f"all 3 answers of small were unusable: 3 {reason}" in line


def test_the_most_frequent_reason_counts() -> None:
    [line] = lines(["not_json", "transport", "transport"], detail="broken\n pipe")
    assert "all 3 answers of small were unusable: 2 never arrived, the last one because of: broken pipe" in line


@pytest.mark.parametrize("usable", ["accepted", "inapplicable", "duplicate"])
def test_a_model_with_one_usable_answer_or_a_single_call_is_not_named(usable: Outcome) -> None:
    assert not lines(["empty", usable, "empty"])
    assert not lines(["empty"])
