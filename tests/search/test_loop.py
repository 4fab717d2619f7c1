"""The search as a whole, on scripted models: determinism, resume, budget, course alteration."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from toy import LARGE, SMALL, ToyEvaluator, ToyProgram, ToyProposer, ToySpace, world

from colt_pipeline.events import Planted, Stepped
from colt_pipeline.records import Edit, ModelSpec, PromptContext, Proposal, Rejection
from colt_pipeline.runs.journal import Journal
from colt_pipeline.search.loop import search
from colt_pipeline.search.state import State
from colt_pipeline.search.world import World


def play(toy: World[ToyProgram], path: Path, stop_after: int | None = None) -> State:
    """Run (or resume) a search; stop after so many new events, as a kill would."""
    state = State(toy.models, toy.settings)
    journal = Journal(path)
    for number, _ in enumerate(search(toy, journal, state), start=1):
        if number == stop_after:
            break
    journal.close()
    return state


def test_a_run_measures_exactly_its_budget_and_every_program_once(tmp_path: Path) -> None:
    toy = world(budget=21)
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
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.path.insert(0, sys.argv[1] + '/search');"
        "from pathlib import Path; from test_loop import play; from toy import world;"
        "play(world(), Path(sys.argv[2]))"
    )
    there = tmp_path / "there.jsonl"
    tests = str(Path(__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", code, tests, str(there)], check=True, env={"PYTHONHASHSEED": "12345", "PATH": ""}
    )
    assert there.read_bytes() == (tmp_path / "here.jsonl").read_bytes()


def test_models_that_never_answer_well_end_the_run_instead_of_looping(tmp_path: Path) -> None:
    toy = world(script=lambda model, context, occurrence: Rejection("not_json", "prose"))
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "exhausted"
    assert len(state.samples) == toy.settings.initial_programs
    failures = toy.settings.initial_programs * toy.settings.max_failures
    assert sum(s.rejections["not_json"] for s in state.stats.values()) == failures == state.steps


def test_a_failed_node_goes_to_another_model(tmp_path: Path) -> None:
    play(world(budget=4, script=lambda model, context, occurrence: Rejection("empty", "")), tmp_path / "events.jsonl")
    journal = Journal(tmp_path / "events.jsonl")
    stepped = [e for e in journal.events if isinstance(e, Stepped)]
    journal.close()
    assert stepped
    assert all(e.retry_model is not None and e.retry_model != e.calls[0].model for e in stepped)


def test_a_tiny_space_ends_with_duplicates_counted(tmp_path: Path) -> None:
    toy = world(budget=50, space=ToySpace(alphabet=1), max_failures=2)
    state = play(toy, tmp_path / "events.jsonl")
    assert sum(s.rejections["duplicate"] for s in state.stats.values()) > 0
    assert sum(s.errors for s in state.stats.values()) == 0  # bad luck is not the model's error
    assert len({s.program for s in state.samples}) == len(state.samples)


def test_an_unknown_next_model_costs_only_the_advice(tmp_path: Path) -> None:
    toy = world(budget=8, script=lambda m, c, o: Proposal((Edit("Step"),), None, flaw="unknown_model"))
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "budget"
    calls = sum(s.regular_calls + s.course_alterations for s in state.stats.values())
    assert sum(s.rejections["unknown_model"] for s in state.stats.values()) == calls > 0


def falling(chance: float) -> Callable[[ToyProgram, np.random.Generator], float]:
    """A score that, per appended number, falls with this chance and rises otherwise; a function of the program."""

    def score(program: ToyProgram, rng: np.random.Generator) -> float:
        falls = sum(1 for n in program.steps[2:] if n % 1000 < chance * 1000)
        return float(len(program.steps) - 2 - 2 * falls)

    return score


def to_small(model: ModelSpec, context: PromptContext, occurrence: int) -> Proposal:
    return Proposal((Edit("Step"),), "small")


def alteration_rate(tmp_path: Path, chance: float, samples: int, **changes: object) -> tuple[int, int, list[Stepped]]:
    """(course alterations, small calls, steps) of a run whose every small call regresses with this chance."""
    toy = world(budget=samples, score=falling(chance), script=to_small, rollout_length=0, **changes)
    state = play(toy, tmp_path / "events.jsonl")
    journal = Journal(tmp_path / "events.jsonl")
    steps = [e for e in journal.events if isinstance(e, Stepped)]
    journal.close()
    assert sum(s.regular_calls for n, s in state.stats.items() if n != "small") <= toy.settings.initial_programs * 2
    return state.stats["large"].course_alterations, state.stats["small"].regular_calls, steps


def test_models_that_never_regress_are_never_overruled(tmp_path: Path) -> None:
    altered, small, _ = alteration_rate(tmp_path, 0.0, 100)
    assert altered == 0 < small


def test_models_that_always_regress_are_overruled_at_every_second_small_edge(tmp_path: Path) -> None:
    altered, small, steps = alteration_rate(tmp_path, 1.0, 100, initial_programs=1)
    kept = [s for s in steps if s.made_by == "small"]
    assert altered == small - len(kept) > 0
    # Only a small edge without a small edge above it is kept; above that, all else is overruled.
    assert not any(_nearest_small_edge_regressed(steps, s) for s in kept)


def test_a_coin_flip_is_overruled_as_often_as_the_rule_predicts(tmp_path: Path) -> None:
    """Given a regression as the nearest small edge above, the next one triggers with p; from none, never."""
    altered, small, steps = alteration_rate(tmp_path, 0.5, 2000)
    under_regression = sum(1 for s in steps if _nearest_small_edge_regressed(steps, s) and s.calls[0].model == "small")
    assert altered / under_regression == pytest.approx(0.5, abs=0.06)
    assert not any(s.pruned for s in steps if not _nearest_small_edge_regressed(steps, s))
    assert 0 < altered < small


def _nearest_small_edge_regressed(steps: list[Stepped], step: Stepped) -> bool:
    """Recomputed from the journal alone, apart from the tree's code."""
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
        if edge.made_by == "small":
            return edge.child.score < edge.child.parent_score
        node = edge.parent
    return False


