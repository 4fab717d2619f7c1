"""Calls to a real HTTP server through the real client: what is sent, what results, what is counted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.config.schema import BudgetConfig, LimitsConfig
from colt_pipeline.errors import BudgetError, ConfigError, LLMError, ProviderError
from colt_pipeline.llm.openai_client import OpenAIClient
from colt_pipeline.llm.retries import Caller, cost_bound, live_caller
from colt_pipeline.runs.budget import Budget, Spent, beyond, spent
from colt_pipeline.runs.jsonl import read_lines
from tests.llm.live import KEY, MESSAGES, MODEL, NONE, PRICES, Setting, opened, provider, question
from tests.llm.server import ANSWER, BEHAVIOURS, misbehaving
from tests.toy import SMALL

MOST = Spent(1, 100 + 64)
FREE = Spent(1, 0)

# What the server does first -> (requests, finish reason, what the text says, tokens counted)
TABLE: dict[str, tuple[int, str, str, int]] = {
    "good": (1, "stop", ANSWER, 110),
    "429": (2, "stop", ANSWER, 110),
    "429 date": (2, "stop", ANSWER, 110),
    "500": (2, "stop", ANSWER, 110),
    "503 html": (2, "stop", ANSWER, 110),
    "time-out": (2, "stop", ANSWER, 110 + MOST.tokens),
    "slow drip": (2, "stop", ANSWER, 110 + MOST.tokens),
    "reset": (2, "stop", ANSWER, 110 + MOST.tokens),
    "truncated JSON": (2, "stop", ANSWER, 110 + MOST.tokens),
    "wrong content type": (2, "stop", ANSWER, 110 + MOST.tokens),
    "empty choices": (2, "stop", ANSWER, 110 + MOST.tokens),
    "JSON without a type": (1, "stop", ANSWER, 110),
    "529": (2, "stop", ANSWER, 110),
    "504": (2, "stop", ANSWER, 110 + MOST.tokens),
    "deep": (2, "stop", ANSWER, 110 + MOST.tokens),
    "parts": (1, "stop", ANSWER, 110),
    "null usage": (1, "stop", ANSWER, 100 // 4 + len(ANSWER) // 4),
    "no usage": (1, "stop", ANSWER, 100 // 4 + len(ANSWER) // 4),
    "refusal": (1, "content_filter", "I cannot help with that.", 110),
    "filtered": (1, "content_filter", "", 110),
    "400": (1, "transport", "bad request: served answered 400", 0),
    "overflow": (1, "transport", "context overflow: served answered 400", 0),
    "plain 400": (1, "transport", "context overflow: served answered 400: maximum context length", 0),
}


@pytest.mark.parametrize("behaviour", TABLE)
def test_what_is_sent_what_comes_of_it_and_what_is_counted(behaviour: str, tmp_path: Path) -> None:
    requests, finish_reason, text, tokens = TABLE[behaviour]
    with misbehaving(behaviour) as server:
        setting = Setting(server, tmp_path)
        reply = setting.ask()
    assert len(server.requests) == requests == setting.spent.calls
    assert (reply.finish_reason, reply.backend) == (finish_reason, "served")
    assert text in reply.text
    assert setting.spent.tokens == tokens
    assert all(request == server.requests[0] for request in server.requests)


FATAL = {
    "401": "key is wrong or expired; check TEST_KEY",
    "402": "no credit",
    "403": "may not use this model",
    "404 model": "check api_model=org/served-7b in conf/models/small.yaml",
    "no quota": "no credit",
    "quota in words": "no credit",
    "error with status 200": "no credit",
    "redirect": "redirects are not followed",
    "429 tomorrow": "asks to wait 86400 s",
}


@pytest.mark.parametrize("behaviour", FATAL)
def test_what_will_not_heal_is_asked_once_and_ends_the_run(behaviour: str, tmp_path: Path) -> None:
    with misbehaving(behaviour) as server:
        setting = Setting(server, tmp_path)
        with pytest.raises(ProviderError, match=FATAL[behaviour]) as caught:
            setting.ask()
    assert KEY not in str(caught.value)
    assert len(server.requests) == 1
    assert setting.spent == dataclasses.replace(FREE, hours=setting.spent.hours)


def test_the_wait_between_tries_is_what_the_server_asks_for_else_it_grows(tmp_path: Path) -> None:
    with misbehaving("429", "429 date", "500", "500") as server:
        setting = Setting(server, tmp_path, attempts=5)
        setting.ask()
    asked, until, *backoff = setting.slept
    assert asked == 7
    assert 20 < until <= 30
    assert all(0 <= secs <= 8 for secs in backoff) and len(backoff) == 2


def test_a_call_that_fails_for_good_is_an_answer_and_many_in_a_row_end_the_run(tmp_path: Path) -> None:
    with misbehaving(always="500") as server:
        setting = Setting(server, tmp_path)
        replies = [setting.ask(n) for n in range(4)]
        assert {r.finish_reason for r in replies} == {"transport"}
        assert len(server.requests) == 12
        with pytest.raises(ProviderError, match="5 consecutive calls failed, the last one with: served answered 500"):
            setting.ask(4)


def test_a_server_that_is_not_there_is_named_and_costs_nothing(tmp_path: Path) -> None:
    with misbehaving() as server:
        pass
    setting = Setting(server, tmp_path)
    with pytest.raises(ProviderError, match=r"no answer from served .*start the server, or correct base_url"):
        setting.ask()
    assert (setting.spent.calls, setting.spent.tokens) == (3, 0)


def test_a_prompt_that_cannot_fit_is_not_sent(tmp_path: Path) -> None:
    with misbehaving() as server:
        setting = Setting(server, tmp_path)
        reply = setting.caller.complete(question(dataclasses.replace(MODEL, context_length=10)), 0)
    assert reply.finish_reason == "transport" and "context overflow: 100 characters" in reply.text
    assert not server.requests and not setting.path.exists()


def test_the_request_holds_what_the_configuration_says(tmp_path: Path) -> None:
    schema = {"type": "object"}
    model = dataclasses.replace(MODEL, extra={"reasoning_effort": "low"})
    with misbehaving() as server:
        settings = provider(server, output_limit="max_completion_tokens")
        OpenAIClient("served", settings).complete(question(model, answer_schema=schema), 0)
    [request] = server.requests
    assert request == {
        "path": "/v1/chat/completions",
        "model": "org/served-7b",
        "messages": MESSAGES,
        "temperature": 0.5,
        "max_completion_tokens": 64,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}},
        "reasoning_effort": "low",
    }


def test_only_the_providers_own_key_leaves_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = {"OPENAI_API_KEY": "sk-other-000000", "OPENAI_ORG_ID": "org-other", "OPENAI_PROJECT_ID": "proj-other"}
    for name, value in {**others, "OPENAI_BASE_URL": "http://127.0.0.3:1/v1"}.items():
        monkeypatch.setenv(name, value)
    with misbehaving() as server:
        Setting(server, tmp_path).ask()
        monkeypatch.delenv("TEST_KEY")
        with pytest.raises(ProviderError, match=r"needs a key in the environment variable TEST_KEY.*record=replay"):
            Setting(server, tmp_path)
        OpenAIClient("served", provider(server, key_env="")).complete(question(), 0)
        monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer other")
        with pytest.raises(ProviderError, match="unset OPENAI_CUSTOM_HEADERS"):
            OpenAIClient("served", provider(server, key_env=""))
    first, second = server.headers
    assert first["authorization"] == f"Bearer {KEY}"
    assert not any(value in str(server.headers) for value in others.values())
    assert KEY not in str(second)


def test_a_key_that_comes_back_in_an_answer_is_not_kept(tmp_path: Path) -> None:
    with misbehaving("parrot") as server:
        reply = Setting(server, tmp_path).ask()
    assert reply.text == "your key is [redacted]"


def test_a_key_that_comes_back_escaped_in_an_error_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    escaped = "".join(f"\\u{ord(c):04x}" for c in KEY)
    refusal = f'{{"error": "bad key {escaped}"}}'.encode()
    monkeypatch.setitem(BEHAVIOURS, "escaped key", lambda h: h.send(401, refusal))
    with misbehaving("escaped key") as server, pytest.raises(ProviderError, match="bad key .redacted.") as caught:
        Setting(server, tmp_path).ask()
    assert escaped not in str(caught.value) and KEY not in str(caught.value)


@pytest.mark.parametrize(("key", "sent"), [(f" {KEY}\n", True), ("tok!\nen", False), ("schlüssel", False)])
def test_a_key_with_a_line_end_is_mended_and_one_that_cannot_be_sent_is_named_without_it(
    key: str, sent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_KEY", key)
    with misbehaving() as server:
        if sent:
            Setting(server, tmp_path).ask()
            assert server.headers[0]["authorization"] == f"Bearer {KEY}"
        else:
            with pytest.raises(ProviderError, match="the key in TEST_KEY contains invalid characters") as caught:
                Setting(server, tmp_path)
            assert key not in str(caught.value)


def test_a_schema_is_paid_for_too() -> None:
    assert cost_bound(question(answer_schema={"type": "object"})).prompt == 100 + len('{"type":"object"}')


@pytest.mark.parametrize(
    ("limits", "answered"),
    [
        (LimitsConfig(3, None, None, None), 3),
        (LimitsConfig(None, 383, None, None), 2),  # the third may take up to 164
        (LimitsConfig(None, None, 0.0015, None), 3),  # 0.0003 each; the next may take 0.00084
        (LimitsConfig(None, None, None, 0.0), 0),
    ],
)
def test_a_limit_refuses_the_call_that_could_exceed_it(limits: LimitsConfig, answered: int, tmp_path: Path) -> None:
    with misbehaving() as server:
        setting = Setting(server, tmp_path, limits)
        with pytest.raises(BudgetError, match=r"budget.run.*the same command with a higher limit goes on"):
            for n in range(10):
                setting.ask(n)
    assert len(server.requests) == answered


def test_an_attempt_is_on_disk_before_it_is_sent_and_counts_at_its_most_until_it_is_settled(tmp_path: Path) -> None:
    budget = Budget(tmp_path / "spend.jsonl", BudgetConfig(NONE, NONE, 16), {SMALL.name: PRICES}, tmp_path)
    with budget.attempt(SMALL.name, cost_bound(question())) as bill:
        inside = spent(read_lines(tmp_path / "spend.jsonl"))
        bill.tokens = dataclasses.replace(bill.tokens, prompt=1, completion=2)
    assert (inside.calls, inside.tokens) == (1, 100 + 64)
    assert inside.usd == pytest.approx((100 * 2 + 64 * 10) / 1e6)
    after = spent(read_lines(tmp_path / "spend.jsonl"))
    assert (after.calls, after.tokens, after.usd) == (1, 3, pytest.approx(22e-6))
    with pytest.raises(KeyboardInterrupt), budget.attempt(SMALL.name, cost_bound(question())):
        raise KeyboardInterrupt
    assert spent(read_lines(tmp_path / "spend.jsonl")).tokens == 3 + 164, "nobody knows what it cost"
    budget.close()


def test_limits_count_earlier_sessions_and_the_other_runs_of_the_sweep(tmp_path: Path) -> None:
    sweep = BudgetConfig(NONE, LimitsConfig(4, None, None, None), 16)
    with misbehaving() as server:
        for name in ("a", "b", "b"):  # the third continues the second's account; the first's is set aside
            account = Budget(tmp_path / name / "spend.jsonl", sweep, {SMALL.name: None}, tmp_path)
            caller = Caller(OpenAIClient("served", provider(server)), "served", 1, account)
            caller.complete(question(), 0)
            account.close()
        (tmp_path / "a" / "spend.jsonl").rename(tmp_path / "a" / "spend.jsonl.1")
        account = Budget(tmp_path / "c" / "spend.jsonl", sweep, {SMALL.name: None}, tmp_path)
        caller = Caller(OpenAIClient("served", provider(server)), "served", 1, account)
        caller.complete(question(), 0)
        with pytest.raises(BudgetError, match=r"budget.sweep.calls=4 is reached \(4 used"):
            caller.complete(question(), 1)
        account.close()
    assert len(server.requests) == 4


def test_a_limit_in_usd_needs_prices(tmp_path: Path) -> None:
    limits = BudgetConfig(LimitsConfig(None, None, 1.0, None), NONE, 16)
    with pytest.raises(ConfigError, match=r"budget.run.usd=1.0 needs the prices of small"):
        Budget(tmp_path / "spend.jsonl", limits, {SMALL.name: None}, tmp_path)


def test_every_failure_is_in_the_error_tree() -> None:
    assert issubclass(ProviderError, LLMError) and issubclass(BudgetError, LLMError)


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        ({"cached_tokens": 80}, 80),
        ({"cached_tokens": 0}, 0),
        ({}, 0),
        (None, 0),
        ([80], 0),
        *(({"cached_tokens": lie}, 0) for lie in (-1, 101, True, "80", 8.5, None)),
    ],
)
def test_cached_tokens_are_counted_as_far_as_the_prompt_has_them(details: Any, cached: int, tmp_path: Path) -> None:
    prices = dataclasses.replace(PRICES, cached_input=0.5)
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "prompt_tokens_details": details}
    with misbehaving(json.dumps(usage)) as server:
        setting = Setting(server, tmp_path, prices=prices)
        assert setting.ask().cached_tokens == cached
    assert setting.spent.usd == pytest.approx(((100 - cached) * 2 + cached * 0.5 + 10 * 10) / 1e6)


def test_spending_elsewhere_may_count_against_a_sweep(tmp_path: Path) -> None:
    limits = BudgetConfig(NONE, LimitsConfig(2, None, None, None), 16)
    checks = tmp_path / "checks"
    with misbehaving() as server:
        for name, also in (("checks", ()), ("runs/a", [checks]), ("runs/b", [checks, tmp_path / "none"])):
            account = Budget(tmp_path / name / "spend.jsonl", limits, {SMALL.name: None}, tmp_path / name, also)
            opened.append(account)
            caller = live_caller("served", provider(server), account)
            caller.complete(question(), 0)
        with pytest.raises(BudgetError, match=r"budget.sweep.calls=2 is reached \(2 used"):
            caller.complete(question(), 1)


def test_the_first_limit_that_is_not_enough_is_named() -> None:
    limits = LimitsConfig(100, None, 50.0, None)
    assert beyond(limits, Spent(10, 0, 40.0), Spent(20, 0, 10.0)) is None
    assert beyond(limits, Spent(10, 0, 45.0), Spent(20, 0, 10.0)) == "usd=50 leaves 5, 10 are expected"
    assert beyond(limits, Spent(90, 0, 60.0), Spent(20, 0, 10.0)) == "calls=100 leaves 10, 20 are expected"
    assert beyond(limits, Spent(0, 0, 60.0), Spent()) is None, "what is recorded costs nothing"
