"""Any server that speaks the OpenAI API, through the ``openai`` package; one attempt per call.

The package's own retries are disabled: retries.py decides what to retry and accounts for the cost. Redirects are not
followed and only the provider's own key is read from the environment, so no key reaches another host.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import httpx2
import openai

from colt_pipeline.config.schema import ProviderConfig
from colt_pipeline.errors import CallError, LLMError, ProviderError, TransientError
from colt_pipeline.llm.client import Question
from colt_pipeline.llm.completion import failure_in, reply_in
from colt_pipeline.llm.redact import scrub
from colt_pipeline.llm.transport import UNCOMPRESSED, Transport, proxy_secrets, unused_proxy
from colt_pipeline.records import Reply

_SHOWN = 300
_CLEANED = 1 << 16
_ESCAPED = re.compile(r"\\u00([2-7][0-9a-f])(?<!7f)", re.IGNORECASE)
"""A printable ASCII character as JSON may write it."""
_NO_KEY = "none-needed"
_FOREIGN_HEADERS = "OPENAI_CUSTOM_HEADERS"
_TRANSIENT = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_WAY_OUT: dict[int, str] = {
    HTTPStatus.UNAUTHORIZED: "the key is wrong or expired; check {key}",
    HTTPStatus.FORBIDDEN: "the key may not use this model; check {key}",
    HTTPStatus.PAYMENT_REQUIRED: "the account has no credit left",
    HTTPStatus.PROXY_AUTHENTICATION_REQUIRED: "the proxy asks for a user name and password; give them in the "
    "environment variable that providers.{provider}.proxy='${{oc.env:VARIABLE}}' names",
    HTTPStatus.NOT_FOUND: "there is no such model or address; check api_model={api_model} in "
    "conf/models/{model}.yaml and base_url in conf/providers/{provider}.yaml",
}
"""Status -> what the user has to fix."""
_GATEWAY_GAVE_UP = (HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT, 524)
"""The model behind the gateway may have computed an answer."""
_NO_QUOTA = ("insufficient_quota", "billing_hard_limit_reached")
_OVERFLOW = ("context_length_exceeded", "exceed_context_size_error", "context size", "context length")
_LONGEST_WAIT_SECS = 600.0
_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY)
"""Statuses of a request with a parameter that the server does not accept."""
_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens")
_SCHEMA_WORDS = ("response_format", "json_schema", "json schema", "grammar", "structured output")


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
        self._secrets = [key, *proxy_secrets(provider.proxy)]
        self._openai = openai.OpenAI(
            api_key=key,
            base_url=provider.base_url,
            max_retries=0,
            # Would belong to another provider's account, if set in the environment.
            default_headers={"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()},  # type: ignore[dict-item]
            http_client=httpx2.Client(
                transport=Transport(provider.base_url, provider.proxy, provider.timeout_secs, provider.max_bytes),
                timeout=None,  # the transport has it
                headers=UNCOMPRESSED,
                follow_redirects=False,
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
            raise self._lost(error.__cause__ or error) from None
        except openai.APIStatusError as error:
            raise self._failure(question, error.status_code, error.response.text, error.response.headers) from None
        return self._reply(question, text, time.monotonic() - begin)

    def _request(self, question: Question) -> dict[str, Any]:
        model, parameters = question.model, question.parameters
        request: dict[str, Any] = {"model": model.api_model, "messages": list(question.messages)}
        request[self._output_limit(question)] = parameters.pop("max_tokens")
        if question.answer_schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(question.answer_schema)}
            request["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {**request, **parameters, "extra_body": dict(model.extra)}

    def _output_limit(self, question: Question) -> str:
        return question.model.output_limit or self._provider.output_limit

    def _reply(self, question: Question, text: str, latency_secs: float) -> Reply:
        """The answer in a response's body, unless it is a failure with status 200."""
        try:
            body = json.loads(text)
            failed = failure_in(body)
            if failed is None:
                return reply_in(question, body, latency_secs, self._name, lambda shown: scrub(shown, self._secrets))
            status, described = failed[0], json.dumps(failed[1])
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            shown = self._clean(f"{self._name} sent no chat completion ({type(error).__name__}): {text}")
            raise TransientError(shown, maybe_charged=True) from None
        raise self._failure(question, status, described, {})

    def _lost(self, cause: BaseException) -> TransientError:
        """The error for a connection that could not be made, or that broke or was given up."""
        detail = self._clean(f"no answer from {self._name} ({type(cause).__name__}: {cause})")
        unreached = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.ProxyError)
        if "CERTIFICATE_VERIFY_FAILED" in detail:
            detail += "; where an authority of your own signs certificates, let SSL_CERT_FILE name its file"
        elif unreached and self._provider.proxy:
            detail += f"; it was asked through providers.{self._name}.proxy, which may be wrong"
        elif unreached and (variable := unused_proxy(self._provider.base_url)):
            detail += (
                f"; {variable} is set but not used: if this machine needs a proxy, set "
                f"providers.{self._name}.proxy='${{oc.env:{variable}}}'"
            )
        return TransientError(detail, maybe_charged=not unreached, unreached=unreached)

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
            return ProviderError(f"{detail}; the server asks to wait {wait:g} s, run the same command again then")
        if status in _TRANSIENT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return TransientError(detail, wait, maybe_charged=status in _GATEWAY_GAVE_UP)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or any(word in words for word in _OVERFLOW):
            return CallError(f"context overflow: {detail}")
        change = self._way_out_of_refusal(question, words) if status in _REFUSED else None
        return CallError(f"bad request: {detail}") if change is None else ProviderError(f"{detail}; {change}")

    def _way_out_of_refusal(self, question: Question, words: str) -> str | None:
        """What to change if the server names a parameter of the request: it would refuse every other question too."""
        file = f"conf/models/{question.model.name}.yaml"

        def named(parameter: str) -> bool:
            return re.search(rf"\b{re.escape(parameter.lower())}\b", words) is not None

        if question.answer_schema is not None and any(word in words for word in _SCHEMA_WORDS):
            return f"set json_schema: false in {file}"
        if (extra := next((name for name in question.model.extra if named(name)), None)) is not None:
            return f"correct or remove {extra} in extra of {file}"
        if any(named(limit) for limit in (*_OUTPUT_LIMITS, self._output_limit(question))):
            names = " or ".join(_OUTPUT_LIMITS)
            return f"set output_limit: {names} in {file}, or lower max_tokens in its sampling, else llm.max_tokens"
        for parameter in question.parameters:
            if named(parameter):
                return f"set sampling: {{{parameter}: null}} in {file}, so that it is not sent"
        return None

    def _clean(self, message: str) -> str:
        plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), message)  # a key may be escaped, too
        return scrub(" ".join(plain.split())[:_CLEANED], self._secrets)[:_SHOWN]


def _retry_after_secs(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: ``Retry-After`` as a number or a date, or in milliseconds; None if not."""
    value = headers.get("retry-after")
    millis = headers.get("retry-after-ms")
    try:
        secs = float(value) if value is not None else float(millis or "nan") / 1000
    except ValueError:
        secs = _secs_until(value or "")
    return max(0.0, secs) if math.isfinite(secs) else None


def _secs_until(date: str) -> float:
    """Seconds until an HTTP date; NaN if it is none."""
    try:
        then = parsedate_to_datetime(date)
        # Without a zone, or with "-0000", it is UTC.
        return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, OverflowError):
        return math.nan
