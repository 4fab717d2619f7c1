"""A caller of a server that misbehaves, as a live run has it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from colt_pipeline.config.schema import BudgetConfig, LimitsConfig, PricesConfig, ProviderConfig
from colt_pipeline.llm.client import Question
from colt_pipeline.llm.openai_client import OpenAIClient
from colt_pipeline.llm.retries import Caller
from colt_pipeline.records import ModelSpec, Reply
from colt_pipeline.runs.budget import Budget, Spent, spent
from colt_pipeline.runs.jsonl import read_lines
from tests.llm.server import Server
from tests.toy import SMALL

KEY = "sk-test-0123456789abcdef0123456789abcdef"
MODEL = dataclasses.replace(SMALL, provider="served", api_model="org/served-7b")
PRICES = PricesConfig(2.0, 10.0, "2026-01", "a test")
NONE = LimitsConfig(None, None, None, None)
SAMPLING = {"temperature": 0.5, "max_tokens": 64}
MESSAGES = [{"role": "system", "content": "s" * 40}, {"role": "user", "content": "u" * 60}]


def question(model: ModelSpec = MODEL, **changes: Any) -> Question:
    return Question(model, MESSAGES, SAMPLING, **changes)


def provider(server: Server, **changes: Any) -> ProviderConfig:
    settings: dict[str, Any] = {"base_url": server.base_url, "key_env": "TEST_KEY", "output_limit": "max_tokens"}
    settings |= {"timeout_secs": 0.6, "attempts": 3}
    return ProviderConfig(**{**settings, **changes})


opened: list[Budget] = []
"""Budgets that a test opened; closed when it ends."""


class Setting:
    """A caller of a misbehaving server, with its account; sleeping takes no time."""

    def __init__(
        self, server: Server, path: Path, run: LimitsConfig = NONE, prices: PricesConfig = PRICES, **changes: Any
    ) -> None:
        self.slept: list[float] = []
        self.path = path / "run" / "spend.jsonl"
        self.budget = Budget(self.path, BudgetConfig(run, NONE, 16), {SMALL.name: prices}, path)
        settings = provider(server, **changes)
        client = OpenAIClient("served", settings)
        self.caller = Caller(client, "served", settings.attempts, self.budget, self.slept.append)
        opened.append(self.budget)

    def ask(self, occurrence: int = 0) -> Reply:
        return self.caller.complete(question(), occurrence)

    @property
    def spent(self) -> Spent:
        return spent(read_lines(self.path))
