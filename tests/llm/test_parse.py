"""Untrusted answers: every verdict is typed, nothing is guessed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colt_pipeline.llm.parse import parse
from colt_pipeline.records import REJECTIONS, Edit, Proposal, Rejection, Reply

NAMES = ["TileSize", "ComputeLocation", "Unroll", "Parallel"]
MODELS = ["gpt-5.2", "gpt-5-mini", "qwen3-8b"]
GOOD = '{"transformations": ["TileSize", "Unroll"], "next_model": "gpt-5-mini"}'


def reply(text: str, finish_reason: str = "stop") -> Reply:
    return Reply(text, finish_reason, 0, 0, 0.0, "m", "embedded")


def verdict(text: str, finish_reason: str = "stop") -> Proposal | Rejection:
    return parse(reply(text, finish_reason), NAMES, MODELS)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"```json\n{GOOD}\n```",
        f"Sure! Here is my answer:\n{GOOD}\nGood luck.",
        f'<think>do not use Unroll, use {{"transformations": ["Parallel"]}}</think>\n{GOOD}',
        f"I first thought so, but no.</think>{GOOD}",
        f'{GOOD}\n{{"transformations": ["Parallel"], "next_model": "gpt-5.2"}}',
        '{"transformations": ["tilesize", " UNROLL "], "next_model": "GPT-5-Mini"}',
        f"Braces {{like these}} first. {GOOD}",
    ],
)
def test_answers_with_one_clear_meaning(text: str) -> None:
    assert verdict(text) == Proposal((Edit("TileSize"), Edit("Unroll")), "gpt-5-mini")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("<think>TileSize it is", "empty"),
        ("TileSize, then Unroll.", "not_json"),
        ('{"transformations": ["TileSize"', "not_json"),
        ('["TileSize"]', "not_json"),
        ('{"options": [{"transformations": ["Unroll"], "next_model": "gpt-5.2"}], "transformations": ["Ti', "not_json"),
        ("{" * 100_000, "not_json"),
        ('{"mutators": ["TileSize"], "next_model": "gpt-5.2"}', "not_json"),
        ('{"transformations": [], "next_model": "gpt-5.2"}', "not_json"),
        ('{"transformations": "TileSize", "next_model": "gpt-5.2"}', "not_json"),
        ('{"transformations": ["Tile"], "next_model": "gpt-5.2"}', "unknown_transformation"),
        ('{"transformations": ["TileSize", 7], "next_model": "gpt-5.2"}', "unknown_transformation"),
        ('{"transformations": [["TileSize"]], "next_model": "gpt-5.2"}', "unknown_transformation"),
        ('{"transformations": ["ThreadBinding"], "next_model": "gpt-5.2"}', "unknown_transformation"),
    ],
)
def test_bad_answers_have_their_kind(text: str, kind: str) -> None:
    found = verdict(text)
    assert isinstance(found, Rejection)
    assert found.kind == kind
    assert kind in REJECTIONS


@pytest.mark.parametrize("name", ["gpt-4", "gpt-5", "Qwen3-32B", "qwen3", "", None, 3, ["gpt-5.2"]])
def test_a_model_that_was_not_offered_is_never_mapped_to_one_that_was(name: object) -> None:
    found = verdict(json.dumps({"transformations": ["Unroll"], "next_model": name}))
    assert found == Proposal((Edit("Unroll"),), None, flaw="unknown_model")


def test_a_cut_off_answer_is_truncated_and_a_filtered_one_a_refusal() -> None:
    cut = verdict('{"transformations": ["TileSi', "length")
    filtered = verdict("", "content_filter")
    assert isinstance(cut, Rejection) and cut.kind == "truncated"
    assert isinstance(filtered, Rejection) and filtered.kind == "refusal"


def test_a_model_alone_needs_no_advice() -> None:
    assert parse(reply('{"transformations": ["Unroll"]}'), NAMES, ["gpt-5.2"]) == Proposal((Edit("Unroll"),), "gpt-5.2")


def test_a_sequence_without_end_is_cut() -> None:
    found = verdict(json.dumps({"transformations": ["Unroll"] * 500, "next_model": "gpt-5.2"}))
    assert isinstance(found, Proposal)
    assert found.transformations == (Edit("Unroll"),) * 16


@given(st.text(max_size=300))
def test_any_text_has_a_verdict_from_what_was_offered(text: str) -> None:
    found = verdict(text)
    if isinstance(found, Proposal):
        assert {edit.name for edit in found.transformations} <= set(NAMES)
    else:
        assert found.kind in REJECTIONS and len(found.detail) < 500


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_has_a_verdict(value: object) -> None:
    found = verdict(json.dumps({"transformations": value, "next_model": value}))
    assert isinstance(found, (Proposal, Rejection))
