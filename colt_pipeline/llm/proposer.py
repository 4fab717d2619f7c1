"""Prompt, recorded answer, verdict: one LLM call as the search sees it."""

from __future__ import annotations

from collections.abc import Mapping
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
        messages = [{**m, "content": redacted(m["content"])} for m in render(offer, self._prompt.code)]
        return Question(model, messages, self._sampling, schema)

    def ask(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> Answer:
        """Ask once; `occurrences`: key -> how often it was asked in this run.

        Raises:
            ReplayMissError, LLMError: see Cassette.answer.
        """
        question = self.question(model, context)
        occurrence = occurrences.get(question.key, 0)
        reply = self._cassette.answer(question, occurrence)
        offered = [name for name, _ in context.transformations]
        verdict = parse(reply, offered, [m.name for m in context.models], context.sites)
        return Answer(question.key, occurrence, reply, verdict)
