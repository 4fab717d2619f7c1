"""Every model is asked once; each kind of failure is one line with the way out, and no line holds a key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.llm import retries
from colt_pipeline.runs.budget import spent
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.tools.check_models import NOTHING, main
from colt_pipeline.tools.forecast import recorded
from tests.llm.live import KEY
from tests.llm.server import BEHAVIOURS, Server, completion, misbehaving
from tests.tools.test_forecast import pay, record

ANSWER = '{"transformations": ["Unroll"], "next_model": "qwen3-8b"}'
MODELS = ("gpt-5-mini", "qwen3-8b")
"""One that is sent a schema, and one that is not."""


@pytest.fixture(autouse=True)
def _setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.setattr(retries, "_wait_secs", lambda state: 0.0)
    recorded.cache_clear()
    yield
    recorded.cache_clear()


def arguments(server: Server, results: Path, *more: str, key: str = "TEST_KEY") -> list[str]:
    served = {"base_url": server.base_url, "key_env": key, "timeout_secs": 5, "attempts": 2}
    return [
        *(f"providers.local.{name}={value}" for name, value in served.items()),
        *(f"models.{name}.provider=local" for name in MODELS),
        f"+model_sets.mine=[{','.join(MODELS)}]",
        "model_set=mine",
        f"results={results}",
        *more,
    ]


def check(capsys: pytest.CaptureFixture[str], server: Server, results: Path, *more: str) -> tuple[int, list[str]]:
    """Exit status and lines."""
    server.text = ANSWER
    status = main(arguments(server, results, *more))
    said = capsys.readouterr()
    assert KEY not in said.out + said.err
    return status, said.out.splitlines()


def test_what_works_is_one_line_per_model_and_costs_a_call_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with misbehaving() as server:
        status, (schema, free) = check(capsys, server, tmp_path, "experiment=live", "model_set=mine")
    assert status == 0
    assert schema.startswith("gpt-5-mini  ok  local answered as served-7b in ")
    assert (
        "100 + 10 tokens; schema honoured; USD per million tokens: 0.25 for prompts, 0.025 for cached ones, " in schema
    )
    assert free.startswith("qwen3-8b  ok  ") and "; no schema sent; " in free
    assert "context 40960, no recorded prompts, answers up to 8192 tokens" in free
    first, second = server.requests
    assert ("response_format" in first, "response_format" in second) == (True, False)
    assert (first["reasoning_effort"], "temperature" in first, second["temperature"]) == ("low", False, 0.6)
    assert first["max_tokens"] == second["max_tokens"] == 8192, "as a run asks"
    account = read_lines(tmp_path / "recordings" / "checks" / "live" / "spend.jsonl")
    assert (spent(account).calls, spent(account).tokens) == (2, 220)


FAILURES: dict[str, str] = {
    "401": "the key is wrong or expired; check TEST_KEY",
    "402": "the account has no credit left",
    "403": "the key may not use this model; check TEST_KEY",
    "404 model": "check api_model=gpt-5-mini in conf/models/gpt-5-mini.yaml",
    "no format": "set json_schema: false in conf/models/gpt-5-mini.yaml",
    "no effort": "correct or remove reasoning_effort in extra of conf/models/gpt-5-mini.yaml",
    "no max_tokens": "set output_limit: max_tokens or max_completion_tokens in conf/models/gpt-5-mini.yaml",
    "overflow": "context overflow: local answered 400",
    "redirect": "redirects are not followed",
    "no quota": "the account has no credit left",
    "429 tomorrow": "the server asks to wait 86400 s",
    "prose": "the JSON schema was not honoured; set json_schema: false in conf/models/gpt-5-mini.yaml",
    "another name": "the answer is unusable (unknown_transformation: 'TileSise' is not one of TileSize, Unroll)",
    "nobody next": "the answer names no model of the set to answer next (unknown_model), so that chance would decide; ",
    "cut": "the answer was cut off after 10 tokens; raise max_tokens in sampling of conf/models/gpt-5-mini.yaml",
    "refusal": "the answer is unusable (refusal: ",
    "parrot": "the answer is unusable (not_json: ",
}


@pytest.fixture
def _answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def says(text: str, finish: str = "stop") -> Any:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        return lambda h: h.reply(200, completion(text, choices=[choice]))

    monkeypatch.setitem(BEHAVIOURS, "prose", says(f"Sure! {ANSWER}"))
    monkeypatch.setitem(BEHAVIOURS, "another name", says('{"transformations": ["TileSise"]}'))
    monkeypatch.setitem(BEHAVIOURS, "nobody next", says('{"transformations": ["Unroll"], "next_model": "gpt-5"}'))
    monkeypatch.setitem(BEHAVIOURS, "cut", says("<think>well, ", "length"))


@pytest.mark.usefixtures("_answers")
@pytest.mark.parametrize("behaviour", FAILURES)
def test_a_failure_is_one_line_with_the_way_out_and_the_other_models_are_asked_all_the_same(
    behaviour: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with misbehaving(behaviour) as server:
        status, (failed, other, last) = check(capsys, server, tmp_path)
    assert status == 1
    assert failed.startswith("gpt-5-mini  FAILED  ") and FAILURES[behaviour] in failed
    assert other.startswith("qwen3-8b  ok  ") and last == "1 of 2 models failed"
    assert len(server.requests) == 2


@pytest.mark.parametrize("behaviour", sorted({*BEHAVIOURS} - {"held", "together", "time-out", "slow drip"}))
def test_no_mood_of_a_server_is_more_than_a_line_and_none_shows_the_key(
    behaviour: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with misbehaving(behaviour, behaviour) as server:
        status, lines = check(capsys, server, tmp_path, "providers.local.timeout_secs=0.5")
    assert [line.split("  ")[0] for line in lines[:2]] == [*MODELS]
    assert (status == 1) == ("FAILED" in "".join(lines))


def test_a_key_that_is_not_there_is_named_and_nothing_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY")
    with misbehaving() as server:
        status, lines = check(capsys, server, tmp_path)
    assert status == 1 and not server.requests
    assert all("needs a key in the environment variable TEST_KEY, which is not set" in line for line in lines[:2])


def test_a_server_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with misbehaving() as server:
        pass
    status, lines = check(capsys, server, tmp_path)
    assert status == 1 and all("start the server, or correct base_url" in line for line in lines[:2])


def test_limits_hold_and_what_runs_of_the_experiment_have_spent_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pay(tmp_path, 49.99)
    with misbehaving() as server:
        status, (refused, other, _) = check(capsys, server, tmp_path, "experiment=live", "model_set=mine")
    assert status == 1 and len(server.requests) == 1
    assert "budget.sweep.usd=50 is reached (49.99 used, the next call may take 0.0" in refused
    assert other.startswith("qwen3-8b  ok"), "it is cheap enough"


def test_a_price_must_be_known_where_a_key_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with misbehaving() as server:
        status, lines = check(capsys, server, tmp_path, "models.gpt-5-mini.prices=null")
        assert (
            status == 1 and "no price, so no limit in USD can hold; give prices in conf/models/gpt-5-mini" in lines[0]
        )
        assert main(arguments(server, tmp_path, "models.gpt-5-mini.prices=null", "budget.run.usd=1")) == 1
        assert "budget.run.usd=1.0 needs the prices of gpt-5-mini" in capsys.readouterr().err
        assert main(arguments(server, tmp_path, "models.gpt-5-mini.prices=null", key="''")) == 0
    assert "no price, counted as free" in capsys.readouterr().out


def test_prompts_as_long_as_recorded_ones_must_fit_with_the_longest_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path, "x/llama3_8b_attention/cpu-colt_plus-2-gpt-5.2-n5-s0", [("gpt-5.2", 5000, 10)], 5)
    with misbehaving() as server:
        status, (fits, too_long, _) = check(capsys, server, tmp_path, "models.qwen3-8b.context_length=10000")
    assert status == 1
    assert fits.endswith("context 400000, recorded prompts up to 5000, answers up to 8192 tokens")
    assert "recorded prompts up to 5000, answers up to 8192 tokens: too much; lower max_tokens" in too_long


def test_every_model_of_a_sweep_is_asked_once_and_the_largest_run_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with misbehaving() as server:
        server.text = ANSWER
        more = ("+model_sets.one=[qwen3-8b]", "seed=0,1")
        chosen = [a for a in arguments(server, tmp_path, *more) if a != "model_set=mine"]
        assert main([*chosen, "model_set=one,mine"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [*MODELS]
    assert len(server.requests) == 2
    assert all('"next_model"' in request["messages"][1]["content"] for request in server.requests)


@pytest.mark.parametrize("more", [("stand_ins=true", "model_set=8"), ("search=mcts_no_llm",)])
def test_without_a_live_model_there_is_nothing_to_check(
    more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*more, f"results={tmp_path}"]) == 0
    assert capsys.readouterr().out == f"{NOTHING}\n"
    assert not list(tmp_path.iterdir())


def test_a_wrong_command_line_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model_set=3"]) == 1
    assert "model_set=3 is unknown" in capsys.readouterr().err
