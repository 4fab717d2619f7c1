"""The search without a tree, on a toy evolution: samples, resume, end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from colt_pipeline.config.checks import SEARCH_CHOICES
from colt_pipeline.runs.events import Bred, Measured
from colt_pipeline.runs.journal import Journal
from colt_pipeline.search import outcome
from colt_pipeline.search.course_alteration import COURSE_RULES
from colt_pipeline.search.routing import ROUTERS
from colt_pipeline.search.world import World
from tests.toy import ToyEvaluator, ToyEvolution, ToyProgram, ToyProposer, play, settings, world


def evolutionary(samples: int, last: int = 1_000_000) -> tuple[World[ToyProgram], ToyEvolution]:
    evolution = ToyEvolution(samples, last=last)
    toy = world(samples, models=(), strategy="evolutionary", batch_size=4)
    return dataclasses.replace(toy, evolution=evolution), evolution


def test_every_choice_of_the_configuration_has_its_row() -> None:
    tables: dict[str, Mapping[str, object]] = {"router": ROUTERS, "course_alteration": COURSE_RULES}
    assert {key: tuple(table) for key, table in tables.items()} == {key: SEARCH_CHOICES[key] for key in tables}
    trees = {choice: settings(strategy=choice).grows_tree for choice in SEARCH_CHOICES["strategy"]}
    assert trees == {"mcts": True, "evolutionary": False}


def test_batches_are_bred_from_all_that_was_measured_and_measured_in_pieces(tmp_path: Path) -> None:
    toy, evolution = evolutionary(samples=15)
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "budget"
    assert evolution.asked == [0, 6, 12]
    journal = Journal(tmp_path / "events.jsonl")
    journal.close()
    sizes = [len(e.candidates if isinstance(e, Bred) else e.samples) for e in journal.events[1:-1]]  # type: ignore[attr-defined]
    assert sizes == [6, 4, 2, 6, 4, 2, 3, 3]
    bred = [c.program for e in journal.events if isinstance(e, Bred) for c in e.candidates]
    assert [s.program for e in journal.events if isinstance(e, Measured) for s in e.samples] == bred
    assert isinstance(toy.evaluator, ToyEvaluator) and toy.evaluator.measured == bred


def test_no_llm_and_no_tree_take_part(tmp_path: Path) -> None:
    toy, _ = evolutionary(samples=8)
    state = play(toy, tmp_path / "events.jsonl")
    assert isinstance(toy.proposer, ToyProposer) and toy.proposer.asked == []
    assert toy.cost_model.learned == []  # type: ignore[attr-defined]
    assert len(state.tree.nodes) == 1
    assert outcome.calls(state, toy.models, "none", {}, {}) == []
    summary = outcome.summary(state, toy.models, "none", 1, {})
    assert (summary["llm_backend"], summary["regular_calls"], summary["samples"]) == ("none", 0, 8)
    assert [row["sample"] for row in outcome.curve(state)] == list(range(1, 9))


def test_an_evolution_that_has_no_more_ends_the_run(tmp_path: Path) -> None:
    toy, evolution = evolutionary(samples=20, last=9)
    state = play(toy, tmp_path / "events.jsonl")
    assert state.finished == "exhausted"
    assert len(state.samples) == 9
    assert evolution.asked == [0, 6, 9]


@pytest.mark.parametrize("stop_after", range(1, 10))
def test_kill_and_resume_gives_the_same_journal_and_breeds_and_measures_nothing_twice(
    tmp_path: Path, stop_after: int
) -> None:
    (whole, once), (parts, twice) = evolutionary(15), evolutionary(15)
    play(whole, tmp_path / "whole.jsonl")
    play(parts, tmp_path / "parts.jsonl", stop_after)
    play(parts, tmp_path / "parts.jsonl")
    assert (tmp_path / "whole.jsonl").read_bytes() == (tmp_path / "parts.jsonl").read_bytes()
    assert twice.asked == once.asked
    assert parts.evaluator.measured == whole.evaluator.measured  # type: ignore[attr-defined]
