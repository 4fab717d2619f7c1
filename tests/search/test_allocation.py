"""Which kernel of a model is searched next, and that statistics are shared only on request."""

from __future__ import annotations

import math

import pytest

from colt_pipeline.runs.events import Finished, Measured, Sample, Started, Stepped
from colt_pipeline.search.allocation import Share, next_task, promise
from colt_pipeline.search.state import State
from tests.toy import LARGE, SMALL, call, settings


def share(weight: int, *latencies: float | None, baseline: float = 1.0, finished: bool = False) -> Share:
    state = State((LARGE, SMALL), settings())
    state.apply(Started(1, "toy", "0", {}, "toy", "measured", baseline))
    state.apply(Measured(tuple(Sample(str(n), secs, None) for n, secs in enumerate(latencies))))
    if finished:
        state.apply(Finished("exhausted"))
    return Share(weight, state)


def test_each_gets_a_batch_first_in_order() -> None:
    assert next_task([share(1), share(100)], 2) == 0
    assert next_task([share(1, 0.5, 0.5), share(100), share(1)], 2) == 1
    assert promise(Share(1, State((SMALL,), settings())), 2) == math.inf


def test_the_larger_gain_is_preferred() -> None:
    gained, stuck = (0.5, 0.5, 0.25, 0.25), (0.5, 0.5, 0.5, 0.5)
    assert next_task([share(1, *stuck), share(2, *gained)], 2) == 1
    assert next_task([share(1, *gained), share(1, *(t / 2 for t in stuck))], 2) == 0
    assert next_task([share(1, *stuck), share(3, *stuck)], 2) == 1  # more calls
    assert next_task([share(1, *stuck), share(1, *stuck[:2])], 2) == 1  # fewer batches so far
    assert next_task([share(1, *stuck), share(1, *stuck)], 2) == 0  # the first of equals


def test_the_promise_is_seconds_of_the_model() -> None:
    assert promise(share(3, 0.5, None, 0.4, 0.3), 2) == pytest.approx(3 * 0.3 * (0.2 * 0.2 / 0.5 + 0.8 / 2))
    assert promise(share(1, None, None), 2) == pytest.approx(0.8)
    assert promise(share(1, 3.0, 2.0), 2) == pytest.approx(0.8)  # slower than the unoptimized one, which is then kept


def test_who_is_finished_has_no_turn() -> None:
    assert next_task([share(9, 0.5, finished=True), share(1, 0.5)], 1) == 1
    assert next_task([share(9, 0.5, finished=True)], 1) is None


def test_statistics_are_summed_over_the_searches_that_share_them() -> None:
    peers: list[State] = []
    one, two = (State((LARGE, SMALL), settings(), peers) for _ in range(2))
    peers += [one, two]
    alone = State((LARGE, SMALL), settings())
    step = Stepped(0, 0, (call("small", hit=True), call("large", role="course_alteration")), None, None, None, "small")
    failed = Stepped(0, 0, (call("small", outcome="not_json"),), None, None, None, "small")
    for state, event in ((one, step), (two, failed), (alone, step)):
        state.apply(event)
    assert one.known_stats == two.known_stats
    small, large = one.known_stats["small"], one.known_stats["large"]
    assert (small.regular_calls, small.hits, small.rejections["not_json"]) == (2, 1, 1)
    assert large.course_alterations == 1
    assert alone.known_stats == alone.stats and one.stats["small"].regular_calls == 1
