"""Sentences say what the numbers say, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.analysis.compared import MODEL_SETS, SEARCHES, common_caption, compared
from colt_pipeline.analysis.labels import caption
from colt_pipeline.analysis.report.findings import (
    Findings,
    findings_of,
    limits,
    model_set_findings,
    read_findings,
    search_findings,
    write_findings,
)
from colt_pipeline.analysis.report.page import shared_limits
from colt_pipeline.analysis.report.sections import Section
from colt_pipeline.analysis.tables.catalogue import write_tables
from colt_pipeline.analysis.tables.comparisons import comparisons
from colt_pipeline.analysis.tables.statistics import statistics
from colt_pipeline.analysis.tidy import Tidy, aggregate
from colt_pipeline.errors import ConfigError
from tests.analysis.conftest import AddRun, WriteNoise, WriteRun

TWO = {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}


@pytest.fixture
def add(write_run: WriteRun) -> AddRun:
    def add(search: str, seed: int, *latencies: float | None, **changes: Any) -> None:
        write_run(f"{search}-{seed}", TWO, latencies, search=search, seed=seed, **changes)

    return add


@pytest.fixture
def tidy(tmp_path: Path) -> Callable[[], Tidy]:
    return lambda: aggregate(tmp_path / "runs", tmp_path / "noise" if (tmp_path / "noise").exists() else None)


def test_the_reference_is_held_against_every_other_search(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    for seed in (0, 1):
        add("colt", seed, 0.25)
        add("paper", seed, 0.5)
        add("official_code", seed, (0.25, 0.125)[seed])
    sentences = search_findings(statistics(tidy()))
    pairs = "2 pairs of runs of one workload and seed"
    assert f"colt ends faster than paper in 100 % of {pairs} (95 % interval 100 % to 100 %)." in " ".join(sentences)
    assert f"colt ends faster than official_code in 25 % of {pairs} (95 % interval 0 % to 50 %)." in " ".join(sentences)
    assert len(sentences) == 2


def test_one_seed_gives_no_interval_and_no_ranking(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    add("colt", 0, 0.25)
    add("paper", 0, 0.5)
    (sentence,) = search_findings(statistics(tidy()))
    assert sentence.endswith("in 100 % of 1 pairs of runs of one workload and seed (unknown: one seed).")
    assert any(text.startswith("No ranking: with one seed") for text in limits(tidy()))


def test_searches_that_lack_runs_are_not_held_against_each_other(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    add("colt", 0, 0.25)
    add("paper", 1, 0.5)
    assert search_findings(statistics(tidy())) == ["colt cannot be compared with paper: runs are missing."]


def test_a_run_that_a_limit_ended_is_not_taken_for_a_finished_one(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    add("colt", 0, 0.25, stopped="limit")
    with pytest.raises(ConfigError, match="stopped at a limit of its budget; resume it with a higher one"):
        tidy()


def test_differences_within_the_noise_are_counted_and_others_named(
    write_run: WriteRun, write_noise: WriteNoise, tidy: Callable[[], Tidy]
) -> None:
    write_noise([1.0, 1.5] * 10)
    write_run("large", {"gpt-5.2": (1, 0)}, (0.5,), model_set="large")
    write_run("small", {"gpt-5-mini": (1, 0)}, (0.45,), model_set="small")
    write_run("two", TWO, (0.1,))
    total, named = model_set_findings(comparisons(tidy()))
    assert total.endswith("on the same workload: 1 faster, 1 within noise.")
    assert named.startswith(
        "FLUX convolution: COLT (2 models) is faster than gpt-5.2 (stand-in) (5.00 times its speed, noise floor ×"
    )


def test_estimates_give_no_verdict(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    for model_set, latency in (("large", 0.5), ("small", 0.1)):
        write_run(model_set, {"gpt-5.2": (1, 0)}, (latency,), model_set=model_set, measurement="estimated")
    assert set(comparisons(tidy())["verdict"]) == {"reference", "faster"}
    assert model_set_findings(comparisons(tidy())) == []


def test_limits_depend_on_who_answered_and_how_it_was_timed(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    run_dir = write_run("a", TWO, (0.5,), llm_backend="openai", measurement="estimated")
    text = " ".join(limits(tidy()))
    assert "language models whose names" not in text and "latencies are estimated" in text
    assert "runs end after 1 samples" in text and "repeated measurements" not in text, "no noise was recorded"
    assert run_dir.exists()


def test_what_all_sections_say_is_said_once(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    add("colt", 0, 0.25)

    def section(name: str, *said: str) -> Section:
        return Section(name, "title", tidy(), (), Findings("caption", [], list(said)), figures=(), tables=())

    said = shared_limits([section("one", "both.", "first."), section("two", "both.", "second.")])
    assert said == ["both.", "one: first.", "two: second."]


def test_a_tiny_real_model_is_no_evidence_and_a_stand_in_or_a_larger_one_is_not_called_tiny(
    write_run: WriteRun, tidy: Callable[[], Tidy]
) -> None:
    write_run("tiny", {"tiny": (1, 0)}, (0.5,), model_set="local", llm_backend="local")
    assert any("these have at most 0.135 billion parameters" in text for text in limits(tidy()))
    write_run("mini", {"gpt-5-mini": (1, 0)}, (0.5,), model_set="small", llm_backend="openai")
    assert not any("at most" in text for text in limits(tidy()))


def test_a_single_configuration_is_held_against_nothing(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    write_run("large", {"gpt-5.2": (1, 0)}, (0.5,), model_set="large")
    assert model_set_findings(comparisons(tidy())) == []


def test_findings_are_made_of_the_tables_that_were_written_and_read_back(
    write_run: WriteRun, tidy: Callable[[], Tidy], tmp_path: Path
) -> None:
    write_run("large", {"gpt-5.2": (4, 0)}, (0.5,), model_set="large")
    write_run("two", {"gpt-5.2": (1, 2), "gpt-5-mini": (8, 0)}, (0.25,), made={"gpt-5-mini": (8, 4)})
    tables = write_tables(tidy(), tmp_path / "out")
    findings = findings_of(tidy(), tables)
    assert findings.findings[0].startswith("Of 1 best latencies") and "2 of 8 programs" in findings.findings[-1]
    assert findings.caption.startswith("stand-in LLMs") and findings.limits == limits(tidy())
    write_findings(findings, tmp_path / "out")
    assert read_findings(tmp_path / "out", "") == findings
    (tmp_path / "out" / "findings.json").write_text("{}")
    with pytest.raises(ConfigError, match="does not contain findings.*make it with: dvc repro tables@cpu"):
        read_findings(tmp_path / "out", "dvc repro tables@cpu")


def test_several_searches_are_told_from_model_sets_by_the_runs_alone(
    add: AddRun, tidy: Callable[[], Tidy], tmp_path: Path
) -> None:
    add("colt", 0, 0.25)
    assert compared(tidy()) == MODEL_SETS and common_caption(tidy()) == caption(tidy())
    assert set(write_tables(tidy(), tmp_path / "one")).isdisjoint({"search_speedups", "search_ratios"})
    add("paper", 0, 0.5)
    assert compared(tidy()) == SEARCHES and common_caption(tidy()).endswith("model_set=2, noise floor unknown")
    assert set(write_tables(tidy(), tmp_path / "two")).isdisjoint({"speedups", "comparisons"})
    assert findings_of(tidy(), write_tables(tidy(), tmp_path / "two")).findings[0].startswith("colt ends faster")
