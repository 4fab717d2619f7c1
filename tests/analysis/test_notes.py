"""Notes beside numbers: where they are said, and where they would be false."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.analysis.notes import (
    held_out,
    intervals,
    no_effect_of_sets,
    pairs_of_runs,
    random_sampling,
    set_by_construction,
    verdicts,
    with_notes,
)
from colt_pipeline.analysis.tidy import aggregate
from tests.analysis.conftest import WriteRun

ONE, TWO = {"gpt-5-mini": (4, 0)}, {"gpt-5.2": (2, 1), "gpt-5-mini": (6, 0)}


def test_tvms_search_is_random_sampling_up_to_its_first_batch(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,), search="colt_plus", journal={"random_samples": 0})
    assert random_sampling(aggregate(tmp_path / "runs")) == ""
    for name, count in (("b", 64), ("c", 8)):
        write_run(name, ONE, (0.5,), search="evolutionary", seed=count, journal={"random_samples": count})
    what = "no measurement guides its first 64 samples."
    said = f"TVM's evolutionary search is random sampling here: {what}"
    assert random_sampling(aggregate(tmp_path / "runs")) == said
    write_run("d", TWO, (0.5,) * 65, search="colt_plus", seed=1, journal={"random_samples": 0})
    said = f"TVM's evolutionary search begins with random sampling: {what}"
    assert random_sampling(aggregate(tmp_path / "runs")) == said


def test_another_search_that_begins_at_random_is_named_too(write_run: WriteRun, tmp_path: Path) -> None:
    for name, search, count in (("a", "my_evolution", 8), ("b", "evolutionary", 64), ("c", "colt_plus", 0)):
        write_run(name, TWO, (0.5,), search=search, journal={"random_samples": count})
    assert random_sampling(aggregate(tmp_path / "runs")) == (
        "TVM's evolutionary search is random sampling here: no measurement guides its first 64 samples. "
        "my_evolution is random sampling here: no measurement guides its first 8 samples."
    )


def test_nothing_is_said_of_a_search_that_a_model_guides_from_the_start(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", ONE, (0.5,), search="evolutionary", journal={"random_samples": 0})
    write_run("b", ONE, (0.5,), search="evolutionary", seed=1)
    assert random_sampling(aggregate(tmp_path / "runs")) == ""


@pytest.mark.parametrize(("backend", "said"), [("embedded", True), ("openai", False), ("random", False)])
def test_shares_of_calls_of_stand_ins_are_set_by_construction(
    backend: str, said: bool, write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("a", TWO, (0.5,), llm_backend=backend)
    assert bool(set_by_construction(aggregate(tmp_path / "runs"))) == said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"journal": {"decisions": "tvm"}}, True),
        ({"journal": {"decisions": "models"}}, False),
        ({}, False),
        ({"journal": {"decisions": "tvm"}, "llm_backend": "openai"}, False),
        ({"journal": {"decisions": "tvm"}, "model_set": "small"}, False),
    ],
    ids=["bare names", "decisions", "unknown", "a real model", "one set"],
)
def test_stand_ins_that_only_name_transformations_cannot_show_an_effect(
    changes: dict[str, Any], said: bool, write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("a", TWO, (0.5,), **changes)
    write_run("b", ONE, (0.5,), **{"seed": 1} | changes | {"model_set": "small"})
    assert bool(no_effect_of_sets(aggregate(tmp_path / "runs"))) == said


def test_runs_in_which_models_decide_may_show_an_effect_of_sets(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,), journal={"decisions": "tvm"})
    write_run("b", ONE, (0.5,), model_set="small", journal={"decisions": "models"})
    assert no_effect_of_sets(aggregate(tmp_path / "runs")) == ""


@pytest.mark.parametrize(
    ("search", "workloads", "said"),
    [
        (
            "colt_plus",
            ("flux_conv", "flux_attention"),
            "Of these workloads, COLT+ was tuned on FLUX convolution; geometric mean, held out: without it.",
        ),
        ("colt_plus", ("batched_matmul_nt",), "COLT+ was tuned on this very workload."),
        ("colt_plus", ("flux_conv", "batched_matmul_nt"), "COLT+ was tuned on these very workloads."),
        ("colt", ("batched_matmul_nt",), ""),
        (
            "colt_plus",
            ("flux_conv", "depthwise_conv", "llama3_8b_attention", "flux_attention"),
            "Of these workloads, COLT+ was tuned on Llama-3-8B attention, FLUX convolution and Depthwise convolution; "
            "geometric mean, held out: without them.",
        ),
        ("router_uniform", ("flux_conv",), "COLT+ was tuned on this very workload."),
        ("colt_plus", ("flux_attention",), ""),
        ("paper", ("flux_conv", "flux_attention"), ""),
    ],
)
def test_the_workloads_that_our_search_was_tuned_on_are_named(
    search: str, workloads: tuple[str, ...], said: str, write_run: WriteRun, tmp_path: Path
) -> None:
    for name in workloads:
        write_run(name, TWO, (0.5,), search=search, workload=name)
    assert held_out(aggregate(tmp_path / "runs")) == said


def test_a_caption_ends_with_the_notes_that_apply(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,), search="router_uniform")
    notes = (random_sampling, held_out)
    assert with_notes("Speed.", notes, aggregate(tmp_path / "runs")) == "Speed. COLT+ was tuned on this very workload."


def test_one_seed_has_neither_intervals_nor_verdicts_to_explain(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,))
    alone = aggregate(tmp_path / "runs")
    assert intervals(alone) == "One seed gives no interval and no verdict."
    assert verdicts(alone) == pairs_of_runs(alone) == ""
    write_run("b", TWO, (0.5,), seed=1)
    two = aggregate(tmp_path / "runs")
    assert "Student's t" in intervals(two) and "excludes 1" in verdicts(two) and "column over" in pairs_of_runs(two)
