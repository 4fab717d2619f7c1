"""The cost of live calls, computed by hand from recordings of a few lines."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from colt_pipeline.config.compose import runs
from colt_pipeline.config.schema import Config, LLMConfig
from colt_pipeline.errors import ConfigError
from colt_pipeline.runs.events import Planted, Stepped
from colt_pipeline.runs.layout import run_directory
from colt_pipeline.serialization import canonical_json
from colt_pipeline.tools.forecast import (
    ASSUMED_CALL_SECS,
    BUILD_SECS,
    PARALLEL,
    affordable_rounds,
    announce,
    forecast,
    in_rounds,
    is_live,
    main,
    recorded,
    table,
)
from tests.support import HEADER, ROOT, Compose
from tests.toy import call
from tests.toy_run import STARTED, child

LIVE = ("experiment=cpu", "workload=flux_conv", "model_set=2", "search.sample=program", "stand_ins=false")
LARGE, SMALL = (2.0, 10.0), (0.5, 4.0)
"""USD per million prompt and completion tokens."""


def record(
    results: Path,
    run: str,
    calls: list[tuple[str, int, int]],
    samples: int,
    measurement: str = "measured",
    backend: str = "embedded",
) -> None:
    """Write a recording; `calls` are (model, prompt tokens, completion tokens), 2 s each; programs run for 0.5 s."""
    directory = results / "recordings" / "a-device" / run
    directory.mkdir(parents=True)
    ledger = [{**HEADER, "measurement": measurement}]
    ledger += [{"program": str(number), "run_secs": [0.2, 0.3]} for number in range(samples + 1)]
    ledger += [{"program": "0", "round": 1, "run_secs": [9.0]}]  # a confirmation is no sample
    answers = [
        {"key": f"{number:020x}", "model": model, "text": "{}", "prompt_tokens": prompt, "completion_tokens": answer}
        | {"backend": backend, "provider_model": model, "latency_secs": 2.0}
        for number, (model, prompt, answer) in enumerate(calls)
    ]
    unasked = {"key": "f" * 20, "model": "gpt-5.2", "limit": "budget.run.calls=5"}
    for name, lines in (("measurements.jsonl", ledger), ("llm.jsonl", [*answers, unasked])):
        (directory / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


def priced(config: Config) -> Config:
    """The configuration with this module's prices."""
    models = dict(config.models)
    for name, (per_input, per_output) in (("gpt-5.2", LARGE), ("gpt-5-mini", SMALL)):
        model = models[name]
        assert model.prices is not None
        models[name] = replace(model, sampling={}, prices=replace(model.prices, input=per_input, output=per_output))
    return replace(config, models=models, llm=LLMConfig(1.0, 1000, None, None, 1))


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    recorded.cache_clear()


def test_a_run_is_scaled_from_its_recording_by_hand(composed: Compose) -> None:
    config = priced(composed(*LIVE, "samples=20"))
    calls = [("gpt-5.2", 1000, 100)] * 2 + [("gpt-5-mini", 2000, 10)] * 3
    record(Path(config.results), "cpu/flux_conv/cpu-paper-2-gpt-5.2-n10-s0", calls, 10)
    found = forecast(config)
    assert (found.likely.calls, found.likely.prompt_tokens, found.likely.completion_tokens) == (10, 16_000, 460)
    # 4 calls of the large model, 6 of the small one
    assert found.likely.usd == pytest.approx((4 * (1000 * 2 + 100 * 10) + 6 * (2000 * 0.5 + 10 * 4)) / 1e6)
    assert found.longest.usd == pytest.approx((4 * (1000 * 2 + 1000 * 10) + 6 * (2000 * 0.5 + 1000 * 4)) / 1e6)
    on_device = 20 * (11 * 0.5 / 10 + BUILD_SECS)  # the unoptimized program runs too
    assert found.hours * 3600 == pytest.approx(on_device + 10 * ASSUMED_CALL_SECS)
    assert found.basis == "the same run with other samples or seeds (1 recorded runs, 10 samples)"


