"""Which model answers next: each router on a handwritten state."""

import math

import numpy as np
import pytest

from colt_pipeline.records import ModelSpec
from colt_pipeline.runs.events import Planted, Stepped
from colt_pipeline.search.routing import ROUTERS
from colt_pipeline.search.state import State
from tests.toy import LARGE, SMALL, call, child, settings

THIRD = ModelSpec("third", "embedded", "third", 14.0, False)
TWIN = ModelSpec("twin", "embedded", "twin", 8.0, False)
MODELS = (LARGE, THIRD, SMALL, TWIN)


def state_after(**hits: list[bool]) -> State:
    """A state in which each model made these regular calls, hits or not."""
    state = State(MODELS, settings())
    state.apply(Planted((child(0),)))
    for model, outcomes in hits.items():
        for hit in outcomes:
            state.apply(Stepped(state.steps, 1, (call(model, hit),), None, None, None, model))
    return state


def routed(router: str, state: State, advised: str | None = "third", seed: int = 0) -> str:
    return ROUTERS[router](MODELS, state, advised, np.random.default_rng(seed))


@pytest.mark.parametrize("advised", [m.name for m in MODELS])
def test_endogenous_follows_the_advice(advised: str) -> None:
    assert routed("endogenous", state_after(), advised) == advised


@pytest.mark.parametrize(("router", "advised"), [("endogenous", None), ("uniform", None), ("uniform", "large")])
def test_without_advice_the_draw_is_even(router: str, advised: str | None) -> None:
    state = state_after(small=[True] * 9)
    drawn = [routed(router, state, advised, seed) for seed in range(800)]
    for model in MODELS:
        assert drawn.count(model.name) / 800 == pytest.approx(0.25, abs=0.06)


def test_round_robin_takes_turns_by_steps() -> None:
    names = [routed("round_robin", state_after(small=[False] * steps)) for steps in range(6)]
    assert names == ["large", "third", "small", "twin", "large", "third"]


def test_cheapest_is_the_first_of_the_smallest() -> None:
    assert routed("cheapest", state_after()) == "small"


def test_ucb_tries_each_model_once_in_the_order_of_the_set() -> None:
    assert routed("ucb", state_after()) == "large"
    assert routed("ucb", state_after(large=[True])) == "third"
    assert routed("ucb", state_after(large=[True], third=[True], twin=[True])) == "small"


def test_ucb_takes_the_highest_bound() -> None:
    state = state_after(large=[True, False, False, False], third=[True], small=[True, True, False], twin=[False])
    # n = 9: large .25 + 1.048, third 1 + 2.096, small .667 + 1.210, twin 0 + 2.096
    bounds = {"large": 0.25 + math.sqrt(2 * math.log(9) / 4), "third": 1.0 + math.sqrt(2 * math.log(9))}
    assert bounds["large"] == pytest.approx(1.298, abs=1e-3) and bounds["third"] == pytest.approx(3.096, abs=1e-3)
    assert routed("ucb", state) == "third"
    # After ten misses of third, twin's exploration bonus dominates.
    missed = state_after(large=[True] * 8, third=[False] * 10, small=[True] * 8, twin=[False])
    assert routed("ucb", missed) == "twin"


@pytest.mark.parametrize("router", list(ROUTERS))
def test_a_model_alone_is_always_the_answer(router: str) -> None:
    state = State((SMALL,), settings())
    for _ in range(3):
        assert ROUTERS[router]((SMALL,), state, "small", np.random.default_rng(0)) == "small"
