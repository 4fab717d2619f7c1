"""Any server that speaks the OpenAI API, through the ``openai`` package; one attempt per call.

The package's own retries are disabled: retries.py decides what to retry and accounts for the cost. Redirects are not
followed and only the provider's own key is read from the environment, so no key reaches another host.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx2
import openai

from colt_pipeline.config.schema import ProviderConfig
from colt_pipeline.errors import CallError, LLMError, ProviderError, TransientError
from colt_pipeline.llm.client import CHARACTERS_PER_TOKEN, Question
from colt_pipeline.llm.redact import scrub
from colt_pipeline.records import Reply

_SHOWN = 300
_NO_KEY = "none-needed"
_FOREIGN_HEADERS = "OPENAI_CUSTOM_HEADERS"
_TRANSIENT = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_WAY_OUT: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "the key is wrong or expired; check {key}",
    HTTPStatus.FORBIDDEN: "the key may not use this model; check {key}",
    HTTPStatus.PAYMENT_REQUIRED: "the account has no credit left",
    HTTPStatus.NOT_FOUND: "there is no such model or address; check api_model={api_model} in "
    "conf/models/{model}.yaml and base_url in conf/providers/{provider}.yaml",
}
"""Status -> what the user has to fix."""
_GATEWAY_GAVE_UP = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT, 524)
"""The model behind the gateway may have computed an answer."""
_NO_QUOTA = ("insufficient_quota", "billing_hard_limit_reached")
_OVERFLOW = ("context_length_exceeded", "exceed_context_size_error", "context size", "context length")
_LONGEST_WAIT_SECS = 600.0


class OpenAIClient:
    """Answers of one provider."""

    def __init__(self, name: str, provider: ProviderConfig) -> None:
        """Read the provider's key, if it needs one.

        Raises:
            ProviderError: the key is missing or malformed.
        """
        logging.getLogger("httpx2").setLevel(logging.WARNING)  # else it logs the address of each request
        key = os.environ.get(provider.key_env, "").strip() if provider.key_env else _NO_KEY
        if not key:
            raise ProviderError(
                f"provider {name} needs a key in the environment variable {provider.key_env}, which is not set; set it "
                "or do without: record=replay replays what is recorded, stand_ins=true lets stand-ins answer"
            )
        if not (key.isascii() and key.isprintable()):
            raise ProviderError(f"the key in {provider.key_env} contains invalid characters; correct it")
        if _FOREIGN_HEADERS in os.environ:
            raise ProviderError(f"unset {_FOREIGN_HEADERS}: the openai package would send them to every provider")
        self._name = name
        self._provider = provider
        self._secrets = [key]
        self._openai = openai.OpenAI(
            api_key=key,
            base_url=provider.base_url,
            max_retries=0,
            # Would belong to another provider's account, if set in the environment.
            default_headers={"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()},  # type: ignore[dict-item]
            http_client=httpx2.Client(
                transport=_Deadline(provider.timeout_secs), timeout=provider.timeout_secs, follow_redirects=False
            ),
        )

    def complete(self, question: Question, occurrence: int) -> Reply:
        """See `Client.complete`.

        Raises:
            TransientError, CallError, ProviderError: see errors.py; no message contains the key.
        """
        begin = time.monotonic()
        try:
            response = self._openai.chat.completions.with_raw_response.create(**self._request(question))
            text = response.text
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            detail = f"no answer from {self._name} ({type(cause).__name__}: {cause})"
            unreached = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout)
            raise TransientError(self._clean(detail), maybe_charged=not unreached, unreached=unreached) from None
        except openai.APIStatusError as error:
            raise self._failure(question, error.status_code, error.response.text, error.response.headers) from None
        return self._reply(question, text, time.monotonic() - begin)

    def _request(self, question: Question) -> dict[str, Any]:
        model, sampling = question.model, dict(question.sampling)
        request: dict[str, Any] = {"model": model.api_model, "messages": list(question.messages)}
        request[self._provider.output_limit] = sampling.pop("max_tokens")
        if question.answer_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(question.answer_schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {**request, **sampling, "extra_body": dict(model.extra)}

    def _reply(self, question: Question, text: str, latency_secs: float) -> Reply:
        """The answer in a response's body, ignoring any other fields."""
        try:
            body = json.loads(text)
            failed = body.get("error") if "choices" not in body else None
            if not failed:
                return self._answer(question, body, latency_secs)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            shown = self._clean(f"{self._name} sent no chat completion ({type(error).__name__}): {text!r}")
            raise TransientError(shown, maybe_charged=True) from None
        # Some servers send errors with status 200.
        code = failed.get("code") if isinstance(failed, dict) else None
        raise self._failure(question, code if isinstance(code, int) else HTTPStatus.BAD_GATEWAY, text, {})

    def _answer(self, question: Question, body: dict[str, Any], latency_secs: float) -> Reply:
        choice = body["choices"][0]
        message = choice["message"]
        refusal = message.get("refusal")
        content = refusal or message.get("content") or ""
        if isinstance(content, list):  # of parts
            content = "".join(part.get("text", "") for part in content)
        usage = body.get("usage") or {}
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        asked = sum(len(m["content"]) for m in question.messages)
        return Reply(
            text=scrub(content, self._secrets),
            finish_reason="content_filter" if refusal else str(choice.get("finish_reason")),
            prompt_tokens=asked // CHARACTERS_PER_TOKEN if prompt is None else int(prompt),
            completion_tokens=len(content) // CHARACTERS_PER_TOKEN if completion is None else int(completion),
            latency_secs=round(latency_secs, 3),
            provider_model=scrub(str(body.get("model")), self._secrets),
            backend=self._name,
        )

    def _failure(self, question: Question, status: int, text: str, headers: Mapping[str, str]) -> LLMError:
        """The error class for an HTTP status and its response."""
        words, detail = text.lower(), self._clean(f"{self._name} answered {status}: {text}")
        wait = _retry_after_secs(headers)
        if status in _WAY_OUT or any(word in words for word in _NO_QUOTA):
            model = question.model
            names = {"model": model.name, "api_model": model.api_model, "provider": self._name}
            way_out = _WAY_OUT.get(status, _WAY_OUT[HTTPStatus.PAYMENT_REQUIRED])
            return ProviderError(f"{detail}; {way_out.format(key=self._provider.key_env or 'the server', **names)}")
        if status < HTTPStatus.BAD_REQUEST:
            return ProviderError(
                f"{detail}; redirects are not followed, set base_url in conf/providers/{self._name}.yaml"
            )
        if wait is not None and wait > _LONGEST_WAIT_SECS:
            return ProviderError(f"{detail}; the server asks to wait {wait:.0f} s, run the same command again then")
        if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TransientError(detail, wait, maybe_charged=status in _GATEWAY_GAVE_UP)
        overflow = status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or any(word in words for word in _OVERFLOW)
        return CallError(f"context overflow: {detail}" if overflow else f"bad request: {detail}")

    def _clean(self, message: str) -> str:
        return scrub(" ".join(message.split()), self._secrets)[:_SHOWN]


def _retry_after_secs(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: ``Retry-After`` as a number or a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


class _Deadline(httpx2.BaseTransport):
    """Limits the total time of a response: the usual timeouts restart with every byte."""

    def __init__(self, timeout_secs: float) -> None:
        self._timeout_secs = timeout_secs
        self._transport = httpx2.HTTPTransport()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        begin = time.monotonic()
        response = self._transport.handle_request(request)
        assert isinstance(response.stream, httpx2.SyncByteStream)
        response.stream = _Timed(response.stream, request, begin + self._timeout_secs)
        return response

    def close(self) -> None:
        self._transport.close()


class _Timed(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, request: httpx2.Request, end: float) -> None:
        self._stream, self._request, self._end = stream, request, end

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            if time.monotonic() > self._end:
                raise httpx2.ReadTimeout("the answer takes too long", request=self._request)
            yield chunk

    def close(self) -> None:
        self._stream.close()
