"""One call to a live provider: charged to the budget, retried while that may help, and never lost silently.

Rate limits, timeouts, lost connections and server errors are retried with back-off, or after the wait that the server
asks for. A call that fails for good is an answer of its own kind, ``transport``: it is recorded, so a replay sees it
too, and the search continues with another model. What retries cannot fix (bad key, no quota, no such model, a limit
reached, many consecutive failures, no server) ends the run instead; nothing is recorded, so the run resumes there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from threading import Lock

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from colt_pipeline.config.schema import ProviderConfig
from colt_pipeline.errors import CallError, ProviderError, TransientError
from colt_pipeline.llm.client import TRANSPORT, Client, Question
from colt_pipeline.records import Reply
from colt_pipeline.runs.budget import Budget
from colt_pipeline.runs.costs import Tokens
from colt_pipeline.serialization import canonical_json

_FAILURES_IN_A_ROW = 5
_backoff = wait_random_exponential(multiplier=1, max=60)
_CHARACTERS_PER_LONG_TOKEN = 8
"""Tokenizers produce shorter tokens from prompts, on average."""
_CHARACTERS_PER_TOKEN_OF_CUT = 16
"""No tokenizer produces tokens this long: a server that counts so few has not read the whole prompt."""


class Caller:
    """A `Client` that wraps one provider's client with retries and accounting."""

    def __init__(
        self, client: Client, provider: str, attempts: int, budget: Budget, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Wrap a client.

        Args:
            client: makes single attempts.
            provider: name of the provider.
            attempts: attempts per call, including the first.
            budget: charged for every attempt.
            sleep: waits for a number of seconds.
        """
        self._client = client
        self._provider = provider
        self._budget = budget
        self._failed_in_a_row = 0
        self._suspected: set[str] = set()
        self._lock = Lock()  # for both: calls may be made in several threads
        self._retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=_wait_secs,
            stop=stop_after_attempt(attempts),
            sleep=sleep,
            reraise=True,
        )

    def complete(self, question: Question, occurrence: int) -> Reply:
        """The answer, or a reply with finish reason TRANSPORT whose text says why there is none.

        Raises:
            ProviderError: no further call will succeed either.
            BudgetError: a limit is reached.
        """
        try:
            reply = self._retrying(self._attempt, question, occurrence)
        except (TransientError, CallError) as error:
            if isinstance(error, TransientError) and error.unreached:
                raise ProviderError(
                    f"{error}; start the server, or correct base_url in conf/providers/{self._provider}.yaml. The same "
                    "command resumes the run"
                ) from error
            with self._lock:
                self._failed_in_a_row += 1
                failed = self._failed_in_a_row
            if failed >= _FAILURES_IN_A_ROW:
                raise ProviderError(
                    f"{failed} consecutive calls failed, the last one with: {error}. Once that is "
                    "fixed, the same command resumes the run"
                ) from error
            return Reply(str(error), TRANSPORT, 0, 0, 0.0, question.model.api_model, self._provider)
        with self._lock:
            self._failed_in_a_row = 0
        return reply

    def _attempt(self, question: Question, occurrence: int) -> Reply:
        model, characters = question.model, sum(len(message["content"]) for message in question.messages)
        if 0 < model.context_length < characters // _CHARACTERS_PER_LONG_TOKEN:
            raise CallError(
                f"context overflow: {characters} characters cannot fit into the {model.context_length} tokens of "
                f"{model.name}; nothing was sent"
            )
        with self._budget.attempt(question.model.name, cost_bound(question)) as bill:
            reply = self._client.complete(question, occurrence)
            bill.tokens = Tokens(reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens)
        if reply.prompt_tokens < characters // _CHARACTERS_PER_TOKEN_OF_CUT and self._suspects(model.name):
            print(
                f"note: {self._provider} counted {reply.prompt_tokens} tokens in a prompt of {characters} characters "
                f"to {model.name}; it may cut prompts to fit, so check the context size that it serves",
                file=sys.stderr,
                flush=True,
            )
        return reply

    def _suspects(self, model: str) -> bool:
        """Suspect this model; False if it was suspected before."""
        with self._lock:
            before = model in self._suspected
            self._suspected.add(model)
        return not before


def live_caller(name: str, provider: ProviderConfig, budget: Budget) -> Caller:
    """The client of a provider as runs use it.

    Raises:
        ProviderError: the key is missing or malformed.
    """
    from colt_pipeline.llm.openai_client import OpenAIClient  # takes a second to import

    return Caller(OpenAIClient(name, provider), name, provider.attempts, budget)


def cost_bound(question: Question) -> Tokens:
    """The most that an attempt may cost: a token has at least one character, and schemas are charged too."""
    schema = canonical_json(question.answer_schema) if question.answer_schema else ""
    characters = sum(len(message["content"]) for message in question.messages) + len(schema)
    return Tokens(characters, int(question.parameters["max_tokens"]))


def _wait_secs(state: RetryCallState) -> float:
    """The wait that the server asks for, else exponential back-off."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_secs if isinstance(error, TransientError) else None
    return asked or _backoff(state)
