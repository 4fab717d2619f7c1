"""Sites and edits: allowed decisions and their notation; settings that recordings lack."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import MissingMandatoryValue, OmegaConf

from colt_pipeline.records import REJECTIONS, Edit, Site
from colt_pipeline.serialization import added, as_recorded, written

TILE = Site("TileSize", "matmul.k", (16, 8), extent=128, innermost=64)
CHOICE = Site("Unroll", "unroll", (16,), choices=(0, 16, 64))

factors = st.lists(st.integers(-4, 24), min_size=0, max_size=5)


@given(factors, st.integers(1, 256), st.integers(1, 4), st.integers(1, 64))
def test_a_tile_accepts_exactly_the_factorizations_that_fit(
    decision: list[int], extent: int, count: int, innermost: int
) -> None:
    site = Site("TileSize", "b.i", (1,) * (count - 1) + (extent,), extent=extent, innermost=innermost)
    fits = (
        len(decision) == count
        and all(f >= 1 for f in decision)
        and math.prod(decision) == extent
        and decision[-1] <= innermost
    )
    assert (site.violation(tuple(decision)) is None) == fits


@given(st.lists(st.integers(1, 12), min_size=2, max_size=4), st.integers(1, 64))
def test_a_right_factorization_is_refused_only_for_its_innermost_factor(numbers: list[int], innermost: int) -> None:
    site = Site("TileSize", "b.i", tuple(numbers), extent=math.prod(numbers), innermost=innermost)
    violation = site.violation(tuple(numbers))
    assert violation == (None if numbers[-1] <= innermost else f"must end with at most {innermost}")
    negative = site.violation((-numbers[0], -numbers[1], *numbers[2:]))  # the product is right
    assert negative == f"must multiply to {site.extent}"


@given(st.lists(st.integers(-3, 70), max_size=2))
def test_a_choice_accepts_exactly_one_of_its_numbers(decision: list[int]) -> None:
    assert (CHOICE.violation(tuple(decision)) is None) == (len(decision) == 1 and decision[0] in (0, 16, 64))


@pytest.mark.parametrize(
    ("site", "bounds", "now"),
    [(TILE, "2 factors with product 128, the last at most 64", "[16, 8]"), (CHOICE, "one of 0, 16, 64", "16")],
)
def test_a_site_in_words(site: Site, bounds: str, now: str) -> None:
    assert (site.bounds, site.shown(site.now)) == (bounds, now)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (Edit("TileSize"), "TileSize"),
        (Edit("TileSize", TILE, (4, 32)), "TileSize(matmul.k=[4,32])"),
        (Edit("Unroll", CHOICE, (0,)), "Unroll(unroll=0)"),
    ],
)
def test_an_edit_in_words(edit: Edit, text: str) -> None:
    assert str(edit) == text


@dataclass
class Old:
    a: int


@dataclass
class New:
    a: int
    b: float = added(before=0.5)


@dataclass
class Outer:
    inner: New
    several: dict[str, New]


def test_a_new_setting_at_its_old_meaning_leaves_what_is_written_as_it_was() -> None:
    assert written(New(1, 0.5)) == written(Old(1)) == {"a": 1}
    assert written(New(1, 0.7)) == {"a": 1, "b": 0.7}
    assert written(Outer(New(1, 0.5), {"x": New(2, 0.7)})) == {"inner": {"a": 1}, "several": {"x": {"a": 2, "b": 0.7}}}


def test_a_recording_without_a_new_setting_means_what_held_before() -> None:
    assert as_recorded(New, {"a": 1}) == New(1, 0.5)
    assert as_recorded(New, {"a": 1, "b": 0.7}) == New(1, 0.7)
    with pytest.raises(TypeError):
        as_recorded(New, {"a": 1, "c": 2})


def test_a_new_setting_has_no_default_in_the_configuration() -> None:
    with pytest.raises(MissingMandatoryValue):
        OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(New), {"a": 1}))


def test_rejections_are_listed_in_the_order_of_the_columns_of_calls() -> None:
    assert REJECTIONS[:4] == ("empty", "not_json", "truncated", "refusal")
    assert REJECTIONS[-3:] == ("inapplicable", "duplicate", "transport") and len(set(REJECTIONS)) == 10
