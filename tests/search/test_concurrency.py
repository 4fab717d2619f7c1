"""Concurrent calls: the journal depends on the answers alone, and nothing is asked in vain or lost."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from colt_pipeline.errors import ProviderError
from colt_pipeline.records import ModelSpec, PromptContext, Rejection
from colt_pipeline.runs.events import (
    Chosen,
    Deferred,
    Event,
    Finished,
    Measured,
    Sample,
    Stepped,
    with_calls,
)
from colt_pipeline.runs.journal import Journal
from colt_pipeline.search.in_flight import InFlight
from colt_pipeline.search.loop import search
from colt_pipeline.search.state import State
from colt_pipeline.search.world import World
from tests.toy import (
    LARGE,
    SMALL,
    ToyEvaluator,
    ToyPosed,
    ToyPosing,
    ToyProgram,
    ToySpace,
    events_of,
    falling,
    play,
    settings,
    world,
)

MIDDLE = ModelSpec("middle", "embedded", "middle", 32.0, False)
COLT: dict[str, Any] = {"name": "colt", "draws_per_proposal": 2, "candidates": 7, "models": (LARGE, MIDDLE, SMALL)}
SEARCHES: dict[str, dict[str, Any]] = {
    "paper": {"score": falling(0.5), "rollout_length": 1},
    "colt": {**COLT, "one_fails_in": 5, "score": falling(0.4)},
    "few programs": {**COLT, "space": ToySpace(alphabet=3), "score": falling(0.5)},
    "official_code": {"name": "official_code", "score": falling(0.5), "lambda_": 0.3},
    "noise": {"score": lambda program, rng: float(rng.uniform())},
}
"""Arguments of `toy.world`."""


class Learning:
    """A cost model whose scores change with every measurement."""

    warm = True

    def __init__(self) -> None:
        self.learned: list[str] = []

    def score(self, programs: Any, rng: Any) -> list[float]:
        return [(p.steps[-1] * (1 + len(self.learned)) % 1009) / 1009 for p in programs]

    def update(self, programs: Any, samples: Any) -> None:
        self.learned.extend(p.key for p in programs)


def posing(toy: World[ToyProgram]) -> ToyPosing:
    assert isinstance(toy.proposer, ToyPosing)
    return toy.proposer


def concurrent(most: int = 8, arrive: Any = lambda posed: None, **arguments: Any) -> World[ToyProgram]:
    """A toy world with so many calls at the same time; `arrive` returns when an answer arrives."""
    toy = world(**{"samples": 20, **arguments})
    proposer = ToyPosing(toy.proposer.script, arrive=arrive)  # type: ignore[attr-defined]
    return dataclasses.replace(toy, proposer=proposer, in_flight=InFlight(proposer, most))


def learning(most: int = 8, **arguments: Any) -> World[ToyProgram]:
    return dataclasses.replace(concurrent(most, **arguments), cost_model=Learning())


E = TypeVar("E", bound=Event)


def of_kind(events: list[Event], kind: type[E]) -> list[E]:
    return [event for event in events if isinstance(event, kind)]


def shuffled(seed: int) -> Any:
    """Answers arrive in another order for every seed, none before four are awaited."""

    def arrive(posed: ToyPosed) -> None:
        while posed.proposer.most_in_flight < 4:
            time.sleep(0.001)
        time.sleep(int(posed.key[:6], 16) * (seed + 1) % 7 / 2000)

    return arrive


@pytest.mark.parametrize("name", SEARCHES)
def test_the_journal_is_the_same_in_whatever_order_answers_arrive(name: str, tmp_path: Path) -> None:
    journals = set()
    for seed in range(3):
        path = tmp_path / f"{seed}.jsonl"
        toy = concurrent(arrive=shuffled(seed), **SEARCHES[name])
        play(toy, path)
        journals.add(path.read_bytes())
        assert posing(toy).most_in_flight >= 4
    assert len(journals) == 1


@pytest.mark.parametrize("name", SEARCHES)
def test_killed_after_any_event_it_goes_on_with_the_same_questions(name: str, tmp_path: Path) -> None:
    whole = learning(**SEARCHES[name])
    play(whole, tmp_path / "whole.jsonl")
    lines = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
    asked = set(posing(whole).asked)
    for number in range(1, len(lines)):
        path = tmp_path / f"{number}.jsonl"
        path.write_bytes(b"".join(lines[:number]))
        resumed = learning(**SEARCHES[name])
        play(resumed, path, stop_after=10)  # by then all that was awaited has been applied
        assert path.read_bytes() == b"".join(lines[: number + 10]), number
        assert set(posing(resumed).asked) <= asked


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("most", [2, 8, 30])
def test_every_answer_is_used_and_every_program_is_measured_once(name: str, most: int, tmp_path: Path) -> None:
    # A program that is sampled after the last question takes the place of one that is asked for.
    toy = concurrent(most, **SEARCHES[name], widening=0.0)
    state = play(toy, tmp_path / "events.jsonl")
    events = events_of(tmp_path / "events.jsonl")
    calls = [call for step in of_kind(events, Stepped) for call in step.calls]
    assert sorted((c.key, c.occurrence) for c in calls) == sorted(posing(toy).arrived)
    assert len({(c.key, c.occurrence) for c in calls}) == len(calls)
    assert posing(toy).most_in_flight <= most
    assert len({sample.program for sample in state.samples}) == len(state.samples)
    assert not state.awaited and all(node.awaited_below == 0 for node in state.tree.nodes)
    assert sorted(step.step for step in of_kind(events, Stepped)) == list(range(state.steps))


def test_equal_questions_are_numbered_in_the_order_of_choice(tmp_path: Path) -> None:
    # One initial program, so that its model is asked the same several times at once.
    alone = concurrent(initial_programs=1, branching=8, max_failures=9, widening=0.0, score=lambda program, rng: 0.5)
    play(alone, tmp_path / "events.jsonl")
    events = events_of(tmp_path / "events.jsonl")
    first = [call for step in of_kind(events, Stepped)[:8] for call in step.calls if step.parent == 1]
    by_key = Counter(call.key for call in first)
    assert max(by_key.values()) > 2
    for key in by_key:
        assert [c.occurrence for c in first if c.key == key] == list(range(by_key[key]))


def test_calls_one_after_another_leave_no_trace_of_concurrency(tmp_path: Path) -> None:
    play(world(**SEARCHES["colt"]), tmp_path / "alone.jsonl")
    kinds = {type(event) for event in events_of(tmp_path / "alone.jsonl")}
    assert Stepped in kinds and not kinds & {Chosen, Deferred}


def test_awaited_answers_count_as_visits_without_reward_so_choices_spread(tmp_path: Path) -> None:
    toy = concurrent(4, initial_programs=4, score=lambda program, rng: 0.5, samples=8, lambda_=0.0)
    state = play(toy, tmp_path / "events.jsonl", stop_after=7)
    chosen = [event.node for event in of_kind(events_of(tmp_path / "events.jsonl"), Chosen)]
    assert sorted(chosen) == [1, 2, 3, 4], "equal programs, so one call for each rather than all for the first"
    assert [state.tree.nodes[n].awaited_below for n in (0, 1, 2, 3, 4)] == [4, 1, 1, 1, 1]
    assert all(node.visits == (4 if node.id == 0 else 1) for node in state.tree.nodes)


def test_calls_are_in_flight_while_a_batch_is_measured(tmp_path: Path) -> None:
    play(concurrent(**SEARCHES["colt"]), tmp_path / "events.jsonl")
    awaited, at_batches = 0, []
    for event in events_of(tmp_path / "events.jsonl"):
        awaited += isinstance(event, Chosen) - isinstance(event, Stepped)
        if isinstance(event, Measured):
            at_batches.append(awaited)
    assert set(at_batches[:-1]) == {7} and at_batches[-1] == 0


def test_nothing_is_in_flight_during_measurements_that_it_would_disturb(tmp_path: Path) -> None:
    toy, under_way = concurrent(arrive=shuffled(0), **SEARCHES["colt"]), []
    proposer = posing(toy)

    class Watching(ToyEvaluator):
        def measure(self, programs: Sequence[ToyProgram]) -> list[Sample]:
            under_way.append(proposer.in_flight)
            return super().measure(programs)

    quiet = dataclasses.replace(toy, evaluator=Watching(), in_flight=InFlight(proposer, 8, disturbs=True))
    play(quiet, tmp_path / "quiet.jsonl")
    assert under_way == [0] * 5
    play(concurrent(**{**SEARCHES["colt"], "one_fails_in": 0}), tmp_path / "events.jsonl")
    assert (tmp_path / "quiet.jsonl").read_bytes() == (tmp_path / "events.jsonl").read_bytes()


def test_a_course_alteration_takes_its_turn_and_ends_the_step_that_it_belongs_to(tmp_path: Path) -> None:
    play(concurrent(**SEARCHES["paper"], samples=40), tmp_path / "events.jsonl")
    events = events_of(tmp_path / "events.jsonl")
    altered = [step for step in of_kind(events, Stepped) if len(step.calls) == 2]
    assert len(altered) == len(of_kind(events, Deferred)) > 1
    for event in of_kind(events, Deferred):
        [step] = [s for s in altered if s.pruned == event.child]
        assert step.calls[0] == event.call and step.calls[1].model == "large"
        between = events[events.index(event) + 1 : events.index(step)]
        assert all(isinstance(e, Chosen | Stepped | Measured | Deferred) for e in between)
    waited = [events.index(s) - events.index(e) for e, s in zip(of_kind(events, Deferred), altered, strict=True)]
    assert max(waited) > 2, "others are applied meanwhile"


def test_streaks_and_counts_follow_the_order_of_calls(tmp_path: Path) -> None:
    """As without concurrency: every second of consecutive regressions, in the order in which answers are applied."""
    toy = concurrent(**SEARCHES["official_code"], samples=120)
    state = State(toy.models, toy.settings)
    journal = Journal(tmp_path / "events.jsonl")
    streak, alterations = 0, 0
    events: list[Event] = []
    for event in search(toy, journal, state):
        events.append(event)
        for call in [calls for _, calls in with_calls(events)][-1]:
            assert isinstance(event, Deferred | Stepped)
            child = event.child if isinstance(event, Deferred) else event.pruned or event.child
            if call.role != "regular" or call.model == "large" or child is None:
                continue
            regressed = child.score < child.parent_score
            assert isinstance(event, Deferred) == (regressed and streak % 2 == 1)
            streak = streak + 1 if regressed else 0
            alterations += isinstance(event, Deferred)
        assert state.streak == streak
        counted = sum(len(calls) for _, calls in with_calls(events))
        assert counted == sum(each.regular_calls + each.course_alterations for each in state.stats.values())
        assert counted == state.occurrences.total()
    journal.close()
    assert alterations > 1


def test_a_node_never_gets_more_children_or_failures_than_it_may(tmp_path: Path) -> None:
    broken = concurrent(script=lambda model, context, occurrence: Rejection("not_json", "prose"))
    state = play(broken, tmp_path / "broken.jsonl")
    assert state.finished == "exhausted"
    assert state.steps == broken.settings.initial_programs * broken.settings.max_failures
    grown = play(concurrent(**SEARCHES["paper"]), tmp_path / "grown.jsonl")
    assert max(len(node.children) for node in grown.tree.nodes[1:]) == settings().branching


def test_an_error_ends_the_run_where_its_answer_was_due_and_answers_that_are_under_way_are_awaited(
    tmp_path: Path,
) -> None:
    def arrive(posed: ToyPosed) -> None:
        if len(sent := posed.proposer.sent_before) < 20:  # type: ignore[attr-defined]
            sent.append(posed.key)
            return
        raise ProviderError("no credit left")

    toy = concurrent(arrive=arrive, **SEARCHES["colt"])
    posing(toy).sent_before = []  # type: ignore[attr-defined]
    assert toy.in_flight is not None
    journal = Journal(tmp_path / "events.jsonl")
    with pytest.raises(ProviderError, match="no credit left"), toy.in_flight:
        for _ in search(toy, journal, State(toy.models, toy.settings)):
            pass
    journal.close()
    assert posing(toy).in_flight == 0
    steps = of_kind(events_of(tmp_path / "events.jsonl"), Stepped)
    used = {(call.key, call.occurrence) for step in steps for call in step.calls}
    assert len(used) >= 12 and used <= set(posing(toy).arrived)
    whole = concurrent(**SEARCHES["colt"])
    play(whole, tmp_path / "whole.jsonl")
    play(concurrent(**SEARCHES["colt"]), tmp_path / "events.jsonl")
    assert (tmp_path / "events.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_an_interrupt_does_not_wait_for_answers(tmp_path: Path) -> None:
    release: list[bool] = []

    def arrive(posed: ToyPosed) -> None:
        while not release:
            time.sleep(0.001)

    toy = concurrent(arrive=arrive)
    assert toy.in_flight is not None
    journal, state = Journal(tmp_path / "events.jsonl"), State(toy.models, toy.settings)
    with pytest.raises(KeyboardInterrupt), toy.in_flight:
        for event in search(toy, journal, state):
            if isinstance(event, Chosen) and len(state.awaited) == 4:
                toy.in_flight.send((99, "regular"), SMALL, some_context(toy, state), {})
                raise KeyboardInterrupt
    assert posing(toy).arrived == []
    release.append(True)
    journal.close()


def some_context(toy: World[ToyProgram], state: State) -> PromptContext:
    from colt_pipeline.search.context import context_of

    return context_of(toy, state, state.awaited[0])


def test_kernels_that_share_statistics_await_nothing_between_their_turns(tmp_path: Path) -> None:
    toy = concurrent(**SEARCHES["colt"])
    state, journal = State(toy.models, toy.settings), Journal(tmp_path / "events.jsonl")
    peers = [state, State(toy.models, toy.settings)]
    shared = State(toy.models, toy.settings, peers)
    most = 0
    for event in search(toy, journal, shared):
        most = max(most, len(shared.awaited))
        assert not (isinstance(event, Measured | Finished) and shared.awaited)
    journal.close()
    assert shared.finished == "budget" and most > 4
