"""A difference is called one only if seeds and noise allow it; every reason against it has a name."""

from __future__ import annotations

import math
from typing import Any

import pytest

from colt_pipeline.analysis.verdicts import verdict

NAN = math.nan
KNOWN: dict[str, Any] = {"low": 1.2, "high": 2.0, "floor": 1.4, "seeds": 3, "estimated": False}


@pytest.mark.parametrize(
    ("ratio", "changes", "expected"),
    [
        (1.5, {}, "faster"),
        (1 / 1.5, {"low": 0.5, "high": 0.8}, "slower"),
        (1.4, {}, "within noise"),
        (1 / 1.4, {"low": 0.5, "high": 0.8}, "within noise"),
        (1.5, {"low": 0.9}, "not distinguishable"),
        (1.5, {"low": 1.0}, "not distinguishable"),
        (1 / 1.5, {"low": 0.5, "high": 1.0}, "not distinguishable"),
        (1e6, {"floor": NAN}, "noise unknown"),
        (1.5, {"low": NAN, "high": NAN}, "too few seeds: no verdict"),
        (1.5, {"seeds": 1}, "one seed: no verdict"),
        (1.5, {"estimated": True}, "estimated: no verdict"),
        (NAN, {}, "a run is missing or found nothing: no verdict"),
    ],
)
def test_verdicts(ratio: float, changes: dict[str, Any], expected: str) -> None:
    assert verdict(ratio, **(KNOWN | changes)) == expected


@pytest.mark.parametrize(
    ("ratio", "changes", "expected"),
    [
        (NAN, {"estimated": True, "seeds": 0}, "a run is missing or found nothing: no verdict"),
        (1.5, {"estimated": True, "seeds": 1, "floor": 1.0}, "estimated: no verdict"),
        (1.1, {"seeds": 1, "low": NAN, "high": NAN}, "one seed: no verdict"),
        (1.0, {"low": NAN, "high": NAN}, "within noise"),  # as of equal runs, which have no interval
        (1.0, {"low": NAN, "high": NAN, "floor": NAN}, "within noise"),  # below any floor
        (1.1, {"low": 0.9}, "within noise"),
        (1.5, {"low": NAN, "high": NAN, "floor": NAN}, "too few seeds: no verdict"),
        (1.5, {"low": 0.9, "floor": NAN}, "not distinguishable"),
    ],
)
def test_the_first_of_several_reasons_is_given(ratio: float, changes: dict[str, Any], expected: str) -> None:
    assert verdict(ratio, **(KNOWN | changes)) == expected
