"""Findings say what the numbers say, and no more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.analysis.compared import MODEL_SETS, SEARCHES, compared
from colt_pipeline.analysis.report.findings import (
    Finding,
    Findings,
    findings_of,
    limits,
    read_findings,
    write_findings,
)
from colt_pipeline.analysis.report.page import shared_limits
from colt_pipeline.analysis.report.sections import Section
from colt_pipeline.analysis.tables.catalogue import write_tables
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
def found(tidy: Callable[[], Tidy], tmp_path: Path) -> Callable[[], list[Finding]]:
    """The findings of the runs written so far."""
    return lambda: findings_of(tidy(), write_tables(tidy(), tmp_path / "tables")).findings


@pytest.fixture
def tidy(tmp_path: Path) -> Callable[[], Tidy]:
    return lambda: aggregate(tmp_path / "runs", tmp_path / "noise" if (tmp_path / "noise").exists() else None)


def test_the_reference_is_compared_with_every_other_search_after_all_samples(
    add: AddRun, write_noise: WriteNoise, found: Callable[[], list[Finding]]
) -> None:
    write_noise([1.0, 1.5] * 10)
    for seed in range(3):
        add("colt_plus", seed, 0.9, 0.2 - 0.01 * seed)
        add("paper", seed, 0.1, 0.1)
        add("official_code", seed, 0.9, 0.6 - 0.1 * seed)
    faster, slower = (0.6 * 0.5 * 0.4 / (0.2 * 0.19 * 0.18)) ** (1 / 3), (0.1**3 / (0.2 * 0.19 * 0.18)) ** (1 / 3)
    papers, authors = found()
    assert papers.question == "COLT+ (stand-in) against COLT (stand-in), final speedup"
    assert (papers.value, papers.basis, papers.conclusion) == (
        f"{slower:.2f}",
        "3 pairs, 1 workload x 3 seeds, 0 % won",
        "slower",
    )
    assert authors.question == "COLT+ (stand-in) against COLT, authors' code (stand-in), final speedup"
    assert (authors.value, authors.conclusion) == (f"{faster:.2f}", "faster")
    low, high = map(float, authors.interval.split(" to "))
    assert 1 < low < faster < high


def test_one_seed_is_a_single_row_without_rank(
    write_run: WriteRun, write_noise: WriteNoise, found: Callable[[], list[Finding]], tidy: Callable[[], Tidy]
) -> None:
    write_noise([1.0, 1.5] * 10)
    for model_set, calls, secs in (("large", {"gpt-5.2": (1, 0)}, 0.5), ("2", TWO, 0.1), ("4", TWO, 0.2)):
        write_run(model_set, calls, (secs,), model_set=model_set)
    assert found() == [
        Finding(
            "gpt-5.2 (stand-in) and 2 others, final speedups",
            "2.00 to 10.00",
            "",
            "1 pair, 1 workload x 1 seed",
            "one seed: no verdict",
        )
    ]
    assert any(text.startswith("No ranking: with one seed") for text in limits(tidy()))


def test_estimates_give_no_verdict(write_run: WriteRun, found: Callable[[], list[Finding]]) -> None:
    for seed in range(3):
        for model_set, secs in (("large", 0.5), ("small", 0.1)):
            facts = {"model_set": model_set, "measurement": "estimated", "seed": seed}
            write_run(f"{model_set}{seed}", {"gpt-5.2": (1, 0)}, (secs + 0.01 * seed,), **facts)
    (row,) = found()
    assert (row.conclusion, row.basis, row.interval) == (
        "estimated: no verdict",
        "3 pairs, 1 workload x 3 seeds",
        "",
    )


def test_each_target_has_a_row_of_its_own(write_run: WriteRun, found: Callable[[], list[Finding]]) -> None:
    for target in ("cpu", "gpu"):
        for model_set, calls in (("large", {"gpt-5.2": (1, 0)}), ("2", TWO)):
            write_run(f"{model_set}{target}", calls, (0.5,), model_set=model_set, target=target)
    assert [row.question for row in found()] == [
        f"gpt-5.2 (stand-in), target={target} and 1 other, final speedups" for target in ("cpu", "gpu")
    ]


def test_searches_that_lack_runs_are_not_compared(add: AddRun, found: Callable[[], list[Finding]]) -> None:
    add("colt_plus", 0, 0.25)
    add("paper", 1, 0.5)
    (row,) = found()
    assert (row.value, row.interval, row.basis) == ("", "", "0 pairs")
    assert row.conclusion == "a run is missing or found nothing: no verdict"


def test_the_mean_without_the_workloads_it_was_tuned_on_is_a_row_of_its_own(
    write_run: WriteRun, found: Callable[[], list[Finding]]
) -> None:
    for seed in range(3):
        for workload in ("flux_conv", "flux_attention"):
            for search, secs in (("colt_plus", 0.1), ("paper", 0.4)):
                secs *= 1 + 0.1 * seed * (search == "paper")
                facts = {"search": search, "workload": workload, "seed": seed}
                write_run(f"{search}{workload}{seed}", TWO, (secs,), **facts)
    over_all, held_out = found()
    assert over_all.basis == "6 pairs, 2 workloads x 3 seeds, 100 % won"
    assert held_out.basis == "3 pairs, 1 workload x 3 seeds, 100 % won"
    assert held_out.question == over_all.question + " on held-out workloads"
    assert {over_all.conclusion, held_out.conclusion} == {"noise unknown"}


@pytest.mark.parametrize(
    ("regressed", "seeds", "measurement", "conclusion"),
    [
        ((45, 10), 2, "measured", "regressions persist"),
        ((10, 45), 2, "measured", "regressions are rarer after one"),
        ((25, 25), 2, "measured", "no persistence shown"),
        ((90, 20), 1, "measured", "one seed: no verdict"),
        ((45, 10), 2, "estimated", "estimated: no verdict"),
    ],
)
def test_persistence_of_one_configuration_is_a_row_with_its_interval(
    write_run: WriteRun,
    found: Callable[[], list[Finding]],
    regressed: tuple[int, int],
    seeds: int,
    measurement: str,
    conclusion: str,
) -> None:
    programs = 100 // seeds
    journal = {"course_rule": "path", "after_regression": programs, "after_rise": programs}
    journal |= {"after_regression_regressed": regressed[0], "after_rise_regressed": regressed[1]}
    for seed in range(seeds):
        made = {"gpt-5-mini": (300, 150)}
        write_run(f"two-{seed}", TWO, (0.25,), made=made, journal=journal, seed=seed, measurement=measurement)
    (row,) = found()
    after, otherwise = (seeds * number for number in regressed)
    assert row.question == "COLT (stand-in): do regressions persist?"
    assert row.value == f"{after - otherwise:+.1f} points"
    assert row.basis == f"{after} % of 100 programs after a regression, {otherwise} % of 100 otherwise"
    low, high = map(float, row.interval.split(" to "))
    assert low < after - otherwise < high and row.conclusion == conclusion


def test_persistence_of_several_configurations_is_one_row_that_names_what_is_shown(
    write_run: WriteRun, found: Callable[[], list[Finding]]
) -> None:
    rates = {"2": (45, 10), "mine": (25, 25)}
    for seed in range(2):
        for model_set, (after, otherwise) in rates.items():
            journal = {"after_regression": 50, "after_rise": 50, "after_regression_regressed": after}
            journal |= {"after_rise_regressed": otherwise}
            facts = {"made": {"gpt-5-mini": (150, 75)}, "journal": journal, "seed": seed, "model_set": model_set}
            write_run(f"{model_set}-{seed}", TWO, (0.25,), **facts)
    *_, row = found()
    assert row.question == "Do regressions persist? 2 configurations" and row.value == "+0.0 to +70.0 points"
    assert row.basis == "200 programs after a regression, 200 otherwise"
    assert row.conclusion == "COLT (2 models, stand-in): regressions persist"


def test_a_run_that_a_limit_ended_is_not_taken_for_a_finished_one(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    add("colt_plus", 0, 0.25, stopped="limit")
    with pytest.raises(ConfigError, match="stopped at a limit of its budget; resume it with a higher one"):
        tidy()


def test_limits_depend_on_who_answered_and_how_it_was_timed(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    run_dir = write_run("a", TWO, (0.5,), llm_backend="openai", measurement="estimated")
    text = " ".join(limits(tidy()))
    assert "language models whose names" not in text and "latencies are estimated" in text
    assert "runs end after 1 samples" in text and "repeated measurements" not in text, "no noise was recorded"
    assert run_dir.exists()


def test_what_all_sections_say_is_said_once(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    add("colt_plus", 0, 0.25)

    def section(name: str, *said: str) -> Section:
        return Section(name, "title", tidy(), (), Findings([], list(said)), figures=(), tables=())

    said = shared_limits([section("one", "both.", "first."), section("two", "both.", "second.")])
    assert said == ["both.", "one: first.", "two: second."]


def test_a_tiny_real_model_is_no_evidence_and_a_stand_in_or_a_larger_one_is_not_called_tiny(
    write_run: WriteRun, tidy: Callable[[], Tidy]
) -> None:
    write_run("tiny", {"tiny": (1, 0)}, (0.5,), model_set="local", llm_backend="local")
    assert any("these have at most 0.135 billion parameters" in text for text in limits(tidy()))
    write_run("mini", {"gpt-5-mini": (1, 0)}, (0.5,), model_set="small", llm_backend="openai")
    assert not any("at most" in text for text in limits(tidy()))


def test_a_single_configuration_is_compared_with_nothing(
    write_run: WriteRun, found: Callable[[], list[Finding]], tidy: Callable[[], Tidy]
) -> None:
    write_run("large", {"gpt-5.2": (1, 0)}, (0.5,), model_set="large")
    assert found() == [] and not any("a run wins its pair" in text for text in limits(tidy()))


def test_notes_on_the_runs_are_among_the_limits(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    for model_set, calls in (("2", TWO), ("small", {"gpt-5-mini": (1, 0)})):
        write_run(model_set, calls, (0.5,), model_set=model_set, journal={"decisions": "tvm"})
    text = " ".join(limits(tidy()))
    assert "cannot show an effect of model sets" in text and "set by construction" in text
    assert "random sampling" not in text and "tuned on" not in text


def test_intervals_say_what_they_assume(add: AddRun, tidy: Callable[[], Tidy]) -> None:
    for seed in range(2):
        add("colt_plus", seed, 0.25)
        add("paper", seed, 0.5)
    (text,) = (text for text in limits(tidy()) if text.startswith("No fine ranking"))
    assert "2 seeds per workload" in text and "workloads equally noisy" in text
    assert any("a run wins its pair however small" in text for text in limits(tidy()))


def test_limits_count_the_seeds_of_every_workload_and_do_not_deny_intervals_of_shares(
    write_run: WriteRun, tidy: Callable[[], Tidy]
) -> None:
    write_run("one", TWO, (0.5,))
    assert any(text.endswith("so speedups have no interval.") for text in limits(tidy())), "shares of programs do"
    for seed in range(3):
        write_run(f"other-{seed}", TWO, (0.5,), workload="my_kernel", seed=seed)
    assert any("1 to 3 seeds per workload" in text for text in limits(tidy()))


def test_a_single_noise_floor_does_not_depend_on_the_workload(
    write_run: WriteRun, write_noise: WriteNoise, tidy: Callable[[], Tidy]
) -> None:
    write_noise([1.0, 2.0] * 10)
    write_run("one", TWO, (0.5,))
    (text,) = (text for text in limits(tidy()) if text.startswith("No small difference"))
    assert "differ by less than ×2.00. For a mean" in text
    write_noise([1.0, 3.0] * 10, workload="my_kernel")
    write_run("other", TWO, (0.5,), workload="my_kernel")
    (text,) = (text for text in limits(tidy()) if text.startswith("No small difference"))
    assert "less than ×2.00 to ×3.00, depending on the workload." in text


def test_findings_are_made_of_the_tables_that_were_written_and_read_back(
    add: AddRun, tidy: Callable[[], Tidy], tmp_path: Path
) -> None:
    for search in ("colt_plus", "paper"):
        add(search, 0, 0.5)
    findings = findings_of(tidy(), write_tables(tidy(), tmp_path / "out"))
    assert findings.limits == limits(tidy()) and len(findings.findings) == 1
    write_findings(findings, tmp_path / "out")
    assert read_findings(tmp_path / "out", "") == findings
    (tmp_path / "out" / "findings.json").write_text("{}")
    with pytest.raises(ConfigError, match="does not contain findings.*make it with: dvc repro tables@cpu"):
        read_findings(tmp_path / "out", "dvc repro tables@cpu")


def test_several_searches_are_told_from_model_sets_by_the_runs_alone(
    add: AddRun, tidy: Callable[[], Tidy], tmp_path: Path
) -> None:
    add("colt_plus", 0, 0.25)
    assert compared(tidy()) == MODEL_SETS
    sets = set(write_tables(tidy(), tmp_path / "one"))
    assert "ratios" in sets and "search_speedups" not in sets
    add("paper", 0, 0.5)
    assert compared(tidy()) == SEARCHES
    searches = set(write_tables(tidy(), tmp_path / "two"))
    assert "ratios" in searches and searches.isdisjoint({"speedups", "comparisons"})
