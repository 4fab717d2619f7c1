"""The search as a whole, on scripted models: determinism, resume, samples, course alteration."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from colt_pipeline.records import Edit, ModelSpec, PromptContext, Proposal, Rejection
from colt_pipeline.runs.events import Candidate, Child, Measured, Planted, Stepped
from colt_pipeline.search.course_alteration import COURSE_RULES
from colt_pipeline.search.expand import plant
from colt_pipeline.search.routing import ROUTERS
from colt_pipeline.search.state import State
from colt_pipeline.search.world import Purpose
from tests.support import printed_elsewhere
from tests.toy import (
    LARGE,
    SMALL,
    ToyCostModel,
    ToyEvaluator,
    ToyProgram,
    ToyProposer,
    ToySpace,
    child,
    events_of,
    falling,
    play,
    world,
)


def test_a_run_measures_exactly_its_samples_and_every_program_once(tmp_path: Path) -> None:
    toy = world(samples=21)
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "budget"
    assert len(state.samples) == 21
    assert isinstance(toy.evaluator, ToyEvaluator)
    assert len(set(toy.evaluator.measured)) == len(toy.evaluator.measured) == 21
    assert toy.cost_model.learned == toy.evaluator.measured  # type: ignore[attr-defined]


def test_rerun_gives_the_same_journal_and_another_seed_another(tmp_path: Path) -> None:
    play(world(), tmp_path / "a.jsonl")
    play(world(), tmp_path / "b.jsonl")
    play(world(seed=1), tmp_path / "c.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert (tmp_path / "a.jsonl").read_bytes() != (tmp_path / "c.jsonl").read_bytes()


@pytest.mark.parametrize("stop_after", [1, 2, 7, 20])
def test_kill_and_resume_gives_the_same_journal_and_asks_nothing_twice(tmp_path: Path, stop_after: int) -> None:
    whole, parts = world(), world()
    play(whole, tmp_path / "whole.jsonl")
    play(parts, tmp_path / "parts.jsonl", stop_after)
    play(parts, tmp_path / "parts.jsonl")
    assert (tmp_path / "whole.jsonl").read_bytes() == (tmp_path / "parts.jsonl").read_bytes()
    for toy in (whole, parts):
        assert isinstance(toy.proposer, ToyProposer) and isinstance(toy.evaluator, ToyEvaluator)
    assert parts.proposer.asked == whole.proposer.asked  # type: ignore[attr-defined]
    assert parts.evaluator.measured == whole.evaluator.measured  # type: ignore[attr-defined]


@pytest.mark.parametrize(("given", "taken"), [(1, 1), (3, 3), (5, 4)])
def test_programs_of_earlier_runs_take_the_first_places(given: int, taken: int) -> None:
    """One of them is also drawn, and counts once."""
    toy = world(initial_programs=4)
    [drawn, *_] = plant(toy, State(toy.models, toy.settings)).children
    known = [Candidate(drawn.program, drawn.trace), *map(child, range(100, 99 + given))]
    toy = dataclasses.replace(toy, start_from=tuple(known))
    state = State(toy.models, toy.settings)
    planted = plant(toy, state)
    keys = [each.program for each in planted.children]
    assert keys[:taken] == [each.program for each in known[:taken]]
    assert len(set(keys)) == len(keys) == 4
    state.apply(planted)
    assert not set(keys) & {each.program for each in plant(toy, state).children}, "later ones are drawn"


@pytest.mark.parametrize("stop_after", [1, 2, 9])
def test_a_search_from_earlier_programs_resumes_as_if_nothing_had_happened(tmp_path: Path, stop_after: int) -> None:
    toy = dataclasses.replace(world(candidates=6), start_from=(child(100), child(101)))
    play(toy, tmp_path / "whole.jsonl")
    play(toy, tmp_path / "parts.jsonl", stop_after)
    play(toy, tmp_path / "parts.jsonl")
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_torn_last_line_is_dropped_on_resume(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "events.jsonl"
    play(world(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    play(world(), path)
    assert path.read_bytes() == whole
    assert "dropped the last line" in caplog.text


def test_another_process_with_another_hash_seed_gives_the_same_journal(tmp_path: Path) -> None:
    play(world(), tmp_path / "here.jsonl")
    code = "import sys; from pathlib import Path; from tests.toy import play, world; play(world(), Path(sys.argv[1]))"
    there = tmp_path / "there.jsonl"
    printed_elsewhere(code, str(there), hash_seed=12345)
    assert there.read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_models_that_never_answer_well_end_the_run_instead_of_looping(tmp_path: Path) -> None:
    toy = world(script=lambda model, context, occurrence: Rejection("not_json", "prose"))
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "exhausted"
    assert len(state.samples) == toy.settings.initial_programs
    failures = toy.settings.initial_programs * toy.settings.max_failures
    assert sum(s.rejections["not_json"] for s in state.stats.values()) == failures == state.steps


def test_a_failed_node_goes_to_another_model(tmp_path: Path) -> None:
    play(world(samples=4, script=lambda model, context, occurrence: Rejection("empty", "")), tmp_path / "events.jsonl")
    stepped = [e for e in events_of(tmp_path / "events.jsonl") if isinstance(e, Stepped)]
    assert stepped
    assert all(e.retry_model is not None and e.retry_model != e.calls[0].model for e in stepped)


def test_a_tiny_space_ends_with_duplicates_counted(tmp_path: Path) -> None:
    toy = world(samples=50, space=ToySpace(alphabet=1), max_failures=2)
    state = play(toy, tmp_path / "events.jsonl")
    assert sum(s.rejections["duplicate"] for s in state.stats.values()) > 0
    assert sum(s.errors for s in state.stats.values()) == 0  # bad luck is not the model's error
    assert len({s.program for s in state.samples}) == len(state.samples)


def test_an_unknown_next_model_costs_only_the_advice(tmp_path: Path) -> None:
    toy = world(samples=8, script=lambda m, c, o: Proposal((Edit("Step"),), None, flaw="unknown_model"))
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "budget"
    calls = sum(s.regular_calls + s.course_alterations for s in state.stats.values())
    assert sum(s.rejections["unknown_model"] for s in state.stats.values()) == calls > 0


def to_small(model: ModelSpec, context: PromptContext, occurrence: int) -> Proposal:
    return Proposal((Edit("Step"),), "small")


def alteration_rate(tmp_path: Path, chance: float, samples: int, **changes: Any) -> tuple[int, int, list[Stepped]]:
    """(course alterations, small calls, steps) of a run in which small calls regress with this probability."""
    toy = world(samples=samples, score=falling(chance), script=to_small, rollout_length=0, **changes)
    state = play(toy, tmp_path / "events.jsonl")
    steps = [e for e in events_of(tmp_path / "events.jsonl") if isinstance(e, Stepped)]
    assert sum(s.regular_calls for n, s in state.stats.items() if n != "small") <= toy.settings.initial_programs * 2
    return state.stats["large"].course_alterations, state.stats["small"].regular_calls, steps


def test_models_that_never_regress_are_never_overruled(tmp_path: Path) -> None:
    altered, small, _ = alteration_rate(tmp_path, 0.0, 100)
    assert altered == 0 < small


def test_models_that_always_regress_are_overruled_at_every_second_small_edge(tmp_path: Path) -> None:
    altered, small, steps = alteration_rate(tmp_path, 1.0, 100, initial_programs=1)
    kept = [s for s in steps if s.made_by == "small"]
    assert altered == small - len(kept) > 0
    # A small edge is kept only if no small edge is above it; all others are overruled.
    assert not any(_small_edge_regressed(steps, s) for s in kept)


def test_a_coin_flip_is_overruled_as_often_as_the_rule_predicts(tmp_path: Path) -> None:
    """If any small edge above is a regression, the next one triggers with probability p, otherwise never."""
    altered, small, steps = alteration_rate(tmp_path, 0.5, 500)
    under_regression = sum(1 for s in steps if _small_edge_regressed(steps, s) and s.calls[0].model == "small")
    assert altered / under_regression == pytest.approx(0.5, abs=0.1)
    assert not any(s.pruned for s in steps if not _small_edge_regressed(steps, s))
    assert 0 < altered < small


def _small_edge_regressed(steps: list[Stepped], step: Stepped) -> bool:
    """Recomputed from the journal alone, independently of the tree's code."""
    planted = 2
    made: dict[int, Stepped] = {}
    number = planted
    for earlier in steps:
        if earlier.child is not None:
            number += 1
            made[number] = earlier
    node: int | None = step.parent
    while node in made:
        edge = made[node]
        assert edge.child is not None
        if edge.made_by == "small" and edge.child.score < edge.child.parent_score:
            return True
        node = edge.parent
    return False


