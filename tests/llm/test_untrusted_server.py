"""A server may send anything, at any speed and length: a call ends in bounded time and memory."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.errors import BudgetError, ProviderError, TransientError
from colt_pipeline.llm.completion import failure_in, reply_in
from colt_pipeline.llm.openai_client import OpenAIClient
from colt_pipeline.llm.parse import parse
from colt_pipeline.records import Rejection, Reply
from tests.llm.live import KEY, MESSAGES, MODEL, NONE, Setting, provider, question
from tests.llm.server import ANSWER, completion, misbehaving

MIB = 1 << 20
TIMEOUT_SECS = 0.3


def asked(behaviour: str, **changes: Any) -> Reply:
    """The outcome of a single attempt."""
    with misbehaving(behaviour) as server:
        return OpenAIClient("served", provider(server, **{"timeout_secs": 5.0, **changes})).complete(question(), 0)


@pytest.mark.parametrize(
    "behaviour",
    ["slow drip", "endless header lines", "endless header line", "endless interim responses", "no status line"],
)
def test_the_deadline_covers_headers_and_body(behaviour: str) -> None:
    with pytest.raises(TransientError, match="not finished within 0.3 s|timed out") as raised:
        asked(behaviour, timeout_secs=TIMEOUT_SECS)
    assert raised.value.maybe_charged


def test_the_deadline_begins_anew_with_each_request() -> None:
    with misbehaving("good", "good", "good") as server:
        client = OpenAIClient("served", provider(server, timeout_secs=5.0, max_bytes=1000))
        assert [client.complete(question(), 0).text for _ in range(3)] == [ANSWER] * 3


@pytest.mark.parametrize("behaviour", ["endless chunks", "endless headers", "endless failure"])
def test_what_has_no_end_is_given_up_after_max_bytes(behaviour: str) -> None:
    with misbehaving(behaviour) as server:
        client = OpenAIClient("served", provider(server, timeout_secs=30.0, max_bytes=MIB))
        tracemalloc.start()
        with pytest.raises(TransientError, match=r"longer than max_bytes=1048576|too large|Receive buffer too long"):
            client.complete(question(), 0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 16 * MIB
    assert server.sent < 64 * MIB, "the rest was not read"


def test_an_answer_of_the_longest_length_is_taken() -> None:
    with misbehaving() as server:
        server.text = "x" * (3 * MIB)
        client = OpenAIClient("served", provider(server, timeout_secs=30.0))
        assert len(client.complete(question(), 0).text) == 3 * MIB
        server.text = "x" * (4 * MIB)
        with pytest.raises(TransientError, match="longer than max_bytes=4194304"):
            client.complete(question(), 0)


def test_nothing_compressed_is_asked_for_or_taken() -> None:
    with misbehaving("bomb", "good") as server:
        client = OpenAIClient("served", provider(server, timeout_secs=5.0))
        with pytest.raises(TransientError, match=r"compressed \(gzip\), which was not asked for"):
            client.complete(question(), 0)
        client.complete(question(), 0)
    assert {headers["accept-encoding"] for headers in server.headers} == {"identity"}


def test_a_character_set_is_no_decompressor() -> None:
    tracemalloc.start()
    with pytest.raises(TransientError, match="sent no chat completion"):
        asked("bomb as a character set")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 150 * MIB, "of which the server's own bomb takes most"


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("HTTP 0.9", "RemoteProtocolError"),
        ("broken chunks", "RemoteProtocolError"),
        ("null choices", "no chat completion"),
        ("null message", "no chat completion"),
        ("content is a number", "no chat completion"),
        ("a list", "no chat completion"),
        ("huge integer", "no chat completion"),
        ("stream", "no chat completion .*data:"),
        ("odd bytes in headers", "answered 429"),
        ("switches protocols", "RemoteProtocolError"),
        ("null choices and an error", "answered 503.*busy"),
        ("choice error 429", "answered 429.*Rate limit exceeded upstream"),
        ("choice error in words", "answered 502.*try later"),
        ("choice error of an odd code", "answered 502"),
        ("finish reason error", "answered 502.*finish_reason is error"),
    ],
)
def test_what_is_no_answer_may_be_asked_again(behaviour: str, message: str) -> None:
    with pytest.raises(TransientError, match=message):
        asked(behaviour)


def test_a_failure_inside_a_choice_is_retried_by_its_code_and_ends_the_run_in_the_end(tmp_path: Path) -> None:
    with misbehaving("choice error 429", "choice error in words") as server:
        setting = Setting(server, tmp_path)
        assert setting.ask().text == ANSWER
        assert len(server.requests) == setting.spent.calls == 3
        server.behaviours = ["choice error 402"]
        with pytest.raises(ProviderError, match="no credit left"):
            setting.ask(1)
        server.always = "choice error 429"
        with pytest.raises(ProviderError, match="5 consecutive calls failed"):
            for n in range(2, 8):
                assert setting.ask(n).finish_reason == "transport"


@pytest.mark.parametrize(
    ("code", "status"),
    [(429, 429), ("429", 429), (200, 502), (-1, 502), (True, 502), (10**30, 502), ("9" * 5000, 502), ([], 502)],
)
def test_only_the_status_of_a_failure_counts_as_one(code: Any, status: int) -> None:
    found = failure_in({"error": {"code": code}})
    assert found is not None and found[0] == status


def test_no_depth_of_a_failure_is_too_deep() -> None:
    with misbehaving() as server:
        client = OpenAIClient("served", provider(server, timeout_secs=5.0))
        for depth in (*range(800, 1000, 20), 10_000):
            server.behaviours = [f'raw:{{"choices": [{{"error": {"[" * depth}1{"]" * depth}}}]}}']
            with pytest.raises(TransientError, match="answered 502|sent no chat completion"):
                client.complete(question(), 0)


@pytest.mark.parametrize("field", ["prompt_tokens", "completion_tokens"])
@pytest.mark.parametrize(
    "value", ["0", "-1", "true", '"12"', "12.0", "NaN", "1e400", "-Infinity", str(10**30), "[1]", "null"]
)
def test_a_count_that_cannot_be_one_is_replaced_by_an_estimate(field: str, value: str, tmp_path: Path) -> None:
    usage = json.dumps({"prompt_tokens": 100, "completion_tokens": 10, field: "VALUE"}).replace('"VALUE"', value)
    with misbehaving(usage) as server:
        setting = Setting(server, tmp_path)
        reply = setting.ask()
    estimates = {"prompt_tokens": 100 // 4, "completion_tokens": len(ANSWER) // 4}
    counted = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": reply.completion_tokens}
    assert counted == {"prompt_tokens": 100, "completion_tokens": 10, field: estimates[field]}
    assert setting.spent.tokens == sum(counted.values())


@pytest.mark.parametrize("usage", ['{"prompt_tokens": -1000000, "completion_tokens": -1}', "{}"])
def test_no_usage_lets_a_call_through_a_limit(usage: str, tmp_path: Path) -> None:
    with misbehaving(always=usage) as server:
        setting = Setting(server, tmp_path, dataclasses.replace(NONE, usd=0.002))
        with pytest.raises(BudgetError):
            for n in range(30):
                setting.ask(n)
    assert 0 < setting.spent.usd <= 0.002


@pytest.mark.parametrize("usage", ["none", [], 0, None])
def test_a_usage_that_is_no_object_is_missing(usage: Any) -> None:
    reply = reply_in(question(), completion(ANSWER, usage=usage), 0.0, "served", str)
    assert (reply.prompt_tokens, reply.completion_tokens) == (100 // 4, len(ANSWER) // 4)


def test_a_prompt_that_the_server_seems_to_cut_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with misbehaving("good", "cuts the prompt", "cuts the prompt") as server:
        setting = Setting(server, tmp_path)
        setting.ask(0)
        assert not capsys.readouterr().err
        setting.ask(1)
        setting.ask(2)
    [line] = capsys.readouterr().err.splitlines()
    assert "served counted 3 tokens in a prompt of 100 characters to small" in line


@pytest.mark.parametrize("thoughts", [ANSWER, f"</think>{ANSWER}", f"<think></think>{ANSWER}"])
def test_an_answer_in_the_wrong_field_is_kept_as_reasoning_and_is_no_answer(thoughts: str) -> None:
    body = completion(None, message={"reasoning_content": thoughts})
    reply = reply_in(question(), body, 0.0, "served", str)
    assert reply.text == f"<think>{thoughts}</think>"
    verdict = parse(reply, ["Step"], ["small"])
    assert isinstance(verdict, Rejection) and verdict.kind == "empty"


def test_an_answer_as_a_tool_call_is_no_answer() -> None:
    called = asked("tool call")
    assert (called.text, called.finish_reason) == ("", "tool_calls")


def test_names_are_short_texts_without_secrets() -> None:
    odd = asked("names as objects")
    assert (odd.provider_model, odd.finish_reason) == ("None", "None")
    assert asked("says transport").finish_reason == "other", "it did arrive"
    with_key = asked("parrot in every name")
    assert KEY not in str(with_key) and "[redacted]" in with_key.provider_model


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-7", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("1e400", None),
        ("soon", None),
        ("Wed, 99 Foo 2026 99:99:99 GMT", None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", None),
    ],
)
def test_a_wait_that_makes_no_sense_is_a_back_off(value: str, wait: float | None, tmp_path: Path) -> None:
    with misbehaving(f"Retry-After:{value}") as server:
        setting = Setting(server, tmp_path)
        setting.ask()
    [slept] = setting.slept
    assert slept == wait if wait is not None else 0 <= slept <= 2


def test_a_date_without_a_zone_is_in_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_000_000_000.0)  # 2001-09-09T01:46:40Z
    with misbehaving("Retry-After:Sun, 09 Sep 2001 01:46:50 -0000") as server:
        setting = Setting(server, tmp_path)
        setting.ask()
    assert setting.slept == [10.0]


def test_a_wait_without_end_ends_the_run(tmp_path: Path) -> None:
    with misbehaving("Retry-After:1e300") as server:
        with pytest.raises(ProviderError, match=r"asks to wait 1e\+300 s"):
            Setting(server, tmp_path).ask()


WITH_SETTINGS = dataclasses.replace(MODEL, extra={"reasoning_effort": "low"})


@pytest.mark.parametrize(
    ("behaviour", "change"),
    [
        ("no format", "set json_schema: false in conf/models/small.yaml"),
        ("no temperature", "set sampling: {temperature: null} in conf/models/small.yaml"),
        ("no max_tokens", "set output_limit: max_tokens or max_completion_tokens in conf/models/small.yaml"),
        ("no effort", "correct or remove reasoning_effort in extra of conf/models/small.yaml"),
    ],
)
def test_a_refused_parameter_is_answered_with_what_to_change(behaviour: str, change: str, tmp_path: Path) -> None:
    with misbehaving(behaviour) as server:
        setting = Setting(server, tmp_path)
        with pytest.raises(ProviderError) as raised:
            setting.caller.complete(question(WITH_SETTINGS, answer_schema={"type": "object"}), 0)
    assert change in str(raised.value)
    assert len(server.requests) == 1


def test_a_model_has_parameters_of_its_own() -> None:
    model = dataclasses.replace(
        MODEL, sampling={"temperature": None, "top_p": 0.9, "max_tokens": 32}, output_limit="max_completion_tokens"
    )
    with misbehaving() as server:
        OpenAIClient("served", provider(server)).complete(question(model), 0)
    [request] = server.requests
    assert request == {
        "path": "/v1/chat/completions",
        "model": "org/served-7b",
        "messages": MESSAGES,
        "top_p": 0.9,
        "max_completion_tokens": 32,
    }


def test_parameters_of_a_models_own_are_in_the_key_and_the_name_of_the_limit_is_not() -> None:
    key = question().key
    assert question(dataclasses.replace(MODEL, sampling={"temperature": None})).key != key
    assert question(dataclasses.replace(MODEL, sampling={"temperature": 0.5})).key == key, "the same request"
    assert question(dataclasses.replace(MODEL, output_limit="max_completion_tokens")).key == key


def test_certificates_that_are_not_there_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("no certificate")
    with misbehaving() as server:
        for name, path in (("SSL_CERT_FILE", "/no/such.pem"), ("SSL_CERT_FILE", garbage), ("SSL_CERT_DIR", "/no/such")):
            with monkeypatch.context() as environment:
                environment.setenv(name, str(path))
                with pytest.raises(ProviderError, match=f"{name}={path} cannot be read as certificates.*unset it"):
                    OpenAIClient("served", provider(server, base_url="https://127.0.0.1:9/v1"))
                OpenAIClient("served", provider(server)).complete(question(), 0)  # needs none