def test_seconds_of_calls_are_those_of_recorded_live_ones(composed: Compose) -> None:
    config = composed(*LIVE, "samples=20")
    run = "cpu/flux_conv/cpu-paper-2-gpt-5.2-n10-s0"
    record(Path(config.results), run, [("gpt-5.2", 1, 1)] * 5, 10, "estimated", "openai")
    assert forecast(config).hours * 3600 == pytest.approx(10 * 2.0), "nothing is built where latencies are estimated"


def test_concurrent_calls_shorten_the_wait_and_the_device_works_meanwhile(composed: Compose) -> None:
    run = "cpu/flux_conv/cpu-paper-2-gpt-5.2-n10-s0"
    config = composed(*LIVE, "samples=20", "llm.concurrency=8")
    record(Path(config.results), run, [("gpt-5.2", 1, 1)] * 50, 10, "measured", "openai")
    calls, on_device = 100 * 2.0, 20 * (11 * 0.5 / 10 + BUILD_SECS)
    assert on_device < calls / (1 + PARALLEL * 7)
    assert forecast(config).hours * 3600 == pytest.approx(calls / (1 + PARALLEL * 7))
    assert "with 8 calls at the same time" in table([forecast(config)])
    all_at_once = replace(config, llm=replace(config.llm, concurrency=64))
    assert forecast(all_at_once).hours * 3600 == pytest.approx(on_device), "the device is the bottleneck now"
    alone = replace(config, llm=replace(config.llm, concurrency=1))
    assert forecast(alone).hours * 3600 == pytest.approx(calls + on_device)


def test_what_is_recorded_is_not_paid_again(composed: Compose) -> None:
    config = composed(*LIVE, "samples=10")
    record(Path(config.results), f"cpu/{config.run}", [("gpt-5.2", 1000, 100)] * 6, 6)
    assert forecast(config).likely.calls == pytest.approx(4), "ten samples, six of them recorded"
    assert forecast(replace(config, samples=6)).likely.calls == 0
    assert forecast(replace(config, samples=6)).basis == ""
    again = composed(*LIVE, "samples=10", "record=all")
    assert forecast(again).likely.calls == pytest.approx(10)


def test_a_run_by_calls_is_complete_although_some_led_to_no_program(composed: Compose) -> None:
    config = composed(*LIVE, "samples=6", "search.sample=call")
    record(Path(config.results), f"cpu/{config.run}", [("gpt-5.2", 1000, 100)] * 6, 4)
    assert forecast(config).basis == ""


def test_of_an_unfinished_run_by_calls_the_journal_says_which_calls_count(composed: Compose) -> None:
    config = composed(*LIVE, "samples=6", "search.sample=call")
    record(Path(config.results), f"cpu/{config.run}", [("gpt-5.2", 1000, 100)] * 6, 4)
    journal = run_directory(config.results, "cpu", config.run) / "events.jsonl"
    journal.parent.mkdir(parents=True)
    altered = Stepped(0, 1, (call("small"), call("large", role="course_alteration")), None, None, None, "small")
    events = [STARTED, Planted((child("a", "small", (4, 4), 0.5, 0.5),)), *(replace(altered, step=n) for n in range(3))]
    journal.write_text("".join(canonical_json(event.to_json()) + "\n" for event in events))
    assert forecast(config).likely.calls == pytest.approx(3), "three of the six answers were course alterations"


def test_a_run_that_ended_before_its_first_batch_foretells_nothing(composed: Compose) -> None:
    config = composed(*LIVE, "samples=10")
    record(Path(config.results), f"cpu/{config.run}", [("gpt-5.2", 1000, 100)] * 2, 0)
    with pytest.raises(ConfigError, match="there is no recording"):
        forecast(config)
    record(Path(config.results), "x/flux_conv/cpu-paper-2-gpt-5.2-n5-s7", [("gpt-5-mini", 200, 0)] * 5, 5)
    recorded.cache_clear()
    assert forecast(config).basis.startswith("the same run of other experiments")


def test_a_model_set_whose_models_were_exchanged_is_another(composed: Compose) -> None:
    config = composed(*LIVE, "samples=10")
    record(Path(config.results), "cpu/flux_conv/cpu-paper-2-gpt-5.2-n5-s7", [("qwen3-14b", 100, 0)] * 5, 5)
    assert "divided evenly" in forecast(config).basis