def test_an_alteration_prunes_the_child_and_asks_the_same_question(tmp_path: Path) -> None:
    toy = world(samples=40, score=falling(1.0), script=to_small, rollout_length=0)
    play(toy, tmp_path / "events.jsonl")
    steps = [e for e in events_of(tmp_path / "events.jsonl") if isinstance(e, Stepped)]
    changed = [s for s in steps if s.pruned is not None]
    assert changed
    assert isinstance(toy.proposer, ToyProposer)
    contexts = iter(toy.proposer.contexts)
    for step in steps:
        asked = [next(contexts) for _ in step.calls]
        assert all(context == asked[0] for context in asked)
    in_tree = {s.child.program for s in steps if s.child is not None}
    for step in changed:
        regular, alteration = step.calls
        assert (regular.role, alteration.role) == ("regular", "course_alteration")
        assert step.made_by == alteration.model == "large"
        assert step.pruned is not None and step.pruned.program not in in_tree


def test_course_alteration_can_be_switched_off(tmp_path: Path) -> None:
    altered, _, _ = alteration_rate(tmp_path, 1.0, 40, course_alteration="never")
    assert altered == 0


options = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "branching": st.integers(1, 4),
        "candidates": st.integers(0, 12),
        "widening": st.sampled_from([0.0, 0.5, 1.0, 3.0]),
        "rewards": st.sampled_from(["predicted", "measured"]),
        "router": st.sampled_from(list(ROUTERS)),
        "course_alteration": st.sampled_from(list(COURSE_RULES)),
        "course_rate": st.floats(0, 1),
        "first_children": st.sampled_from(["proposer", "random"]),
        "rollout": st.sampled_from(["fixed", "exhaustive"]),
        "rollout_length": st.integers(0, 3),
        "draws_per_proposal": st.integers(1, 4),
        "decisions": st.booleans(),
        "initial_programs": st.integers(1, 4),
    }
)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    samples=st.integers(1, 30),
    bad=st.floats(0, 0.9),
    alphabet=st.sampled_from([1, 3, 1_000_000]),
    one_fails_in=st.sampled_from([0, 2]),
    changes=options,
)
def test_invariants(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    samples: int,
    bad: float,
    alphabet: int,
    one_fails_in: int,
    changes: dict[str, Any],
) -> None:
    def sometimes(model: ModelSpec, context: PromptContext, occurrence: int) -> Proposal | Rejection:
        draw = np.random.default_rng([seed, context.samples, occurrence, len(str(context))]).random()
        return Rejection("not_json", "") if draw < bad else Proposal((Edit("Step"),), model.name)

    third = dataclasses.replace(SMALL, name="third", parameters_b=14.0)
    models = (LARGE, third, SMALL)
    space = ToySpace(alphabet)
    toy = world(
        samples, seed, models, script=sometimes, space=space, one_fails_in=one_fails_in, max_failures=2, **changes
    )
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    state = play(toy, path)
    assert state.finished in ("budget", "exhausted")
    assert len(state.samples) == samples if state.finished == "budget" else len(state.samples) < samples
    assert isinstance(toy.evaluator, ToyEvaluator)
    assert len(set(toy.evaluator.measured)) == len(toy.evaluator.measured) == len(state.samples)
    events = events_of(path)
    steps = [e for e in events if isinstance(e, Stepped)]
    children = [c for e in events if isinstance(e, (Planted, Stepped)) for c in _born(e)]
    nodes = state.tree.nodes
    assert [n.record for n in nodes[1:]] == children
    keys = [c.program for c in children]
    pruned = {s.pruned.program for s in steps if s.pruned}
    assert len(set(keys)) == len(keys) and not pruned & set(keys)  # pruned programs never come back
    assert nodes[0].visits == len(children)  # pruned nodes are not counted
    for node in nodes:
        assert node.visits == (node.record is not None) + sum(nodes[c].visits for c in node.children)
        assert node.id == 0 or len(node.children) <= toy.settings.branching
    regular = sum(s.regular_calls for s in state.stats.values())
    assert regular == sum(bool(s.calls) for s in steps)
    assert all(bool(s.calls) or changes["first_children"] == "random" for s in steps)
    altered = [s for s in steps if len(s.calls) > 1]
    assert state.stats["large"].course_alterations == len(altered)
    assert all(s.calls[0].model != "large" and s.calls[1].model == "large" for s in altered)


