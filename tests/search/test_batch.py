"""Which of the waiting programs are measured next."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from colt_pipeline.runs.events import Measured, Planted, Sample, Stepped
from colt_pipeline.search.batch import choose_batch
from colt_pipeline.search.state import State
from colt_pipeline.search.world import World
from tests.toy import ToyCostModel, ToyEvaluator, ToyProgram, child, events_of, play, world


def by_last_step(program: ToyProgram, rng: np.random.Generator) -> float:
    return program.steps[-1] / 100


def family(candidates: int) -> tuple[World[ToyProgram], State]:
    """Roots with scores .50 and .30; below the first, .90, .85 and .80; below the second, .60."""
    toy = world(score=by_last_step, candidates=candidates)
    state = State(toy.models, toy.settings)
    state.apply(Planted((child(50), child(30))))
    for parent, steps in ((1, (50, 90)), (1, (50, 85)), (1, (50, 80)), (2, (30, 60))):
        state.apply(Stepped(state.steps, parent, (), child(*steps), None, None, None))
    return toy, state


def chosen(candidates: int, size: int) -> list[str]:
    toy, state = family(candidates)
    return [record.trace for record in choose_batch(toy, state, size)]


def test_without_candidates_the_order_is_that_of_birth() -> None:
    assert chosen(0, 3) == ["[50]", "[30]", "[50, 90]"]


def test_the_best_score_goes_first_and_siblings_count_ever_less() -> None:
    # .90; then .85 * .8 = .68 before .60; then .60 before .80 * .64 = .512; then that before the root of .50
    assert chosen(16, 5) == ["[50, 90]", "[50, 85]", "[30, 60]", "[50, 80]", "[50]"]


def test_siblings_count_less_also_where_scores_are_negative() -> None:
    toy, state = family(16)
    toy = dataclasses.replace(toy, cost_model=ToyCostModel(lambda program, rng: program.steps[-1] / 100 - 1))
    # -.10; then -.15 / .8 = -.1875; then -.20 / .64 = -.3125 before -.40
    assert [record.trace for record in choose_batch(toy, state, 3)] == ["[50, 90]", "[50, 85]", "[50, 80]"]
    # -.40 before the root's -.50, which has no sibling yet
    assert [record.trace for record in choose_batch(toy, state, 5)][3:] == ["[30, 60]", "[50]"]


@pytest.mark.parametrize("candidates", [0, 16])
def test_programs_of_earlier_runs_go_first_whatever_their_scores(candidates: int) -> None:
    toy, state = family(candidates)
    toy = dataclasses.replace(toy, start_from=(child(30), child(7)))
    alone = dataclasses.replace(toy, start_from=())
    others = [record.trace for record in choose_batch(alone, state, 5) if record.trace != "[30]"]
    assert [record.trace for record in choose_batch(toy, state, 4)] == ["[30]", *others[:3]]
    assert [record.trace for record in choose_batch(toy, state, 1)] == ["[30]"]


def test_all_are_measured_in_order_of_birth_where_they_fit() -> None:
    toy, state = family(16)
    assert choose_batch(toy, state, 6) == choose_batch(toy, state, 99) == state.pending


def test_what_was_measured_is_chosen_no_more_and_scores_are_those_of_the_moment() -> None:
    toy, state = family(16)
    best = choose_batch(toy, state, 1)[0]
    state.apply(Measured((Sample(best.program, 1.0, None),)))
    assert chosen(16, 1) == ["[50, 90]"]
    assert [record.trace for record in choose_batch(toy, state, 2)] == ["[50, 85]", "[50, 80]"]  # .85, .8 * .8 = .64


@pytest.mark.parametrize("candidates", [6, 16])
def test_a_batch_waits_for_its_candidates_and_every_program_is_measured_once(tmp_path: Path, candidates: int) -> None:
    toy = world(samples=24, candidates=candidates, batch_size=4, branching=4)
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "budget"
    assert isinstance(toy.evaluator, ToyEvaluator)
    assert len(set(toy.evaluator.measured)) == len(toy.evaluator.measured) == 24
    fresh = 0
    for event in events_of(tmp_path / "events.jsonl"):
        if isinstance(event, Planted):
            fresh += len(event.children)
        if isinstance(event, Stepped):
            fresh += event.child is not None
        if isinstance(event, Measured):
            assert len(event.samples) == 4
            assert fresh == candidates
            fresh = 0
