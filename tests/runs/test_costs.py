"""Estimates of what calls will cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from colt_pipeline.config.schema import PricesConfig
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import Reply
from colt_pipeline.runs.costs import (
    Estimate,
    Tokens,
    configured_prices,
    costs,
    estimate,
    listed_prices,
    longest_answers,
    recorded_prices,
)
from colt_pipeline.serialization import canonical_json, written
from tests.support import Compose
from tests.toy_run import events_by_hand

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


CACHING = PricesConfig(input=2.0, output=10.0, date="", source="", cached_input=0.2)


def test_cached_tokens_of_a_prompt_have_their_own_price_where_there_is_one() -> None:
    tokens = Tokens(1000, 100, cached=800)
    assert tokens.usd(CACHING) == pytest.approx((200 * 2 + 800 * 0.2 + 100 * 10) / 1e6)
    big = PRICES["big"]
    assert big is not None
    assert tokens.usd(big) == Tokens(1000, 100).usd(big) == Tokens(1000, 100).usd(CACHING)
    assert written(big).keys() == {"input", "output", "date", "source"}, "accounts keep their bytes"


def test_what_a_model_cost_counts_the_tokens_that_its_recorded_answers_had_cached() -> None:
    def replies(key: str, occurrence: int) -> Reply | None:
        return Reply("", "stop", 100, 10, 1.5, "m", "served", cached_tokens=40)

    found = costs(events_by_hand("TileSize"), replies, {"small": CACHING, "large": CACHING})
    # 100 tokens in and 10 out for each call, see tests.toy_run: three calls of the small model, one of the large one
    small, large = ((calls * (60 * 2 + 40 * 0.2 + 10 * 10)) / 1e6 for calls in (3, 1))
    assert (found["small"].usd, found["large"].usd) == (pytest.approx(small), pytest.approx(large))
    assert found["large"].alteration_usd == found["large"].usd and found["small"].alteration_usd == 0
    assert found["small"].llm_secs == 4.5
    unrecorded = costs(events_by_hand("TileSize"), lambda key, occurrence: None, {"small": CACHING})["small"]
    assert (unrecorded.usd, unrecorded.llm_secs) == (pytest.approx(3 * (100 * 2 + 10 * 10) / 1e6), 0.0)


def test_a_session_with_prices_of_cached_tokens_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "spend.jsonl").write_text(canonical_json({"prices": {"big": written(CACHING), "free": None}}) + "\n")
    assert recorded_prices(tmp_path, {}) == {"big": CACHING, "free": None}


def test_the_longest_answer_is_the_models_own(composed: Compose) -> None:
    found = longest_answers(composed("model_set=4", "stand_ins=false", "llm.max_tokens=300"))
    assert found["gpt-5.2"] == 8192 and found["llama-3.1-8b-instruct"] == 300
    assert set(longest_answers(composed("model_set=4", "llm.max_tokens=300")).values()) == {300}, "of stand-ins"