def _born(event: Planted | Stepped) -> tuple[Child, ...]:
    if isinstance(event, Planted):
        return event.children
    return (event.child,) if event.child else ()


@pytest.mark.parametrize("stop_after", [3, 11, 30])
def test_a_search_with_every_new_option_is_resumed_as_if_nothing_had_happened(tmp_path: Path, stop_after: int) -> None:
    changes: dict[str, Any] = {
        "name": "colt",
        "candidates": 8,
        "course_alteration": "streak",
        "first_children": "random",
        "router": "ucb",
    }
    play(world(samples=30, **changes), tmp_path / "whole.jsonl")
    parts = world(samples=30, **changes)
    play(parts, tmp_path / "parts.jsonl", stop_after)
    play(parts, tmp_path / "parts.jsonl")
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert isinstance(parts.evaluator, ToyEvaluator)
    assert len(set(parts.evaluator.measured)) == len(parts.evaluator.measured) == 30


def test_sites_are_shown_only_where_decisions_are_asked_for(tmp_path: Path) -> None:
    for decisions in (True, False):
        toy = world(samples=6, decisions=decisions)
        play(toy, tmp_path / f"{decisions}.jsonl")
        assert isinstance(toy.proposer, ToyProposer)
        assert {bool(context.sites) for context in toy.proposer.contexts} == {decisions}


