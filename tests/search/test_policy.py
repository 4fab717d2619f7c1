"""MA-UCT against values computed by hand from the paper's formula (section 3.2)."""

import math
from functools import partial

import pytest

from colt_pipeline.search.policy import ma_uct, phi_small, preferences


def test_phi_small_is_one_for_the_smallest_and_zero_for_the_largest() -> None:
    phi = preferences({"a": 7.0, "b": 300.0, "c": math.sqrt(7.0 * 300.0)})
    assert phi["a"] == pytest.approx(1.0)
    assert phi["b"] == 0.0
    assert phi["c"] == pytest.approx(0.5)  # halfway on the log scale


def test_phi_small_does_not_depend_on_the_unit_of_the_count() -> None:
    assert phi_small(8.0, 7.0, 300.0) == pytest.approx(phi_small(8e9, 7e9, 300e9))


def test_one_model_alone_has_no_preference() -> None:
    assert preferences({"only": 20.0}) == {"only": 0.0}


def test_ma_uct_equals_the_formula() -> None:
    # W = 1.2, N = 3, N(parent) = 5, phi = 0.25, lambda = 0.5, c = sqrt(2)
    expected = 0.5 * 0.4 + 0.5 * 0.25 + math.sqrt(2) * math.sqrt(math.log(5) / 3)
    assert ma_uct(1.2, 3, 5, 0.25, 0.5, math.sqrt(2)) == pytest.approx(expected)


def test_lambda_trades_reward_for_size() -> None:
    good_large = partial(ma_uct, value=0.9, visits=1, parent_visits=2, phi=0.0, c=0.0)
    poor_small = partial(ma_uct, value=0.2, visits=1, parent_visits=2, phi=1.0, c=0.0)
    assert good_large(lambda_=0.0) > poor_small(lambda_=0.0)
    assert good_large(lambda_=0.9) < poor_small(lambda_=0.9)
