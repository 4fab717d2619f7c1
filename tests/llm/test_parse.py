"""Untrusted answers: every verdict is typed, nothing is guessed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colt_pipeline.llm.parse import parse
from colt_pipeline.records import REJECTIONS, Edit, Proposal, Rejection, Reply, Site
from tests.support import ROOT

NAMES = ["TileSize", "ComputeLocation", "Unroll", "Parallel"]
MODELS = ["gpt-5.2", "gpt-5-mini", "qwen3-8b"]
GOOD = '{"transformations": ["TileSize", "Unroll"], "next_model": "gpt-5-mini"}'

K = Site("TileSize", "matmul.k", (16, 8), extent=128, innermost=64)
TWIN = Site("TileSize", "matmul.k#2", (4, 2), extent=8, innermost=64)
UNROLL = Site("Unroll", "unroll", (16,), choices=(0, 16, 64))
SITES = (K, TWIN, UNROLL)


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
        f'{{"transformations": ["Parallel"], "next_model": "gpt-5.2"}}\n{GOOD}',
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


tokens = ["{", "}", "[", "]", '"', ":", ",", "\\", "<think>", "</think>", "NaN", "1", "-", "\ud800", "\0", *NAMES]


@given(st.lists(st.sampled_from([*tokens, '"transformations"', '"next_model"', '"matmul.k"', GOOD])).map("".join))
def test_any_heap_of_the_right_words_has_a_verdict(text: str) -> None:
    found = parse(reply(text), NAMES, MODELS, SITES)
    assert isinstance(found, Proposal) or found.kind in REJECTIONS


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_has_a_verdict(value: object) -> None:
    found = verdict(json.dumps({"transformations": value, "next_model": value}))
    assert isinstance(found, (Proposal, Rejection))


def decided(*entries: object, sites: tuple[Site, ...] = SITES) -> Proposal | Rejection:
    return parse(reply(json.dumps({"transformations": entries, "next_model": "qwen3-8b"})), NAMES, MODELS, sites)


@pytest.mark.parametrize(
    ("entry", "edit"),
    [
        ({"name": "TileSize", "site": "matmul.k", "decision": [4, 32]}, Edit("TileSize", K, (4, 32))),
        ({"name": "TileSize", "site": "matmul.k#2", "decision": [1, 8]}, Edit("TileSize", TWIN, (1, 8))),
        ({"name": " unroll ", "site": "unroll", "decision": 0}, Edit("Unroll", UNROLL, (0,))),
        ({"name": "Unroll", "site": "unroll", "decision": [64]}, Edit("Unroll", UNROLL, (64,))),
        ({"name": "TileSize"}, Edit("TileSize")),
        ({"name": "Parallel", "why": "two cores"}, Edit("Parallel")),
        ("TileSize", Edit("TileSize")),
    ],
)
def test_entries_name_a_site_and_a_decision_or_leave_both_open(entry: object, edit: Edit) -> None:
    assert decided(entry, "Parallel") == Proposal((edit, Edit("Parallel")), "qwen3-8b")


@pytest.mark.parametrize(
    ("entry", "detail"),
    [
        ({"name": "TileSize", "site": "matmul.q", "decision": [4, 32]}, "is not one of matmul.k, matmul.k#2"),
        ({"name": "TileSize", "site": "MATMUL.K", "decision": [4, 32]}, "is not one of"),  # labels are exact
        ({"name": "TileSize", "site": "unroll", "decision": [4, 32]}, "is not one of matmul.k"),  # of another
        ({"name": "Parallel", "site": "parallel", "decision": 4}, "is not one of none"),
        ({"name": "TileSize", "site": "matmul.k", "decision": [4, 16]}, "must multiply to 128"),
        ({"name": "TileSize", "site": "matmul.k", "decision": [1, 128]}, "must end with at most 64"),
        ({"name": "TileSize", "site": "matmul.k", "decision": [2, 2, 32]}, "must be 2 factors"),
        ({"name": "TileSize", "site": "matmul.k", "decision": [0, 128]}, "must multiply to 128"),
        ({"name": "TileSize", "site": "matmul.k", "decision": []}, "must be whole numbers"),
        ({"name": "TileSize", "site": "matmul.k", "decision": [4.0, 32.0]}, "must be whole numbers"),
        ({"name": "TileSize", "site": "matmul.k", "decision": ["4", "32"]}, "must be whole numbers"),
        ({"name": "TileSize", "site": "matmul.k", "decision": [[4], 32]}, "must be whole numbers"),
        ({"name": "TileSize", "site": "matmul.k", "decision": [True, 128]}, "must be whole numbers"),
        ({"name": "Unroll", "site": "unroll", "decision": False}, "must be whole numbers"),  # 0 is a choice
        ({"name": "Unroll", "site": "unroll", "decision": None}, "must be whole numbers"),
        ({"name": "Unroll", "site": "unroll"}, "must be whole numbers"),
        ({"name": "Unroll", "site": "unroll", "decision": 32}, "must be one of 0, 16, 64"),
        ({"name": "Unroll", "decision": 64}, "is not one of unroll"),  # a decision without a site
        ({"name": "Unroll", "site": ["unroll"], "decision": 64}, "is not one of unroll"),
    ],
)
def test_a_bad_decision_is_refused_and_explained(entry: object, detail: str) -> None:
    found = decided(entry)
    assert isinstance(found, Rejection)
    assert found.kind == "bad_decision" and detail in found.detail and len(found.detail) < 500


@pytest.mark.parametrize("entry", [{"name": "Tile", "site": "matmul.k", "decision": [4, 32]}, {"site": "unroll"}, {}])
def test_an_entry_without_a_known_name_is_no_transformation(entry: object) -> None:
    found = decided(entry)
    assert isinstance(found, Rejection) and found.kind == "unknown_transformation"


def test_one_bad_entry_spoils_the_answer() -> None:
    good = {"name": "TileSize", "site": "matmul.k", "decision": [4, 32]}
    found = decided(good, "Unroll", {"name": "TileSize", "site": "matmul.k#2", "decision": [3, 3]})
    assert isinstance(found, Rejection) and found.kind == "bad_decision"


def test_sites_mean_nothing_where_none_are_offered() -> None:
    found = decided({"name": "TileSize", "site": "matmul.k", "decision": [4, 32]}, sites=())
    assert isinstance(found, Rejection) and found.kind == "unknown_transformation"


def test_good_decisions_with_a_bad_next_model_stay() -> None:
    entry = {"name": "Unroll", "site": "unroll", "decision": 64}
    text = json.dumps({"transformations": [entry], "next_model": "gpt-4"})
    expected = Proposal((Edit("Unroll", UNROLL, (64,)),), None, flaw="unknown_model")
    assert parse(reply(text), NAMES, MODELS, SITES) == expected


numbers = st.none() | st.booleans() | st.integers(-2, 200) | st.floats(allow_nan=False) | st.text(max_size=3)


@given(
    st.dictionaries(
        st.sampled_from(["name", "site", "decision", "x"]),
        st.sampled_from([*NAMES, "matmul.k", "unroll"]) | numbers | st.lists(numbers, max_size=3),
    )
)
def test_whatever_is_accepted_is_within_the_bounds_of_an_offered_site(entry: dict[str, object]) -> None:
    found = decided(entry)
    if isinstance(found, Rejection):
        assert found.kind in ("unknown_transformation", "bad_decision")
    else:
        [edit] = found.transformations
        assert edit.name in NAMES
        assert edit.site is None or (edit.site in SITES and edit.site.violation(edit.decision) is None)


BAD = [json.loads(line) for line in (ROOT / "tests/data/bad_answers.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", BAD, ids=[case["name"] for case in BAD])
def test_bad_answers_as_they_come(case: dict[str, Any]) -> None:
    """Includes texts of up to 60 MB: a parser that takes more than linear time would not finish."""
    text = case["text"] * case.get("repeat", 1)
    found = parse(reply(text, case["finish_reason"]), NAMES, MODELS, SITES)
    if isinstance(found, Rejection):
        shown: dict[str, Any] = {"kind": found.kind}
        assert found.kind in REJECTIONS and len(found.detail) < 500
    else:
        edits = [str(edit) for edit in found.transformations]
        shown = {"transformations": edits, "next_model": found.next_model, "flaw": found.flaw}
    assert shown == case["verdict"]


@pytest.mark.parametrize("depth", [500, 1500, 100_000])
def test_an_answer_after_something_nested_deeply_is_found(depth: int) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    assert verdict(deep + GOOD) == verdict(GOOD)


def test_of_a_very_long_text_both_ends_are_read() -> None:
    filler = "I would tile the reduction loop. " * 100_000
    assert verdict(f"{filler}{GOOD}") == verdict(GOOD)
    assert verdict(f"<think>{filler}</think>{GOOD}") == verdict(GOOD)
    open_still = verdict(f"<think>{filler}{GOOD}")
    assert isinstance(open_still, Rejection) and open_still.kind == "empty"


def test_a_failed_call_keeps_its_reason() -> None:
    assert verdict("Timeout", "transport") == Rejection("transport", "Timeout")


def test_an_entry_too_deep_to_be_shown_is_rejected_all_the_same() -> None:
    for depth in range(100, 2000, 50):  # in this range, reading and then writing reach the interpreter's limit
        deep = "[" * depth + "]" * depth
        found = parse(reply(f'{{"transformations": [{deep}]}}'), NAMES, MODELS, SITES)
        assert isinstance(found, Rejection) and found.kind in ("unknown_transformation", "not_json")


edits = st.one_of(
    st.sampled_from(NAMES).map(Edit),
    st.sampled_from([(2, 64), (4, 32), (128, 1)]).map(lambda factors: Edit("TileSize", K, factors)),
    st.sampled_from(UNROLL.choices).map(lambda n: Edit("Unroll", UNROLL, (n,))),
)


def written(chosen: list[Edit], model: str) -> str:
    """An answer that proposes this."""
    entries = [
        {"name": e.name, "site": e.site.label, "decision": json.loads(e.site.shown(e.decision))} if e.site else e.name
        for e in chosen
    ]
    return json.dumps({"transformations": entries, "next_model": model})


@given(st.lists(edits, min_size=1, max_size=16), st.sampled_from(MODELS))
def test_what_was_offered_comes_back_as_proposed(chosen: list[Edit], model: str) -> None:
    assert parse(reply(written(chosen, model)), NAMES, MODELS, SITES) == Proposal(tuple(chosen), model)


@given(st.text().filter(lambda t: not {"{", "<"} & set(t)), st.text().filter(lambda t: "</" not in t))
def test_text_around_an_object_changes_nothing(before: str, after: str) -> None:
    assert verdict(before + GOOD + after) == verdict(GOOD)


factors = st.sampled_from([-1, 0, 1, 2, 3, 4, 8, 16, 32, 64, 128])


@given(st.lists(factors, max_size=3) | factors)
def test_a_decision_is_accepted_exactly_within_its_bounds(decision: list[int] | int) -> None:
    numbers = tuple(decision) if isinstance(decision, list) else (decision,)
    for site in SITES:
        found = decided({"name": site.transformation, "site": site.label, "decision": decision})
        within = bool(numbers) and site.violation(numbers) is None
        assert (found == Proposal((Edit(site.transformation, site, numbers),), "qwen3-8b")) == within