def test_calls_of_other_models_are_divided_evenly(composed: Compose) -> None:
    config = priced(composed("workload=flux_conv", "search=colt", "model_set=2", "stand_ins=false", "samples=10"))
    run = "search/flux_conv/cpu-colt-8-gpt-5.2-n5-s0"
    record(Path(config.results), run, [("qwen3-8b", 1000, 0), ("gpt-5.2", 3000, 0)], 5)
    found = forecast(config)
    assert (found.likely.calls, found.likely.prompt_tokens) == (4, 8_000)
    assert found.likely.usd == pytest.approx((2 * 2000 * 2 + 2 * 2000 * 0.5) / 1e6)
    assert found.basis.startswith("the same search of this workload") and "divided evenly" in found.basis


def test_the_nearest_recordings_are_taken(composed: Compose) -> None:
    config = composed(*LIVE, "search=paper", "samples=10")
    results = Path(config.results)
    for run, prompt, basis in (
        ("x/flux_attention/cpu-paper-2-gpt-5.2-n5-s0", 100, "the same search of other workloads"),
        ("x/flux_conv/cpu-paper-8-gpt-5.2-n5-s0", 200, "the same search of this workload"),
        ("x/flux_conv/cpu-paper-2-gpt-5.2-n5-s7", 300, "the same run of other experiments"),
        ("cpu/flux_conv/cpu-paper-2-gpt-5.2-n5-s7", 400, "the same run with other samples or seeds"),
    ):
        record(results, run, [("gpt-5.2", prompt, 0), ("gpt-5-mini", prompt, 0)], 5)
        recorded.cache_clear()
        found = forecast(config)
        assert found.basis.startswith(basis)
        assert (found.likely.prompt_tokens, found.likely.calls) == (4 * prompt, 4)


def test_a_search_that_was_never_recorded_is_taken_for_one_with_like_prompts(composed: Compose) -> None:
    config = composed(*LIVE, "search=router_ucb", "samples=10")
    for run, prompt, basis in (
        ("x/flux_attention/cpu-colt_plus-2-gpt-5.2-n5-s0", 100, "search=colt_plus of other workloads"),
        ("x/flux_conv/cpu-colt_plus-2-gpt-5.2-n5-s0", 200, "search=colt_plus of this workload"),
        ("x/flux_attention/cpu-router_ucb-2-gpt-5.2-n5-s0", 300, "the same search of other workloads"),
    ):
        record(Path(config.results), run, [("gpt-5.2", prompt, 0), ("gpt-5-mini", prompt, 0)], 5)
        recorded.cache_clear()
        assert forecast(config).basis.startswith(basis)


def test_nothing_recorded_is_a_message(composed: Compose) -> None:
    with pytest.raises(ConfigError, match="there is no recording below .*flux_conv"):
        forecast(composed(*LIVE))


def test_who_is_live(composed: Compose) -> None:
    assert is_live(composed(*LIVE)) and is_live(composed("experiment=local"))
    for quiet in ((), ("search=evolutionary", "stand_ins=false"), ("search=random_proposer", "stand_ins=false")):
        assert not is_live(composed(*quiet))
    assert not is_live(composed(*LIVE, "record=replay"))


def test_the_table_says_that_it_is_an_estimate_and_what_is_free(composed: Compose) -> None:
    config = composed("experiment=local")
    record(Path(config.results), "local/llama3_8b_attention/cpu-colt-8-gpt-5.2-n5-s0", [("gpt-5.2", 100, 10)], 5)
    words = table([forecast(config), forecast(config)])
    assert words.startswith("forecast (an estimate): 2 runs")
    assert "no price, counted as free: smollm2-135m-instruct" in words
    assert "may write (max_tokens: 256)" in words and "divided evenly" in words


