"""A server's chat completion -> reply or failure. Every field may be missing, of another type or a lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from colt_pipeline.llm.client import CHARACTERS_PER_TOKEN, TRANSPORT, Question
from colt_pipeline.records import Reply

_REASONING = ("reasoning_content", "reasoning")
"""Fields in which servers return what a model thought before it answered."""
_MOST_TOKENS = 10_000_000
"""More than any model's context: a server that reports more is wrong."""
_LONGEST_NAME = 200
_AFTER_STATUSES = 600


def failure_in(body: Mapping[str, Any]) -> tuple[int, object] | None:
    """Status and description of a failure that a server reports with HTTP status 200; None for an answer."""
    error = body.get("error")
    if not error:
        choice = body["choices"][0]
        error = choice.get("error") or (choice.get("finish_reason") == "error" and "finish_reason is error")
    if not error:
        return None
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit():
        code = int(code[:4])
    if type(code) is int and HTTPStatus.BAD_REQUEST <= code < _AFTER_STATUSES:
        return code, error
    return HTTPStatus.BAD_GATEWAY, error


def reply_in(
    question: Question, body: Mapping[str, Any], latency_secs: float, backend: str, clean: Callable[[str], str]
) -> Reply:
    """The answer in the body of a response, ignoring any other fields.

    Args:
        question: what was asked.
        body: a body without a failure.
        latency_secs: how long the answer took.
        backend: the provider's name.
        clean: removes secrets from a text.

    Raises:
        LookupError, TypeError, AttributeError: the body holds no answer.
    """
    choice = body["choices"][0]
    message = choice["message"]
    refusal = message.get("refusal")
    text = refusal or message.get("content") or ""
    if isinstance(text, list):  # of parts
        text = "".join(part.get("text", "") for part in text)
    if not text:
        text = _reasoning(message)
    usage = _mapping(body.get("usage"))
    prompt_tokens = _count(usage.get("prompt_tokens"), sum(len(m["content"]) for m in question.messages))
    return Reply(
        text=clean(text),
        finish_reason="content_filter" if refusal else clean(_finish_reason(choice)),
        prompt_tokens=prompt_tokens,
        completion_tokens=_count(usage.get("completion_tokens"), len(text)),
        latency_secs=round(latency_secs, 3),
        provider_model=clean(_name(body.get("model"))),
        backend=backend,
        cached_tokens=_cached(usage, prompt_tokens),
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _reasoning(message: Mapping[str, Any]) -> str:
    """The model's reasoning, marked as such, where there is nothing else: no answer, but the recording shows why."""
    found = next((message[name] for name in _REASONING if message.get(name)), None)
    return f"<think>{found}</think>" if isinstance(found, str) else ""


def _finish_reason(choice: Mapping[str, Any]) -> str:
    reason = _name(choice.get("finish_reason"))
    return "other" if reason == TRANSPORT else reason  # which means that no answer arrived


def _name(value: object) -> str:
    return value[:_LONGEST_NAME] if isinstance(value, str) else str(None)


def _count(reported: object, characters: int) -> int:
    """The tokens of a text as the server counted them, or an estimate if the text cannot have that many."""
    least = 1 if characters else 0
    if type(reported) is int and least <= reported <= _MOST_TOKENS:
        return reported
    return max(least, characters // CHARACTERS_PER_TOKEN)


def _cached(usage: Mapping[str, Any], prompt_tokens: int) -> int:
    """The prompt's tokens that the server had cached; none if it reports more than the prompt has."""
    reported = _mapping(usage.get("prompt_tokens_details")).get("cached_tokens")
    return reported if type(reported) is int and 0 <= reported <= prompt_tokens else 0
