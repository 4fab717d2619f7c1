"""The sentences that lead a report: made of the numbers, and claiming no more than they show."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from colt_pipeline.analysis.report.lead import (
    MOST,
    against_peers,
    against_random,
    against_tvm,
    alterations,
    beyond_noise,
    final_speedups,
    leads,
    on_gpu,
    on_unseen,
    who_is_called,
    whole_models,
)
from colt_pipeline.analysis.tidy import Tidy, aggregate
from colt_pipeline.workloads import PAPER
from tests.analysis.conftest import WriteNoise, WriteRun
from tests.analysis.test_end_to_end import summary

TWO = {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}
RANDOM_SAMPLES = {"random_samples": 64}


@pytest.fixture
def tidy(tmp_path: Path) -> Callable[[], Tidy]:
    return lambda: aggregate(tmp_path / "runs", tmp_path / "noise" if (tmp_path / "noise").exists() else None)


def pairs(write_run: WriteRun, ours: float, theirs: float, search: str = "evolutionary", spread: float = 1.02) -> None:
    """Three seeds of COLT+ and of another search with these latencies."""
    for seed in range(3):
        write_run(f"colt-{seed}", TWO, (1.0, ours * spread**seed), search="colt_plus", seed=seed)
        write_run(f"other-{seed}", TWO, (1.0, theirs), search=search, seed=seed, journal=RANDOM_SAMPLES)


def sets(write_run: WriteRun, seeds: int = 1, **changes: str) -> None:
    """The single large model with speedup 4, and two models with speedup 10."""
    for seed in range(seeds):
        facts = {"seed": seed, **changes}
        write_run(f"large-{seed}", {"gpt-5.2": (4, 0)}, (0.5, 0.25), model_set="large", **facts)
        write_run(f"two-{seed}", TWO, (0.5, 0.1), **facts)


def test_without_experiments_there_is_no_sentence() -> None:
    assert leads({}, []) == []


def test_the_range_of_speedups_is_no_ranking_with_one_seed(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    sets(write_run)
    said = final_speedups(tidy())
    assert "After 2 samples" in said and "2 configurations" in said and "ones, on FLUX convolution; " in said
    assert "2 configurations (stand-ins) run 4.00 to 10.0 times as fast" in said
    assert "one seed gives no ranking, and stand-ins say nothing about the models" in said


def test_with_several_seeds_their_number_is_said(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    sets(write_run, seeds=2)
    assert "2 seeds" in final_speedups(tidy()) and "ranking" not in final_speedups(tidy())


def test_a_workload_with_one_seed_allows_no_ranking(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    sets(write_run, seeds=2)
    for model_set, calls in (("large", {"gpt-5.2": (4, 0)}), ("2", TWO)):
        write_run(f"other-{model_set}", calls, (0.5,), model_set=model_set, workload="my_kernel")
    assert "; 1 to 2 seeds give no ranking" in final_speedups(tidy())


def test_speedups_of_estimates_are_called_so(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    sets(write_run, measurement="estimated", llm_backend="openai")
    assert final_speedups(tidy()).endswith("; one seed gives no ranking; latencies are computed, not measured.")


def test_a_single_configuration_has_no_range(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    write_run("two", TWO, (0.5,))
    assert final_speedups(tidy()) == on_gpu(tidy(), None) == ""


def test_only_a_measured_gpu_is_reported_and_the_estimated_one_is_called_so(
    write_run: WriteRun, tidy: Callable[[], Tidy]
) -> None:
    sets(write_run, target="gpu", device="some-gpu")
    said = on_gpu(tidy(), None)
    assert said.startswith("Measured on some-gpu, ") and "not measured" not in said
    assert "latencies for the paper's RTX 2080 Ti are computed, not measured" in on_gpu(tidy(), tidy())


def test_an_estimate_makes_no_sentence_about_a_gpu(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    sets(write_run, target="gpu", measurement="estimated")
    assert on_gpu(tidy(), None) == ""


def test_calls_and_alterations_stand_beside_the_papers(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    for workload in PAPER:
        write_run(workload, {"gpt-5.2": (10, 6), "gpt-5-mini": (30, 0)}, (0.5,), workload=workload)
    said = who_is_called(tidy())
    assert (
        "COLT (2 models, stand-in), gpt-5.2 (stand-in) answers 25.0 % of the regular calls (the paper: 27.4 %)" in said
    )
    assert (
        "34.8 % of all calls, course alterations included (the paper: 35.1 %)" in said and "set by construction" in said
    )
    said = alterations(tidy())
    assert "after 20.0 % of the small models' calls (the paper: 16.2 %)." in said
    assert "regression" not in said, "unknown without journals"


def test_real_models_choose_themselves(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    for workload in PAPER:
        write_run(
            workload, {"gpt-5.2": (10, 6), "gpt-5-mini": (30, 0)}, (0.5,), workload=workload, llm_backend="openai"
        )
    assert "by construction" not in who_is_called(tidy()) and "stand-in" not in who_is_called(tidy())


@pytest.mark.parametrize(
    ("after", "otherwise", "seeds", "verdict"),
    [
        ((44, 100), (45, 100), 2, "no persistence shown"),
        ((90, 100), (20, 100), 2, "regressions persist"),
        ((20, 100), (90, 100), 2, "regressions are rarer after one"),
        ((90, 100), (20, 100), 1, "one seed: no verdict"),
    ],
)
def test_persistence_is_said_to_be_shown_only_if_the_interval_shows_it(
    after: tuple[int, int],
    otherwise: tuple[int, int],
    seeds: int,
    verdict: str,
    write_run: WriteRun,
    tidy: Callable[[], Tidy],
) -> None:
    counts = {"after_regression_regressed": after[0], "after_regression": after[1]}
    counts |= {"after_rise_regressed": otherwise[0], "after_rise": otherwise[1]}
    for workload in PAPER:
        for seed in range(seeds):
            made = {"gpt-5-mini": (200, after[0] + otherwise[0])}
            write_run(f"{workload}-{seed}", TWO, (0.5,), made=made, journal=counts, workload=workload, seed=seed)
    said = alterations(tidy())
    assert said.endswith(f"; {verdict}.")
    assert f"{after[0]} % of the programs regress again, otherwise {otherwise[0]} % do" in said


def test_a_whole_model_is_compared_like_for_like() -> None:
    models = [summary("small", ["gpt-5-mini"], 4.0, 200), summary("8", ["model"] * 8, 2.5, 100)]
    said = whole_models(models)
    assert "Llama-3-8B takes 40.0 s (sum over kernels) unoptimized, and 4.00 s with gpt-5-mini (stand-in)" in said
    assert "2.50 s with COLT+ (8 models, stand-in) (measured whole)" in said
    assert "like for like, it becomes 20.0 and 20.0 times as fast; one seed gives no ranking" in said
    assert [lead.name for lead in leads({}, models)] == ["whole-models"]


def test_against_tvm_says_until_when_that_is_random_sampling(
    write_run: WriteRun, write_noise: WriteNoise, tidy: Callable[[], Tidy]
) -> None:
    write_noise([1.0, 1.05] * 10)
    pairs(write_run, 0.1, 0.2)
    said = against_tvm(tidy())
    ratio, low, high = map(float, re.findall(r"run (\S+) times \(95 % interval (\S+) to ([\d.]+)\)", said)[0])
    assert 1 < low < ratio < high and ratio == pytest.approx(2 / 1.02, abs=0.01)
    assert said.startswith("After 2 samples the programs of COLT+ (stand-in) run ")
    assert "as fast as those of TVM's evolutionary search" in said
    assert said.endswith(
        ". TVM's evolutionary search is random sampling here: no measurement guides its first 64 samples."
    )


def test_the_best_peer_counts_at_each_number_of_samples(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    early, late = [0.4] * 8 + [0.4] * 8, [0.8] * 8 + [0.1] * 8
    for seed in range(3):
        write_run(f"ours-{seed}", TWO, tuple([0.2] * 16), search="colt_plus", seed=seed)
        for search, latencies in (("evolutionary_8", early), ("evolutionary_pretrained", late)):
            write_run(f"{search}-{seed}", TWO, tuple(latencies), search=search, seed=seed)
        write_run(f"random-{seed}", TWO, tuple([0.01] * 16), search="random_proposer", seed=seed)
    said = against_peers(tidy())
    both = [f"TVM's evolutionary search ({how}) (stand-in)" for how in ("batches of 8", "pretrained")]
    assert said.startswith(f"Compared with the best of {both[0]} and {both[1]} at each number of samples, the programs")
    assert "random" not in said
    assert "the programs of COLT+ (stand-in) run 2.00 times (" in said
    assert re.findall(r"([\d.]+) times \([^)]*\)(?: as fast)? after (\d+)", said) == [("2.00", "8"), ("0.50", "16")]
    assert [lead.about for lead in leads({"anytime": tidy()}, [])] == ["Against fair peers"]


def test_the_ratio_without_the_workloads_it_was_tuned_on_follows(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    for workload, latency in (("flux_conv", 0.1), ("flux_attention", 0.2)):
        write_run(f"{workload}-a", TWO, (latency,), search="colt_plus", workload=workload)
        write_run(f"{workload}-b", {"gpt-5-mini": (0, 0)}, (0.4,), search="evolutionary", workload=workload)
    assert "run 2.83 times (one seed: no verdict) as fast" in against_tvm(tidy())  # of 4 and 2
    assert "without the workloads it was tuned on 2.00 times (one seed: no verdict)" in against_tvm(tidy())


def test_a_search_that_is_slower_beyond_the_noise_is_a_difference_too(
    write_run: WriteRun, write_noise: WriteNoise, tidy: Callable[[], Tidy]
) -> None:
    write_noise([1.0, 1.05] * 10)
    pairs(write_run, 0.2, 0.1)
    assert "slower" not in against_tvm(tidy())
    assert "one shows a difference beyond" in beyond_noise(tidy())


def test_a_difference_within_its_interval_or_the_noise_is_not_called_one(
    write_run: WriteRun, write_noise: WriteNoise, tidy: Callable[[], Tidy]
) -> None:
    write_noise([1.0, 1.5] * 10)
    pairs(write_run, 0.1, 0.1, spread=1.0)
    assert "within noise" in against_tvm(tidy())
    assert beyond_noise(tidy()) == ""  # equal runs have no interval


def test_unknown_noise_is_said(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    pairs(write_run, 0.1, 0.2, "random_proposer")
    assert "noise unknown" in against_random(tidy())
    assert "this is what stand-ins' answers add to it, not what an LLM's would" in against_random(tidy())
    assert on_unseen(tidy()).startswith("On FLUX convolution, after 2 samples, the programs of COLT+ (stand-in) run ")


def test_differences_beyond_noise_are_counted(
    write_run: WriteRun, write_noise: WriteNoise, tidy: Callable[[], Tidy]
) -> None:
    write_noise([1.0, 1.05] * 10)
    pairs(write_run, 0.1, 0.2)
    for seed in range(3):
        write_run(f"near-{seed}", TWO, (1.0, 0.1 * 1.03 ** (1 - seed)), search="router_ucb", seed=seed)
        write_run(f"far-{seed}", TWO, (1.0, 0.3), search="random_proposer", seed=seed)
    said = beyond_noise(tidy())
    assert said.startswith("Of 3 comparisons of mean speedups after the last sample, 2 show a difference beyond")
    assert "TVM's evolutionary search" in said and "random proposer" in said and "router UCB" not in said
    assert said.endswith("The others show none; at 95 %, one in twenty may differ by chance.")


def test_what_cannot_be_judged_is_not_said_to_show_no_difference(
    write_run: WriteRun, write_noise: WriteNoise, tidy: Callable[[], Tidy]
) -> None:
    pairs(write_run, 0.1, 0.2)
    assert beyond_noise(tidy()) == "", "the noise is unknown"
    write_noise([1.0, 1.05] * 10)
    write_run("once", TWO, (1.0, 0.3), search="random_proposer")
    said = beyond_noise(tidy())
    assert said.startswith("Of 1 comparison of mean speedups after the last sample, one shows a difference beyond")
    assert "others" not in said and said.endswith(". At 95 %, one in twenty may differ by chance.")


def test_names_have_no_article(write_run: WriteRun, tidy: Callable[[], Tidy]) -> None:
    pairs(write_run, 0.1, 0.2, "my_search")
    assert "as fast as those of my_search (stand-in)." in on_unseen(tidy())


def test_only_so_many_sentences_lead_in_the_order_of_importance(
    write_run: WriteRun, write_noise: WriteNoise, tidy: Callable[[], Tidy]
) -> None:
    pairs(write_run, 0.1, 0.2)
    for seed in range(3):
        write_run(f"random-{seed}", TWO, (1.0, 0.2), search="random_proposer", seed=seed)
    write_noise([1.0, 1.05] * 10)
    names = ("unseen", "search", "gpu_measured", "cpu", "controls")
    found = leads(dict.fromkeys(names, tidy()), [summary("small", ["gpt-5-mini"], 4.0, 200)])
    assert len(found) == MOST and "Parts" not in found[-1].about, "the last one is left out"
    assert [lead.about for lead in found][:2] == ["The paper's experiment", "On a GPU"]