def test_a_sweep_is_announced_before_it_starts_and_only_where_it_is_live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, "cpu/flux_conv/cpu-paper-2-gpt-5.2-n10-s0", [("gpt-5.2", 1000, 100)] * 5, 10)
    command = [*LIVE[:-1], f"results={tmp_path}"]
    announce(runs([*command, "stand_ins=false", "seed=0,1"]))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("forecast (an estimate): 2 runs, 0 of them completely recorded")
    assert lines[-1].startswith("from: the same run")
    announce(runs(command))
    announce(runs([*command, "stand_ins=false", "record=replay"]))
    announce([])
    assert capsys.readouterr() == ("", "")
    announce(runs([*command, "stand_ins=false", f"results={tmp_path / 'none'}"]))
    assert capsys.readouterr().err.startswith("no forecast: there is no recording below")


def test_the_command_prints_a_forecast_or_says_why_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, "cpu/flux_conv/cpu-paper-2-gpt-5.2-n48-s0", [("gpt-5.2", 1000, 100)] * 24, 48)
    chosen = ["experiment=cpu", "workload=flux_conv", "model_set=2", "search.sample=program", f"results={tmp_path}"]
    assert main([*chosen, "budget=paper"]) == 0
    assert "10    5000   5.00    0.50" in capsys.readouterr().out
    assert main(chosen) == 0
    assert capsys.readouterr().out.startswith("nothing to pay")
    assert main(["experiment=cpu", "budget=huge"]) == 1
    assert "Could not find 'budget/huge'" in capsys.readouterr().err
    assert main(["workload=flux_conv", "stand_ins=false", f"results={tmp_path / 'none'}"]) == 1
    assert "error: there is no recording below" in capsys.readouterr().err


