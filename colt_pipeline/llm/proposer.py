"""Prompt, recorded answer, verdict: one LLM call as the search sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from colt_pipeline.config.schema import PromptConfig
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.llm.client import Question
from colt_pipeline.llm.parse import parse
from colt_pipeline.llm.prompt import ORDERS, render
from colt_pipeline.llm.redact import redacted
from colt_pipeline.llm.schema import answer_schema
from colt_pipeline.records import Answer, ModelSpec, PromptContext


class Proposer:
    """Asks a model for (transformations, next model)."""

    def __init__(self, cassette: Cassette, sampling: Mapping[str, Any], prompt: PromptConfig, seed: int) -> None:
        """Ask through `cassette`.

        Args:
            cassette: answers, recorded or live.
            sampling: sampling parameters, part of every recording key.
            prompt: how prompts are written.
            seed: the run's seed, which determines a seeded order.
        """
        self._cassette = cassette
        self._sampling = sampling
        self._prompt = prompt
        self._seed = seed

    def question(self, model: ModelSpec, context: PromptContext) -> Question:
        """The question to `model` about `context`; the order of the options is part of the messages, hence of the key.

        Anything that looks like a credential is removed before the key is computed.
        """
        offer = ORDERS[self._prompt.order](context, self._seed)
        schema = answer_schema(offer) if model.json_schema else None
        rendered = render(offer, self._prompt.code, self._prompt.trace)
        messages = [{**m, "content": redacted(m["content"])} for m in rendered]
        return Question(model, messages, self._sampling, schema)

    def ask(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> Answer:
        """Ask once; `occurrences`: key -> how often it was asked in this run.

        Raises:
            ReplayMissError, LLMError: see Cassette.answer.
        """
        return self.pose(model, context, occurrences).answer()

    def pose(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> Posed:
        """The question of `ask`, which is asked by `Posed.fetch` in any thread or by `Posed.answer`."""
        question = self.question(model, context)
        return Posed(self._cassette, question, occurrences.get(question.key, 0), context)


@dataclass(frozen=True)
class Posed:
    """A question and what its answer is checked against."""

    cassette: Cassette
    question: Question
    occurrence: int
    context: PromptContext

    @property
    def key(self) -> str:
        """The question's."""
        return self.question.key

    @property
    def takes_time(self) -> bool:
        """Whether a server has to be asked."""
        return self.cassette.takes_time(self.question, self.occurrence)

    def fetch(self) -> None:
        """Ask, and record the answer.

        Raises:
            LLMError: see Cassette.fetch.
        """
        self.cassette.fetch(self.question, self.occurrence)

    def answer(self) -> Answer:
        """The answer, and what it proposes.

        Raises:
            ReplayMissError, LLMError: see Cassette.answer.
        """
        reply = self.cassette.answer(self.question, self.occurrence)
        offered = [name for name, _ in self.context.transformations]
        verdict = parse(reply, offered, [m.name for m in self.context.models], self.context.sites)
        return Answer(self.key, self.occurrence, reply, verdict)