def test_of_several_draws_the_best_by_score_enters_the_tree(tmp_path: Path) -> None:
    def last(program: ToyProgram, rng: np.random.Generator) -> float:
        return float(program.steps[-1])

    scores = {}
    for draws in (1, 8):
        toy = world(samples=40, score=last, rollout_length=0, draws_per_proposal=draws, course_alteration="never")
        play(toy, tmp_path / f"{draws}.jsonl")
        steps = [e for e in events_of(tmp_path / f"{draws}.jsonl") if isinstance(e, Stepped)]
        scores[draws] = np.mean([s.child.score for s in steps if s.child])
    # The mean of the best of n uniform draws is n / (n + 1) of the range.
    assert scores[1] == pytest.approx(500_000, rel=0.2)
    assert scores[8] == pytest.approx(1_000_000 * 8 / 9, rel=0.05)


def test_first_children_at_random_cost_no_call_and_are_nobodys(tmp_path: Path) -> None:
    toy = world(samples=30, first_children="random")
    state = play(toy, tmp_path / "events.jsonl")
    steps = [e for e in events_of(tmp_path / "events.jsonl") if isinstance(e, Stepped)]
    for step in steps:
        first = state.tree.nodes[step.parent].depth == 1
        assert bool(step.calls) != first
        assert (step.made_by is None) == first
    assert sum(not s.calls for s in steps) == 2 * toy.settings.branching
    # A step that finds nothing new leaves the node with its model.
    stuck = play(world(samples=30, first_children="random", space=ToySpace(1), branching=4), tmp_path / "stuck.jsonl")
    steps = [e for e in events_of(tmp_path / "stuck.jsonl") if isinstance(e, Stepped) and not e.calls and not e.child]
    assert stuck.finished == "exhausted" and steps
    assert all(s.retry_model == stuck.tree.nodes[s.parent].model for s in steps)


@pytest.mark.parametrize(("widening", "samples"), [(1.0, 40), (2.5, 30), (0.0, 40)])
def test_widening_plants_the_best_of_new_programs_as_the_search_goes_on(
    tmp_path: Path, widening: float, samples: int
) -> None:
    toy = world(samples=samples, widening=widening, batch_size=2)
    state = play(toy, tmp_path / "events.jsonl")
    measured, planted = 0, 0
    for event in events_of(tmp_path / "events.jsonl"):
        if isinstance(event, Planted):
            assert not planted or len(event.children) == 1
            planted += len(event.children)
        if isinstance(event, Stepped):
            assert planted >= widening * math.sqrt(measured)
        if isinstance(event, Measured):
            measured += len(event.samples)
    assert planted == len(state.tree.root.children)
    wanted = math.ceil(widening * math.sqrt(samples))
    assert planted == max(wanted, toy.settings.initial_programs)


def test_a_later_planting_keeps_the_program_of_the_highest_score(tmp_path: Path) -> None:
    toy = world(initial_programs=4, widening=2.0, score=lambda p, rng: float(p.steps[1]))
    state = State(toy.models, toy.settings)
    for event in (toy.start(), plant(toy, state)):
        state.apply(event)
    offered = toy.space.initial(4, toy.rng(1, Purpose.PLANT))
    [kept] = plant(toy, state).children
    assert kept.program == max(offered, key=lambda p: p.steps[1]).key


def test_widening_ends_where_the_design_spaces_give_no_new_program(tmp_path: Path) -> None:
    state = play(world(samples=14, widening=5.0, space=ToySpace(1)), tmp_path / "events.jsonl")
    assert state.finished == "budget"
    assert state.plantings > 10 and len(state.tree.root.children) == 2


def test_no_rollout_while_scores_are_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree is the same as with rollouts, because noise does not depend on the program."""
    rolled = world(samples=20, script=to_small, course_alteration="never")
    play(rolled, tmp_path / "rolled.jsonl")
    monkeypatch.setattr(ToySpace, "rollout", lambda *_: pytest.fail("rolled out"))
    cold = dataclasses.replace(rolled, cost_model=ToyCostModel(lambda p, rng: float(rng.uniform()), warm=False))
    play(cold, tmp_path / "cold.jsonl")
    cold_steps, rolled_steps = (
        [event for event in events_of(tmp_path / name) if isinstance(event, Stepped)]
        for name in ("cold.jsonl", "rolled.jsonl")
    )
    assert [step.child for step in cold_steps] == [step.child for step in rolled_steps]