def test_an_alteration_prunes_the_child_and_asks_the_same_question(tmp_path: Path) -> None:
    toy = world(budget=40, score=falling(1.0), script=to_small, rollout_length=0)
    play(toy, tmp_path / "events.jsonl")
    journal = Journal(tmp_path / "events.jsonl")
    steps = [e for e in journal.events if isinstance(e, Stepped)]
    journal.close()
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


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31),
    budget=st.integers(1, 30),
    batch=st.integers(1, 9),
    branching=st.integers(1, 3),
    bad=st.floats(0, 0.9),
)
def test_invariants(
    tmp_path_factory: pytest.TempPathFactory, seed: int, budget: int, batch: int, branching: int, bad: float
) -> None:
    def sometimes(model: ModelSpec, context: PromptContext, occurrence: int) -> Proposal | Rejection:
        draw = np.random.default_rng([seed, context.samples, occurrence, len(str(context))]).random()
        return Rejection("not_json", "") if draw < bad else Proposal((Edit("Step"),), model.name)

    third = dataclasses.replace(SMALL, name="third", parameters_b=14.0)
    toy = world(
        budget, seed, (LARGE, third, SMALL), script=sometimes, batch_size=batch, branching=branching, max_failures=2
    )
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    state = play(toy, path)
    assert state.finished in ("budget", "exhausted")
    assert len(state.samples) <= budget
    nodes = state.tree.nodes
    assert nodes[0].visits == len(nodes) - 1  # no pruned node is counted
    journal = Journal(path)
    children = [c for e in journal.events if isinstance(e, Planted) for c in e.children]
    children += [e.child for e in journal.events if isinstance(e, Stepped) and e.child]
    journal.close()
    assert [n.record for n in nodes[1:]] == children
    assert sum(s.regular_calls for s in state.stats.values()) == state.steps
