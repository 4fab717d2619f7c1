"""Committed experiments keep their names and configurations; budgets apply to every experiment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from colt_pipeline.config.arguments import CommandLine
from colt_pipeline.config.compose import composed as of_project
from colt_pipeline.config.compose import possible_runs, runs
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import EMBEDDED
from colt_pipeline.runs.costs import configured_prices
from colt_pipeline.serialization import digest
from tests.support import ROOT, Compose

NAMES = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))
CPU_2 = "a2d11d9677d054eff993a027c91f5450578bbf1f593d665d51aee48826d3249b"
LOCAL = "60e39969a15cd1a835b42831adaf7c25267adba741c80cbaa9bcb11321c2a296"
"""Digests of two recorded configurations."""
PAPER_SETS = ("small", "large", "2", "4", "8")


def test_experiment_cpu_makes_the_recorded_runs() -> None:
    made = {config.run for config in runs(["experiment=cpu", "workload=llama3_8b_attention"])}
    recorded = (ROOT / "results" / "recordings").glob("*/cpu/llama3_8b_attention/*")
    assert made == {f"llama3_8b_attention/{path.name}" for path in recorded}
    assert len(made) == len(PAPER_SETS)


def test_a_recorded_run_keeps_the_bytes_of_its_configuration() -> None:
    assert digest(of_project(["experiment=cpu", "model_set=2"]).identity()) == CPU_2
    assert digest(of_project(["experiment=local"]).identity()) == LOCAL


@pytest.mark.parametrize("name", NAMES)
def test_every_experiment_is_named_as_its_file(composed: Compose, name: str) -> None:
    assert composed(f"experiment={name}").experiment == name


def test_the_ablations_are_experiment_cpu_but_for_what_they_ablate(composed: Compose) -> None:
    cpu, llama, gpu = (composed(f"experiment={name}").identity() for name in ("cpu", "largest_llama70b", "gpu"))
    # until it is recorded anew with prompts and rules of today
    older = {"samples", "search", "prompt"}
    assert {key for key in cpu if cpu[key] != llama[key]} == {
        "experiment",
        "run",
        "largest",
        "models",
        "model_sets",
    } | older
    assert {key for key in cpu["search"] if cpu["search"][key] != llama["search"].get(key)} == {
        "run_name",
        "sample",
        "legacy",
    }
    assert {key for key in cpu if cpu[key] != gpu[key]} == {"experiment", "run", "target"}


def test_what_is_measured_on_a_gpu_is_never_estimated_and_its_cost_model_learns() -> None:
    measured, estimated = (
        of_project([f"experiment={name}", "workload=flux_conv", "model_set=8"]) for name in ("gpu_measured", "gpu")
    )
    searches = runs(["experiment=gpu_searches", "workload=flux_conv"])
    for config in (measured, *searches):
        assert (config.device, config.target) == ("local", estimated.target)
    assert (measured.samples, {config.samples for config in searches}) == (32, {24})
    assert measured.search.warmup_samples + measured.search.batch_size < measured.samples
    assert {config.search.name for config in searches} == {"colt", "evolutionary"}
    ours, theirs = measured.identity(), estimated.identity()
    assert {key for key in ours if ours[key] != theirs[key]} == {"experiment", "run", "samples", "search"}


@pytest.mark.parametrize(
    ("budget", "samples", "warmup", "stand_ins"),
    [("default", 64, 16, True), ("smoke", 8, 4, True), ("quick", 64, 16, True), ("paper", 1000, 100, False)],
)
def test_a_budget_goes_before_the_sizes_of_an_experiment(
    composed: Compose, budget: str, samples: int, warmup: int, stand_ins: bool
) -> None:
    config = composed("experiment=cpu", f"budget={budget}")
    assert (config.samples, config.search.warmup_samples, config.stand_ins) == (samples, warmup, stand_ins)
    assert config.search.name == "paper"
    assert composed("experiment=cpu", f"budget={budget}", "samples=5").samples == 5


def test_a_budget_repeats_an_experiment_over_seeds() -> None:
    made = [config.run for config in runs(["experiment=gpu", "workload=flux_conv", "model_set=2,8", "budget=quick"])]
    assert made == [f"flux_conv/gpu-paper-{models}-gpt-5.2-n64-s{seed}" for models in (2, 8) for seed in range(3)]
    ten = runs(["experiment=cpu", "workload=flux_conv", "model_set=large", "budget=paper"])
    assert [config.seed for config in ten] == list(range(10))
    assert [config.seed for config in runs(["budget=paper", "seed=3"])] == [3]


def test_smoke_is_one_small_workload_whatever_the_experiment() -> None:
    (config,) = runs(["experiment=cpu", "budget=smoke"])
    assert (config.workload.name, config.workload.shape["inner"], config.samples) == ("deepseek_r1_moe", 128, 8)
    assert len(runs(["experiment=controls", "budget=smoke"])) == 8


def test_an_unknown_budget_is_named_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError) as raised:
        of_project(["budget=huge"])
    assert re.search(r"Could not find 'budget/huge'.*default\s+paper\s+quick\s+smoke", str(raised.value), re.DOTALL)
    assert str(ROOT) not in str(raised.value)


def test_a_glob_means_what_hydra_means_by_it() -> None:
    assert [config.workload.name for config in runs(["workload=glob(flux*)"])] == ["flux_attention", "flux_conv"]


@pytest.mark.parametrize("name", ["plain", "two words", "é, a=[1]", "it's", 'a "quote"'])
def test_a_directory_of_ones_own_models_is_found(tmp_path: Path, name: str) -> None:
    models = tmp_path / name / "models"
    models.mkdir(parents=True)
    spec = "{provider: local, api_model: fake, parameters_b: 3, assumed: false, context_length: 8192}"
    (models / "mine.yaml").write_text(f"mine: {spec[:-1]}, json_schema: true, extra: {{}}, prices: null}}\n")
    chosen = ["+models@models=mine", "+model_sets.own=[mine]", "model_set=own", "largest=mine"]
    (config,) = runs(chosen, tmp_path / name)
    assert [(model.name, model.provider) for model in config.model_specs] == [("mine", "local")]


@pytest.mark.parametrize("name", NAMES)
def test_values_that_are_set_on_a_kept_composition_are_as_hydra_sets_them(composed: Compose, name: str) -> None:
    chosen = [f"experiment={name}", "results=r", "pretraining=p", "workload=flux_conv"]
    values = ["samples=7", "model_set=2", "largest=gpt-5.2", "llm={temperature: 0.5}", "+search.x=1", "~search.x"]
    assert of_project([*chosen, *values]) == composed(*chosen, *values)


def test_runs_that_share_a_composition_are_each_as_if_alone(composed: Compose) -> None:
    fixed = ["experiment=cpu", "results=r", "pretraining=p", "seed=0"]
    made = runs([*fixed, "workload=flux_conv,llama4_scout_mlp", "model_set=2,8", "samples=5,6"])
    assert made == [
        composed(*fixed, f"workload={workload}", f"model_set={models}", f"samples={samples}")
        for workload in ("flux_conv", "llama4_scout_mlp")
        for models in (2, 8)
        for samples in (5, 6)
    ]


def test_a_value_that_cannot_be_set_is_the_message_of_hydra() -> None:
    for wrong, message in (("typo=1", r"Could not override 'typo'"), ("+samples=3", "item is already at 'samples'")):
        with pytest.raises(ConfigError, match=message):
            of_project([wrong])
        with pytest.raises(ConfigError, match=message):
            possible_runs(CommandLine((wrong,)))


@pytest.mark.parametrize("seed", ["abc", "null", "1.5"])
def test_a_bad_seed_is_a_message_and_its_runs_are_not_possible(seed: str) -> None:
    with pytest.raises(ConfigError, match=f"seed={seed} is not an integer"):
        runs([f"seed={seed}"])
    assert possible_runs(CommandLine((f"seed={seed}",))) == []


def test_the_possible_runs_of_a_sweep_are_those_without_an_impossible_value() -> None:
    assert [config.model_set for config in possible_runs(CommandLine(("model_set=3,small",), multirun=True))] == [
        "small"
    ]


def test_live_is_the_papers_experiment_with_real_models_and_its_limit_stays_with_every_budget() -> None:
    made = runs(["experiment=live"])
    assert len(made) == 10 * 2 * len(PAPER_SETS)
    assert {(config.search.name, config.target.kind, config.budget.sweep.usd) for config in made} == {
        ("paper", "llvm", 50.0)
    }
    assert all(model.provider in config.providers for config in made for model in config.model_specs)
    assert {config.budget.sweep.usd for config in runs(["experiment=live", "budget=smoke"])} == {50.0}
    cpu, live = (
        of_project([f"experiment={name}", "workload=deepseek_r1_moe", "model_set=8", *more]).identity()
        for name, more in (("cpu", []), ("live", ["stand_ins=true"]))
    )
    # what may be compared with stand-ins, once cpu is recorded anew with prompts and rules of today
    assert {key for key in cpu if cpu[key] != live[key]} == {"experiment", "run", "samples"}


def test_one_key_is_enough_for_the_models_of_openai_or_for_all_through_openrouter() -> None:
    openai = of_project(["model_set=openai", "stand_ins=false"])
    assert {model.provider for model in openai.model_specs} == {"openai"} and len(openai.model_specs) == 3
    assert all(model.assumed for model in openai.model_specs)
    for largest in ("gpt-5.2", "llama-3.3-70b-instruct"):
        config = of_project(["via=openrouter", "model_set=8", "stand_ins=false", f"largest={largest}"])
        assert {model.provider for model in config.model_specs} == {"openrouter"}
        assert all("/" in model.api_model for model in config.model_specs)
        assert all(price is not None and price.output > 0 for price in configured_prices(config).values())


def test_how_models_are_reached_and_what_they_need_changes_no_question_to_their_stand_ins() -> None:
    direct, routed = (of_project(["model_set=8", f"via={via}"]) for via in ("each", "openrouter"))
    assert direct.identity() == routed.identity()
    for model in direct.model_specs:
        assert (model.provider, model.api_model) == (EMBEDDED, model.name)
        assert not (model.extra or model.sampling or model.output_limit or model.json_schema)


def test_models_that_reason_have_room_for_it_and_are_not_sent_what_they_refuse() -> None:
    models = {m.name: m for m in of_project(["model_set=8", "stand_ins=false"]).model_specs}
    for name in ("gpt-5.2", "gpt-5-mini"):
        assert models[name].sampling["temperature"] is None and models[name].extra["reasoning_effort"] == "low"
    reasoning = [name for name, model in models.items() if model.sampling.get("max_tokens") == 8192]
    assert {*models} - {*reasoning} == {"devstral-small-2505", "llama-3.1-8b-instruct"}
