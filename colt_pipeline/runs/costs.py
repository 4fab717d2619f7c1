"""What the answers of a run took, per model and kind of call, at the prices of its recording; and an estimate ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from colt_pipeline.config.schema import Config, PricesConfig
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import NO_MODEL
from colt_pipeline.runs.events import Call, Event, Stepped
from colt_pipeline.runs.jsonl import read_growing
from colt_pipeline.runs.layout import SPENDING

Prices = Mapping[str, PricesConfig | None]


_TOKENS_PER_PRICE = 1e6


@dataclass(frozen=True)
class Tokens:
    """Tokens of one call."""

    prompt: int
    completion: int

    def usd(self, prices: PricesConfig) -> float:
        """What they cost."""
        return (self.prompt * prices.input + self.completion * prices.output) / _TOKENS_PER_PRICE


NO_TOKENS = Tokens(0, 0)


@dataclass(frozen=True)
class Cost:
    """What a model's answers took in all, and that share of it which course alterations took."""

    llm_secs: float = 0.0
    alteration_llm_secs: float = 0.0
    usd: float | None = None
    """None: no price is known, or a stand-in answered."""
    alteration_usd: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What calls will take, all models together."""

    calls: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    usd: float = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def listed_prices(config: Config) -> Prices:
    """Model of the run -> its configured price, None for one without; whoever answers in its place."""
    return {model.name: config.models[model.name].prices for model in config.model_specs if model != NO_MODEL}


def configured_prices(config: Config) -> Prices:
    """Live model -> what it costs, None for one without a price. Stand-ins and random answers are not paid for."""
    live = {model.name for model in config.model_specs if model.provider in config.providers}
    return {name: price for name, price in listed_prices(config).items() if name in live}


def recorded_prices(recording: Path, otherwise: Prices) -> Prices:
    """The price table that the recording in this directory was made with."""
    tables = [record["prices"] for record in read_growing(recording / SPENDING) if "prices" in record]
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


def estimate(calls: Mapping[str, float], tokens: Mapping[str, Sequence[Tokens]], prices: Prices) -> Estimate:
    """What `calls` will take if they are on average like calls whose `tokens` are known or guessed; all by model.

    Raises:
        ConfigError: a model that will be called has no price, or no call of it is known.
    """
    total = Estimate()
    for name, number in calls.items():
        if not number:
            continue
        price, seen = prices.get(name), tokens.get(name, ())
        if price is None:
            raise ConfigError(f"an estimate in USD needs the prices of {name}; give models.{name}.prices")
        if not seen:
            raise ConfigError(f"an estimate of {number:g} calls of {name} needs the tokens of at least one")
        share = number / len(seen)
        total += Estimate(
            calls=number,
            prompt_tokens=share * sum(t.prompt for t in seen),
            completion_tokens=share * sum(t.completion for t in seen),
            usd=share * sum(t.usd(price) for t in seen),
        )
    return total


def scaled(
    tokens: Mapping[str, Sequence[Tokens]], samples: float, to_samples: int, prices: Prices, longest_tokens: int
) -> tuple[Estimate, Estimate]:
    """What a run of `to_samples` will take if it is like one of `samples` whose calls took `tokens`, by model; and what
    if each of its answers has `longest_tokens`.

    Raises:
        ConfigError: a model that was called has no price.
    """
    calls = {name: len(seen) * to_samples / samples for name, seen in tokens.items()}
    longest = {name: [Tokens(t.prompt, longest_tokens) for t in seen] for name, seen in tokens.items()}
    return estimate(calls, tokens, prices), estimate(calls, longest, prices)
