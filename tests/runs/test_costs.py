"""Estimates of what calls will cost."""

from __future__ import annotations

import pytest

from colt_pipeline.config.schema import PricesConfig
from colt_pipeline.errors import ConfigError
from colt_pipeline.runs.costs import Estimate, Tokens, configured_prices, estimate, listed_prices
from tests.support import Compose

PRICES = {
    "big": PricesConfig(input=2.0, output=10.0, date="", source=""),
    "little": PricesConfig(input=0.5, output=1.0, date="", source=""),
    "free": None,
}


def test_calls_are_like_the_known_ones_on_average_and_each_model_has_its_price() -> None:
    tokens = {"big": [Tokens(1000, 100), Tokens(3000, 200)], "little": [Tokens(400, 40)], "free": []}
    total = estimate({"big": 10, "little": 1000, "free": 0}, tokens, PRICES)
    assert total.calls == 1010
    assert total.prompt_tokens == pytest.approx(10 * 2000 + 1000 * 400)
    assert total.completion_tokens == pytest.approx(10 * 150 + 1000 * 40)
    assert total.usd == pytest.approx((20_000 * 2 + 1_500 * 10 + 400_000 * 0.5 + 40_000 * 1) / 1e6)


def test_estimates_add_up() -> None:
    assert Estimate(1, 20, 3, 0.5) + Estimate(2, 30, 4, 0.25) == Estimate(3, 50, 7, 0.75)


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ({"free": 1}, "needs the prices of free; give models.free.prices"),
        ({"big": 5}, "5 calls to big needs the tokens of at least one call"),
    ],
)
def test_no_estimate_without_a_price_or_a_known_call(calls: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        estimate(calls, {"free": [Tokens(1, 1)], "big": []}, PRICES)


def test_a_stand_ins_model_has_a_listed_price_but_nothing_to_pay(composed: Compose) -> None:
    config = composed("model_set=2")
    assert configured_prices(config) == {}
    assert set(listed_prices(config)) == {model.name for model in config.model_specs}
    assert all(price is not None and price.output > 0 for price in listed_prices(config).values())
    assert listed_prices(composed("search=mcts_no_llm")) == {}
