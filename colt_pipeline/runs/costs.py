"""What a run's answers cost per model and kind of call, at the prices of its recording; and estimates in advance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

from msgspec import Meta

from colt_pipeline.config.schema import Config, PricesConfig
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import NO_MODEL, Reply
from colt_pipeline.runs.events import Call, Event, with_calls
from colt_pipeline.runs.layout import SPENDING
from colt_pipeline.runs.recorded import Fields, read_typed
from colt_pipeline.serialization import Count, Elapsed, typed

Prices = Mapping[str, PricesConfig | None]
Replies = Callable[[str, int], Reply | None]
"""(key, occurrence) of a question -> the recorded answer, None if there is none."""

_TOKENS_PER_PRICE = 1e6


@dataclass(frozen=True)
class Tokens:
    """Tokens of one call."""

    prompt: int
    completion: int
    cached: int = 0
    """Those of the prompt that the provider had cached."""

    def usd(self, prices: PricesConfig) -> float:
        """Their cost at these prices."""
        cached_input = prices.input if prices.cached_input is None else prices.cached_input
        prompt = (self.prompt - self.cached) * prices.input + self.cached * cached_input
        return (prompt + self.completion * prices.output) / _TOKENS_PER_PRICE


NO_TOKENS = Tokens(0, 0)


@dataclass(frozen=True)
class Cost:
    """The time and money a model's answers took in total, and the part spent on course alterations."""

    llm_secs: float = 0.0
    alteration_llm_secs: float = 0.0
    usd: float | None = None
    """None if the price is unknown or a stand-in answered."""
    alteration_usd: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What future calls will take, summed over all models."""

    calls: float = 0.0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    usd: float = 0.0

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


def listed_prices(config: Config) -> Prices:
    """Model of the run -> its configured price (None if it has none), even if something else answers in its place."""
    return {model.name: config.models[model.name].prices for model in config.model_specs if model != NO_MODEL}


def configured_prices(config: Config) -> Prices:
    """Live model -> its price, None if it has none. Stand-ins and random answers are free."""
    live = {model.name for model in config.model_specs if model.provider in config.providers}
    return {name: price for name, price in listed_prices(config).items() if name in live}


_Usd = Annotated[float, Meta(ge=0, le=1e12)]


class _Price(TypedDict):
    input: _Usd
    output: _Usd
    cached_input: NotRequired[_Usd]


class _Session(TypedDict):
    prices: dict[str, _Price | None]


class _Attempt(TypedDict):
    attempt: Count
    model: str
    prompt_tokens: Count
    completion_tokens: Count
    usd: _Usd | None
    secs: Elapsed


def read_payment(line: Fields) -> Fields:
    """A line of ``spend.jsonl``: the price table of a session, or an attempt.

    Raises:
        ValueError: the line is neither; the message names the field.
    """
    typed(_Session if "prices" in line else _Attempt, line)
    return line


def read_account(path: Path) -> list[Fields]:
    """All lines of a ``spend.jsonl``; none if the file does not exist.

    Raises:
        JournalError, RecordingError: the file is corrupt, or a line is not what `Budget` writes.
    """
    return read_typed(path, read_payment)


def recorded_prices(recording: Path, otherwise: Prices) -> Prices:
    """The price table under which the recording in this directory was made; `otherwise` if it has none."""
    tables = [record["prices"] for record in read_account(recording / SPENDING) if "prices" in record]
    if not tables:
        return otherwise
    return {name: None if price is None else PricesConfig(**price) for name, price in tables[-1].items()}


def costs(events: Iterable[Event], replies: Replies, prices: Prices) -> dict[str, Cost]:
    """Model -> what its answers cost.

    Args:
        events: the journal of the run.
        replies: the recorded answers.
        prices: model -> price, None if unknown.
    """
    calls: dict[str, list[Call]] = {name: [] for name in prices}
    for _, applied in with_calls(events):
        for call in applied:
            calls.setdefault(call.model, []).append(call)
    return {name: _cost(own, replies, prices.get(name)) for name, own in calls.items()}


def _cost(calls: list[Call], replies: Replies, price: PricesConfig | None) -> Cost:
    altering = [call for call in calls if call.role != "regular"]

    def recorded(some: list[Call]) -> list[Reply | None]:
        return [replies(call.key, call.occurrence) for call in some]

    def secs(some: list[Call]) -> float:
        return round(sum(reply.latency_secs if reply else 0.0 for reply in recorded(some)), 3)

    def usd(some: list[Call]) -> float | None:
        prompt, completion = sum(c.prompt_tokens for c in some), sum(c.completion_tokens for c in some)
        tokens = Tokens(prompt, completion, sum(reply.cached_tokens for reply in recorded(some) if reply))
        return None if price is None else round(tokens.usd(price), 9)

    return Cost(secs(calls), secs(altering), usd(calls), usd(altering))


def estimate(calls: Mapping[str, float], tokens: Mapping[str, Sequence[Tokens]], prices: Prices) -> Estimate:
    """What future calls will take if on average they resemble known ones.

    Args:
        calls: model -> number of future calls.
        tokens: model -> tokens of known (or assumed) calls.
        prices: model -> price.

    Raises:
        ConfigError: a model that will be called has no price, or none of its calls is known.
    """
    total = Estimate()
    for name, number in calls.items():
        if not number:
            continue
        price, seen = prices.get(name), tokens.get(name, ())
        if price is None:
            raise ConfigError(f"an estimate in USD needs the prices of {name}; give models.{name}.prices")
        if not seen:
            raise ConfigError(f"an estimate of {number:g} calls to {name} needs the tokens of at least one call")
        share = number / len(seen)
        total += Estimate(
            calls=number,
            prompt_tokens=share * sum(t.prompt for t in seen),
            completion_tokens=share * sum(t.completion for t in seen),
            usd=share * sum(t.usd(price) for t in seen),
        )
    return total


def longest_answers(config: Config) -> dict[str, int]:
    """Model of the run -> the most tokens that its answers may have."""
    return {model.name: model.sampling.get("max_tokens", config.llm.max_tokens) for model in config.model_specs}


def scaled(
    tokens: Mapping[str, Sequence[Tokens]],
    samples: float,
    to_samples: int,
    prices: Prices,
    longest_tokens: Mapping[str, int],
) -> tuple[Estimate, Estimate]:
    """What a run will take if it resembles a known one, and what if all its answers have the maximum length.

    Args:
        tokens: model -> tokens of the known run's calls.
        samples: samples of the known run.
        to_samples: samples of the future run.
        prices: model -> price.
        longest_tokens: model -> the maximum length of its answers, see `longest_answers`.

    Raises:
        ConfigError: a model that was called has no price.
    """
    calls = {name: len(seen) * to_samples / samples for name, seen in tokens.items()}
    longest = {name: [Tokens(t.prompt, longest_tokens[name]) for t in seen] for name, seen in tokens.items()}
    return estimate(calls, tokens, prices), estimate(calls, longest, prices)
