"""A sample of the paper is a regular call: what a budget of calls buys, and how its results are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from colt_pipeline.records import Edit, ModelSpec, PromptContext, Proposal, Rejection
from colt_pipeline.runs.events import Measured, Planted, Stepped, spent
from colt_pipeline.search.loop import tree_policy
from colt_pipeline.search.outcome import SPAN, curve, summary, turns
from colt_pipeline.search.state import State
from colt_pipeline.search.world import World
from tests.search.test_concurrency import concurrent, posing
from tests.toy import LARGE, SMALL, ToyProgram, events_of, falling, play, world

CALLS = 20


def fails_every_third(model: ModelSpec, context: PromptContext, occurrence: int) -> Proposal | Rejection:
    assert context.progress is not None
    if context.progress.spent % 3 == 2:
        return Rejection("not_json", "prose")
    return Proposal((Edit("Step"),), "small")


@pytest.fixture
def played(tmp_path: Path) -> tuple[State, Path]:
    toy = world(CALLS, script=fails_every_third, score=falling(0.6), sample="call", rollout_length=0)
    return play(toy, tmp_path / "events.jsonl"), tmp_path / "events.jsonl"


def test_every_regular_call_spends_a_sample_whatever_comes_of_it(played: tuple[State, Path]) -> None:
    state, path = played
    steps = [event for event in events_of(path) if isinstance(event, Stepped)]
    assert state.finished == "budget" and state.spent == len(steps) == CALLS
    assert any(step.child is None for step in steps), "a failed call is a sample, too"
    assert any(len(step.calls) == 2 for step in steps), "an alteration is none"
    assert sum(stats.regular_calls for stats in state.stats.values()) == CALLS
    assert spent(events_of(path), True) == CALLS and spent(events_of(path), False) == len(state.samples)


def test_all_programs_are_measured_in_the_end_initial_ones_included(played: tuple[State, Path]) -> None:
    state, path = played
    planted = [child for event in events_of(path) if isinstance(event, Planted) for child in event.children]
    kept = [event.child for event in events_of(path) if isinstance(event, Stepped) and event.child is not None]
    assert {sample.program for sample in state.samples} == {child.program for child in (*planted, *kept)}
    assert not state.pending
    batches = [len(event.samples) for event in events_of(path) if isinstance(event, Measured)]
    assert set(batches[:-1]) == {4} and 0 < batches[-1] <= 4


def test_a_curve_has_a_row_per_call_and_begins_with_the_initial_programs(played: tuple[State, Path]) -> None:
    state, path = played
    rows = curve(state)
    assert [row["sample"] for row in rows] == list(range(1, CALLS + 1))
    (planted,) = [event for event in events_of(path) if isinstance(event, Planted)]
    latencies = {sample.program: sample.latency_secs for sample in state.samples}
    initial = min(latencies[child.program] or 9.0 for child in planted.children)
    steps = [event for event in events_of(path) if isinstance(event, Stepped)]
    best = initial
    for step, row in zip(steps, rows, strict=True):
        assert row["latency_secs"] == (None if step.child is None else latencies[step.child.program])
        best = min(best, row["latency_secs"] or 9.0)
        assert row["best_secs"] == best
    assert best == state.best_secs
    told = summary(state, (LARGE, SMALL), "large", 1, {})
    assert (told["sample_unit"], told["samples"], told["programs"]) == ("call", CALLS, len(state.samples))
    assert told["initial_secs"] == initial
    number = told["best_sample"]
    assert rows[number - 1]["latency_secs"] == state.best_secs if number else initial == state.best_secs


def test_turns_are_counted_in_spans_of_calls(played: tuple[State, Path]) -> None:
    _, path = played
    rows = turns(events_of(path), counts_calls=True)
    assert [row["sample"] for row in rows] == list(range(0, CALLS, SPAN))
    regular = [row["small"] + row.get("large", 0) for row in rows]
    assert regular == [8, 8, 4]


@pytest.mark.parametrize("most", [3, 8])
def test_concurrent_calls_spend_no_more_than_the_budget(most: int, tmp_path: Path) -> None:
    toy = concurrent(most, samples=CALLS, score=falling(0.6), sample="call", widening=0.0)
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "budget" and state.spent == CALLS and not state.awaited
    made = sum(stats.regular_calls + stats.course_alterations for stats in state.stats.values())
    assert len(posing(toy).arrived) == made


def test_killed_after_any_event_a_search_by_calls_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    def toy() -> World[ToyProgram]:
        return world(CALLS, script=fails_every_third, score=falling(0.6), sample="call", rollout_length=0)

    play(toy(), tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    for number in range(1, len(lines), 3):
        (tmp_path / "cut.jsonl").write_bytes(b"".join(lines[:number]))
        play(toy(), tmp_path / "cut.jsonl")
        assert (tmp_path / "cut.jsonl").read_bytes() == b"".join(lines)


@pytest.mark.parametrize(("models", "weight"), [((LARGE, SMALL), 0.5), ((SMALL,), 0.0)])
def test_one_model_is_not_preferred_to_itself(models: tuple[ModelSpec, ...], weight: float, tmp_path: Path) -> None:
    """Alone, a node scores its whole mean reward: the weight of the preference would only make c larger."""
    toy = world(8, models=models, c=0.0, lambda_=0.5, score=lambda program, rng: 0.8, rollout_length=0)
    state = play(toy, tmp_path / "events.jsonl")
    node = next(n for n in state.tree.nodes if n.model == SMALL.name)
    phi = 1.0 if len(models) == 2 else 0.0
    expected = (1 - weight) * 0.8 + weight * phi
    assert tree_policy(toy, state)(node, state.tree.root) == pytest.approx(expected)


def test_bare_names_for_which_nothing_was_drawn_are_not_the_models_error(tmp_path: Path) -> None:
    toy = world(6, script=lambda m, c, o: Proposal((Edit("Step"),), "small"), sample="call")
    nothing = Rejection("inapplicable", "finds nothing to change")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(toy.space), "apply", lambda *_: nothing)
        state = play(toy, tmp_path / "events.jsonl")
    made = [stats for stats in state.stats.values() if stats.regular_calls]
    assert sum(stats.rejections["inapplicable"] for stats in made) == 6
    assert all(stats.errors == 0 for stats in made)
