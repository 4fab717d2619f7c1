"""One call to a live provider: paid from the budget, tried again while that may help, and never lost silently.

Rate limits, time-outs, lost connections and server errors are tried again with back-off, or when the server says. A
call that fails for good is an answer of its own kind, ``transport``: it is recorded, so a replay meets it too, and the
search goes on with another model. What will not heal (bad key, no quota, no such model, a limit reached, or many failed
calls in a row, nobody there) ends the run instead; nothing is recorded for it, so the run goes on there.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from colt_pipeline.errors import CallError, ProviderError, TransientError
from colt_pipeline.llm.client import TRANSPORT, Client, Question
from colt_pipeline.records import Reply, canonical_json
from colt_pipeline.runs.budget import Budget
from colt_pipeline.runs.costs import Tokens

_FAILURES_IN_A_ROW = 5
_backoff = wait_random_exponential(multiplier=1, max=60)
_CHARACTERS_PER_LONG_TOKEN = 8
"""Characters; tokenizers make shorter tokens of prompts, on average."""


class Caller:
    """Answers of one provider, as a `Client`."""

    def __init__(
        self, client: Client, provider: str, attempts: int, budget: Budget, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """`attempts`: tries per call in all; `sleep` takes seconds."""
        self._client = client
        self._provider = provider
        self._budget = budget
        self._failed_in_a_row = 0
        self._retrying = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=_wait_secs,
            stop=stop_after_attempt(attempts),
            sleep=sleep,
            reraise=True,
        )

    def complete(self, question: Question, occurrence: int) -> Reply:
        """The answer, or a reply whose finish reason is TRANSPORT and whose text says why there is none.

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
                    "command goes on"
                ) from error
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _FAILURES_IN_A_ROW:
                raise ProviderError(
                    f"{self._failed_in_a_row} calls in a row failed, the last one: {error}. Once that is mended, the "
                    "same command goes on"
                ) from error
            return Reply(str(error), TRANSPORT, 0, 0, 0.0, question.model.api_model, self._provider)
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
            bill.tokens = Tokens(reply.prompt_tokens, reply.completion_tokens)
        return reply


def cost_bound(question: Question) -> Tokens:
    """The most that an attempt may cost: no token is shorter than a character, and schemas are paid for too."""
    schema = canonical_json(question.answer_schema) if question.answer_schema else ""
    characters = sum(len(message["content"]) for message in question.messages) + len(schema)
    return Tokens(characters, int(question.sampling["max_tokens"]))


def _wait_secs(state: RetryCallState) -> float:
    """As long as the server asks for, else longer from try to try."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_secs if isinstance(error, TransientError) else None
    return asked or _backoff(state)
