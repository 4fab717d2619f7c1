"""The results of a run, from handwritten events; see `toy_run.events_by_hand`."""

from __future__ import annotations

from colt_pipeline.config.schema import PricesConfig
from colt_pipeline.runs.events import Event
from colt_pipeline.search.outcome import ALTERATIONS, CALL_COLUMNS, calls, turn_columns, turns
from colt_pipeline.search.state import State
from tests.toy import LARGE, SMALL, settings
from tests.toy_run import events_by_hand


def folded(events: list[Event]) -> State:
    state = State((LARGE, SMALL), settings())
    for event in events:
        state.apply(event)
    return state


def test_a_regular_call_has_the_program_that_was_pruned_and_no_other() -> None:
    stats = folded(events_by_hand("TileSize")).stats
    assert (stats["small"].children, stats["small"].regressions) == (2, 2), "one was pruned; a failed call has none"
    assert (stats["large"].children, stats["large"].regressions) == (0, 0), "an alteration is not a regular call"


def test_tokens_cost_what_the_model_is_listed_for_and_nothing_is_known_without_a_price() -> None:
    prices = {"small": PricesConfig(input=1.0, output=10.0, date="", source=""), "large": None}
    large, small = calls(folded(events_by_hand("TileSize")), (LARGE, SMALL), "large", {}, prices)
    assert tuple(small) == CALL_COLUMNS
    assert small["estimated_usd"] == 3 * (100 * 1.0 + 10 * 10.0) / 1e6 and small["usd"] is None
    assert large["estimated_usd"] is None


def test_turns_count_calls_between_measured_batches() -> None:
    rows = turns(events_by_hand("TileSize"), counts_calls=False)
    assert rows == [{"sample": 2, "small": 2, ALTERATIONS: 1}, {"sample": 4, "small": 1, ALTERATIONS: 0}]
    assert turn_columns(rows) == ["sample", "small", ALTERATIONS], "the large model had no turn of its own"
    assert turn_columns(turns([], counts_calls=False)) == ["sample", ALTERATIONS]
