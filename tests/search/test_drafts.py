"""Programs that enter the tree without a call."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colt_pipeline.config.schema import DraftsConfig
from colt_pipeline.errors import RecordingError
from colt_pipeline.records import DraftSource, ModelSpec, PromptContext, Rejection
from colt_pipeline.runs.events import Child, Draft, Drafted, Measured, Planted, Sample, Stepped
from colt_pipeline.search.batch import choose_batch
from colt_pipeline.search.drafts import draft
from colt_pipeline.search.state import State
from colt_pipeline.search.tree import ROOT
from colt_pipeline.search.world import World
from tests.toy import ToyCostModel, ToyDrafts, ToyEvaluator, ToyProgram, ToySpace, child, events_of, play, world

SETTINGS = DraftsConfig(generations=2, designs=4, sketches=40, draws=10, elites=3, optimism=0.5)


def by_last_number(program: ToyProgram, rng: np.random.Generator) -> float:
    return program.steps[-1] / 1_000_000


def drafting(**changes: object) -> World[ToyProgram]:
    given = {"samples": 24, "score": by_last_number, "candidates": 4, "branching": 4, "drafts": SETTINGS, **changes}
    return world(**given)  # type: ignore[arg-type]


def as_draft(record: Child, parent: int, source: DraftSource = "mutation") -> Draft:
    return Draft(**vars(record), parent=parent, source=source)


def planted(toy: World[ToyProgram]) -> State:
    state = State(toy.models, toy.settings)
    state.apply(Planted((child(50, score=0.5), child(30, score=0.3))))
    return state


def test_the_best_of_many_draws_enter_below_what_they_were_drawn_from() -> None:
    toy = drafting()
    state = planted(toy)
    event = draft(toy, SETTINGS, state)
    assert len(event.children) == toy.settings.batch_size
    for source in ("design", "mutation", "crossover"):
        scores = [each.score for each in event.children if each.source == source]
        assert scores == sorted(scores, reverse=True)
        assert source == "design" or min(scores) > 0.9, "of 80 sketches the best"
    for each in event.children:
        steps = ToyProgram(tuple(int(n) for n in each.trace.strip("[]").split(","))).steps
        if each.source == "design":
            assert each.parent == ROOT and steps[0] == 9
        else:
            above = state.tree.nodes[each.parent].record
            shared = (9,) if above is None else tuple(int(n) for n in above.trace.strip("[]").split(","))
            assert steps[: len(shared)] == shared
    assert {each.source for each in event.children} - {"design"}


def test_invalid_and_known_programs_are_no_drafts() -> None:
    toy = drafting()
    state = planted(toy)
    for _ in range(5):
        event = draft(toy, SETTINGS, state)
        assert all(int(each.trace.strip("[]").split(",")[-1]) % 7 or each.source == "design" for each in event.children)
        assert not {each.program for each in event.children} & state.known
        state.apply(event)
    assert len(state.known) == 2 + 5 * toy.settings.batch_size


def test_draws_do_not_end_at_known_programs() -> None:
    """The most promising sketches are known: the next ones take their places, as long as there are any."""
    toy = drafting(samples=100, space=ToySpace(alphabet=40))
    state = planted(toy)
    made = set()
    for number in range(12):
        event = draft(toy, replace(SETTINGS, designs=0), state)
        assert len(event.children) == toy.settings.batch_size, number
        made |= {each.program for each in event.children}
        state.apply(event)
    assert len(made) == 12 * toy.settings.batch_size


def test_a_search_ends_only_after_several_drafts_found_nothing(tmp_path: Path) -> None:
    drawn: list[int] = []

    class Counting(ToySpace):
        def designs(self, count: int, rng: np.random.Generator) -> list[ToyProgram]:
            drawn.append(count)
            return super().designs(count, rng)

    def silent(model: ModelSpec, context: PromptContext, occurrence: int) -> Rejection:
        return Rejection("not_json", "prose")

    settings = replace(SETTINGS, sketches=0, designs=1, generations=1)
    toy = drafting(samples=1000, drafts=settings, space=Counting(alphabet=3), script=silent)
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "exhausted" and isinstance(toy.evaluator, ToyEvaluator)
    found = [program for program in toy.evaluator.measured if program in {ToyProgram((9, n)).key for n in range(3)}]
    assert len(found) >= 1 and len(drawn) >= 8 + len(found)


def test_drafts_take_no_places_of_a_node_and_are_backed_up() -> None:
    toy = drafting(branching=2)
    state = planted(toy)
    for number in range(3):
        state.apply(Drafted((as_draft(child(50, number, reward=0.25), 1),)))
    node = state.tree.nodes[1]
    assert state.tree.expandable(node) and len(node.children) == 3
    assert node.visits == 4 and node.value == pytest.approx(0.5 + 3 * 0.25)
    for number in (7, 8):
        state.apply(Stepped(state.steps, 1, (), child(50, number), None, None, None))
    assert not state.tree.expandable(node)


def test_a_batch_is_shared_by_who_found_improvements() -> None:
    """Calls found all of them: (4 + 1) / (4 + 2) against (0 + 1) / (5 + 2) for drafts, so of eight seven."""
    toy = drafting(candidates=1, batch_size=8)
    state = planted(toy)
    state.apply(Measured((Sample(child(50).program, 10.0, None),)))
    asked = [child(50, n) for n in range(12)]
    drafted = [child(30, n) for n in range(12)]
    for record in asked:
        state.apply(Stepped(state.steps, 1, (), record, None, None, None))
    state.apply(Drafted(tuple(as_draft(record, 2) for record in drafted)))
    first = [Sample(record.program, 1.0 - 0.1 * n, None) for n, record in enumerate(asked[:4])]
    second = [Sample(record.program, 20.0, None) for record in drafted[:4]]
    state.apply(Measured((*first, *second)))
    assert state.improved == Counter(call=4) and state.tried == Counter(design=1, call=4, mutation=4)
    of_calls = {record.program for record in asked}
    chosen = choose_batch(toy, state, 8)
    assert sum(each.program in of_calls for each in chosen) == 7
    assert [each.trace for each in chosen if each.program in of_calls][:3] == ["[50, 11]", "[50, 10]", "[50, 9]"]


def test_kinds_of_drafts_share_their_places_by_who_found_improvements() -> None:
    """Crossovers found improvements three times of three, (3 + 1) / (3 + 2); the others were not tried, 1 / 2 each."""
    toy = drafting(candidates=1, batch_size=8)
    state = planted(toy)
    state.apply(Measured((Sample(child(50).program, 10.0, None),)))
    kinds: tuple[DraftSource, ...] = ("design", "mutation", "crossover")
    drafted = [as_draft(child(30, n), 2, kinds[n % 3]) for n in range(30)]
    state.apply(Drafted(tuple(drafted)))
    crossed = [each for each in drafted if each.source == "crossover"][:3]
    state.apply(
        Measured(tuple(Sample(each.program, secs, None) for each, secs in zip(crossed, (3, 2, 1), strict=True)))
    )
    assert state.improved["crossover"] == 3
    found = Counter(state.sources[each.program] for each in choose_batch(toy, state, 8))
    assert found == {"crossover": 4, "design": 2, "mutation": 2}


def test_whoever_beats_all_before_its_batch_has_improved_whatever_the_order() -> None:
    for order in (1, -1):
        state = planted(drafting())
        state.apply(Drafted((as_draft(child(30, 0), 2, "mutation"), as_draft(child(30, 1), 2, "crossover"))))
        state.apply(Measured((Sample(child(50).program, 1.0, None),)))
        assert not state.improved.total(), "the first batch has nothing to improve on"
        state.apply(Measured(tuple(Sample(child(30, n).program, 0.9 - 0.1 * n, None) for n in (0, 1))[::order]))
        assert state.improved == Counter(mutation=1, crossover=1)


def test_an_unscored_model_drafts_nothing(tmp_path: Path) -> None:
    toy = drafting()
    assert isinstance(toy.cost_model, ToyCostModel)
    toy.cost_model.warm = False
    play(toy, tmp_path / "events.jsonl")
    assert not [event for event in events_of(tmp_path / "events.jsonl") if isinstance(event, Drafted)]


def test_each_batch_is_drafted_for_once_and_every_program_is_measured_once(tmp_path: Path) -> None:
    toy = drafting()
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "budget"
    events = events_of(tmp_path / "events.jsonl")
    kinds = [event.kind for event in events if isinstance(event, (Drafted, Measured))]
    assert kinds == ["drafted", "measured"] * 6
    assert isinstance(toy.evaluator, ToyEvaluator)
    assert len(set(toy.evaluator.measured)) == len(toy.evaluator.measured) == 24


def test_killed_anywhere_a_search_with_drafts_resumes_identically(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    play(drafting(samples=12), whole)
    for stop in range(1, len(whole.read_bytes().splitlines())):
        path = tmp_path / f"{stop}.jsonl"
        record = ToyDrafts()  # it holds what was drawn before the kill; the rest is drawn by another process
        play(replace(drafting(samples=12), drafts=record), path, stop_after=stop)
        play(replace(drafting(samples=12), drafts=record), path)
        assert path.read_bytes() == whole.read_bytes()


def test_a_replay_takes_its_drafts_from_the_record(tmp_path: Path) -> None:
    toy = drafting(samples=12)
    play(toy, tmp_path / "live.jsonl")

    class Barren(type(toy.space)):  # type: ignore[misc]
        def draws(self, *asked: object) -> list[Any]:
            raise AssertionError("a replay draws nothing")

        designs = sketches = make = draws

    play(replace(drafting(samples=12), drafts=toy.drafts, space=Barren()), tmp_path / "replay.jsonl")
    assert (tmp_path / "replay.jsonl").read_bytes() == (tmp_path / "live.jsonl").read_bytes()


@pytest.mark.parametrize("change", [{"parent": 9999}, {"program": None}])
def test_a_record_that_contradicts_the_tree_is_refused(change: dict[str, Any]) -> None:
    toy = drafting()
    state = planted(toy)
    if "program" in change:
        change = {"program": next(iter(state.known))}
    first = draft(toy, SETTINGS, state)
    ((at, picks),) = toy.drafts.picks.items()  # type: ignore[union-attr]
    toy.drafts.picks[at] = [replace(picks[0], **change), *picks[1:]]  # type: ignore[union-attr]
    with pytest.raises(RecordingError, match=r"drafts\.jsonl: what was drafted after 0 measured programs.*restore"):
        draft(toy, SETTINGS, state)
    toy.drafts.picks[at] = picks  # type: ignore[union-attr]
    assert draft(toy, SETTINGS, state) == first