def test_the_command_reads_the_recordings_as_they_are_committed(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["experiment=cpu", "workload=flux_conv", "model_set=2", "budget=paper"]
    assert main([*chosen, f"results={ROOT / 'results'}"]) == 0
    head, _, row, *_, basis = capsys.readouterr().out.splitlines()
    assert "10 runs, 0 of them completely recorded" in head and "(1 recorded runs, " in basis
    *_, calls, prompts, answers, usd, _, _ = (float(cell) for cell in row.split()[2:])
    assert min(calls, prompts, answers, usd) > 0


SWEEP = ("experiment=live", "workload=flux_conv", "model_set=2", "seed=3,1,2", "samples=10", "search.sample=program")


def sweep(results: Path, *more: str) -> list[str]:
    """A sweep of three seeds, and a recording from which a run is expected to take 2 calls to each of two models."""
    calls = [("gpt-5.2", 100_000, 0), ("gpt-5-mini", 100_000, 0)]
    record(results, "cpu/flux_conv/cpu-paper-2-gpt-5.2-n5-s0", calls, 5)
    return [*SWEEP, f"results={results}", *more]


def pay(results: Path, usd: float, place: str = "a-device/live/any/run") -> None:
    """An account of one attempt."""
    path = results / "recordings" / place / "spend.jsonl"
    path.parent.mkdir(parents=True)
    attempt = {"attempt": 0, "model": "gpt-5.2", "prompt_tokens": 1, "completion_tokens": 1, "usd": usd, "secs": 1.0}
    path.write_text(f"{json.dumps({'prices': {}})}\n{json.dumps(attempt)}\n")


def test_a_live_sweep_with_a_limit_runs_seed_by_seed_whatever_the_order_of_its_keys() -> None:
    rounds = in_rounds(runs(["experiment=live"]))
    assert [{config.seed for config in each} for each in rounds] == [{seed} for seed in range(10)]
    first = [(config.workload.name, config.model_set) for config in rounds[0]]
    assert first == list(product(("llama3_8b_attention", "deepseek_r1_moe"), ("small", "large", "2", "4", "8")))
    for quiet in (["record=replay"], ["stand_ins=true"], ["budget.sweep.usd=null"]):
        assert len(in_rounds(runs([*SWEEP, *quiet]))) == 1
    inner = runs([*SWEEP[:3], "samples=10,12", "seed=0,1"])
    assert [[config.samples for config in each] for each in in_rounds(inner)] == [[10, 12], [10, 12]]
    assert in_rounds([]) == [[]]


@pytest.mark.parametrize(("limit", "allowed"), [("50", "3,1,2"), ("0.95", "3,1"), ("0.5", "3"), ("0.3", "")])
def test_a_round_that_is_expected_to_cost_more_than_what_is_left_is_not_begun(
    limit: str, allowed: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 2 calls to each model: 2 * 100 000 tokens at 1.75 and 0.25 USD per million are 0.4 USD a round.
    command = sweep(tmp_path, f"budget.sweep.usd={limit}")
    configs = runs(command)
    begun = []
    for number, arguments in enumerate(affordable_rounds(configs, command)):
        assert arguments[:-1] == command
        begun.append(arguments[-1].removeprefix("seed="))
        pay(tmp_path, 0.4, f"a-device/live/any/run{number}")
    assert ",".join(begun) == allowed
    said = capsys.readouterr().err
    if allowed == "3,1,2":
        assert not said
    else:
        left = float(limit) - 0.4 * len(begun)
        assert said.startswith(
            f"the round of seed={[3, 1, 2][len(begun)]} is not begun: budget.sweep.usd={limit} leaves"
        )
        assert f"leaves {left:g}, 0.4 are expected; the same command with a higher limit goes on" in said


def test_what_the_first_round_has_recorded_is_what_the_next_one_is_expected_to_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = sweep(tmp_path, "budget.sweep.usd=1")
    rounds = affordable_rounds(runs(command), command)
    assert next(rounds)[-1] == "seed=3"
    run = "live/flux_conv/cpu-paper-2-gpt-5.2-n10-s3"
    record(tmp_path, run, [("gpt-5.2", 100_000, 20_000), ("gpt-5-mini", 100_000, 0)] * 2, 10, backend="openai")
    pay(tmp_path, 0.96)
    assert list(rounds) == []
    assert "leaves 0.04, 0.96 are expected" in capsys.readouterr().err


def test_without_a_limit_or_a_forecast_nothing_holds_a_round_back(tmp_path: Path) -> None:
    free = sweep(tmp_path, "budget.sweep.usd=null")
    assert list(affordable_rounds(runs(free), free)) == [free]
    unknown = [*SWEEP, f"results={tmp_path / 'none'}", "budget.sweep.usd=0.1"]
    assert [arguments[-1] for arguments in affordable_rounds(runs(unknown), unknown)] == ["seed=3", "seed=1", "seed=2"]


def test_a_sweep_in_rounds_says_in_which_order_and_how_many_its_limit_pays_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pay(tmp_path, 0.1)
    pay(tmp_path, 0.1, "checks/live")
    announce(runs(sweep(tmp_path, "budget.sweep.usd=1.1")))
    *_, order, head, first = capsys.readouterr().err.splitlines()
    assert order == (
        "rounds: 3, one after the other for seed=3,1,2; budget.sweep.usd=1.1 is expected to pay for 2 of them, and a "
        "round that is expected to take more than is left is not begun"
    )
    assert (head, first) == ("the first round, in this order:", "  flux_conv/cpu-paper-2-gpt-5.2-n10-s3")
    announce(runs([*SWEEP, f"results={tmp_path / 'none'}"]))
    unknown, order, *_ = capsys.readouterr().err.splitlines()
    assert (
        unknown.startswith("no forecast: there is no recording") and "budget.sweep.usd=50 pays for an unknown" in order
    )


def test_a_discount_for_cached_prompts_counts_only_where_it_was_recorded(composed: Compose, tmp_path: Path) -> None:
    config = composed(*LIVE, "samples=10")
    results = Path(config.results)
    record(results, "cpu/flux_conv/cpu-paper-2-gpt-5.2-n10-s3", [("gpt-5.2", 1000, 0)], 10, backend="openai")
    answers = next(results.rglob("llm.jsonl"))
    full = forecast(config).likely.usd
    answers.write_text(
        answers.read_text().replace('"prompt_tokens": 1000', '"prompt_tokens": 1000, "cached_tokens": 600')
    )
    recorded.cache_clear()
    assert full == pytest.approx(1000 * 1.75 / 1e6)
    assert forecast(config).likely.usd == pytest.approx((400 * 1.75 + 600 * 0.175) / 1e6)
    paper = ("search=paper", "search.sample=program", "model_set=small", "samples=10")
    other = composed("workload=flux_conv", "stand_ins=false", *paper)
    assert forecast(other).likely.usd == pytest.approx(1000 * 0.25 / 1e6), (
        "another model's, and perhaps another server's"
    )
