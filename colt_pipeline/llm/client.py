"""The protocol of a source of answers, implemented by the embedded stand-ins and by live providers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from colt_pipeline.records import Message, ModelSpec, Reply
from colt_pipeline.serialization import KEY_WIDTH, digest

SCHEMA = 1
"""Version of the keys."""
DIGEST_WIDTH = 4
TRANSPORT = "transport"
"""Finish reason of an answer that never arrived: the call failed for good."""


@dataclass(frozen=True)
class Question:
    """A question to a model: everything that affects the answer, without secrets or addresses."""

    model: ModelSpec
    messages: Sequence[Message]
    sampling: Mapping[str, Any]
    """temperature, max_tokens and any other parameters, by their names in the OpenAI API; see `parameters`."""
    answer_schema: Mapping[str, Any] | None = None
    """JSON schema that constrains the answer; None = unconstrained."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The sampling parameters that are sent: where the model has its own, those count, and None is not sent."""
        own = {**self.sampling, **self.model.sampling}
        return {name: value for name, value in own.items() if value is not None}

    @cached_property
    def key(self) -> str:
        """The first KEY_WIDTH digits of the sha256 that identifies the question in a recording."""
        identity = [SCHEMA, self.model.name, self.model.api_model, list(self.messages), self.parameters]
        constraints = {"answer_schema": self.answer_schema, "extra": dict(self.model.extra)}
        # Only those that are set, so that a question without them keeps its original key.
        return digest([*identity, *([name, value] for name, value in constraints.items() if value)])[:KEY_WIDTH]

    @cached_property
    def lines(self) -> list[str]:
        """All messages line by line, each preceded by its role."""
        return [line for m in self.messages for line in (f"[{m['role']}]", *m["content"].splitlines())]

    @cached_property
    def line_digests(self) -> str:
        """DIGEST_WIDTH digits of the sha256 of each line."""
        return "".join(hashlib.sha256(line.encode()).hexdigest()[:DIGEST_WIDTH] for line in self.lines)


class Client(Protocol):
    """A source of answers."""

    def complete(self, question: Question, occurrence: int) -> Reply:
        """Ask once.

        Args:
            question: what to ask.
            occurrence: counts equal questions within a run, from 0.

        Raises:
            LLMError: no answer; its class says whether another attempt, or another question, may succeed.
        """
        ...


CHARACTERS_PER_TOKEN = 4
"""An estimate, used where token counts are not reported."""


def stand_in_name(model: str) -> str:
    """The name by which a stand-in identifies itself."""
    return f"stand-in for {model}"
