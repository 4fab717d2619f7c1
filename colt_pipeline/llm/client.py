"""What answers: one protocol, implemented by the embedded stand-ins and by live providers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from colt_pipeline.records import Message, ModelSpec, Reply


class Client(Protocol):
    """A source of answers."""

    def complete(
        self, model: ModelSpec, messages: Sequence[Message], sampling: Mapping[str, Any], occurrence: int
    ) -> Reply:
        """One answer; `sampling`: temperature, max_tokens; `occurrence` counts equal questions within a run, from 0.

        Raises:
            LLMError: the call failed for good.
        """
        ...
