"""What the answers of a run took: seconds and USD per model and kind of call, at the prices of its recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from colt_pipeline.config import Config, PricesConfig
from colt_pipeline.events import Call, Event, Stepped
from colt_pipeline.runs.budget import FILE, Tokens
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.search.outcome import Cost

Prices = Mapping[str, PricesConfig | None]


def configured_prices(config: Config) -> Prices:
    """Live model -> what it costs, None for one without a price. Stand-ins and random answers are not paid for."""
    models = [m for m in config.model_specs if m.provider in config.providers]
    return {model.name: config.models[model.name].prices for model in models}


def recorded_prices(recording: Path, otherwise: Prices) -> Prices:
    """The price table that the recording in this directory was made with."""
    tables = [record["prices"] for record in read_lines(recording / FILE, growing=True) if "prices" in record]
    if not tables:
        return otherwise
    return {name: None if price is None else PricesConfig(**price) for name, price in tables[-1].items()}


def costs(events: Iterable[Event], llm_secs: Callable[[str, int], float], prices: Prices) -> dict[str, Cost]:
    """Model -> what its answers took; `llm_secs`: (recording key, occurrence) -> how long one took."""
    calls: dict[str, list[Call]] = {name: [] for name in prices}
    for event in events:
        for call in event.calls if isinstance(event, Stepped) else ():
            calls.setdefault(call.model, []).append(call)
    return {name: _cost(own, llm_secs, prices.get(name)) for name, own in calls.items()}


def _cost(calls: list[Call], llm_secs: Callable[[str, int], float], price: PricesConfig | None) -> Cost:
    altering = [call for call in calls if call.role != "regular"]

    def secs(some: list[Call]) -> float:
        return round(sum(llm_secs(call.key, call.occurrence) for call in some), 3)

    def usd(some: list[Call]) -> float | None:
        tokens = Tokens(sum(c.prompt_tokens for c in some), sum(c.completion_tokens for c in some))
        return None if price is None else round(tokens.usd(price), 9)

    return Cost(secs(calls), secs(altering), usd(calls), usd(altering))
