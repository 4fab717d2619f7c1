"""How long a kernel is timed, on scripted run times."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from colt_pipeline.measurement.timing import spread, time_kernel
from tests.support import configured

SETTINGS = configured(
    "measure=default",
    "measure.min_repeats=3",
    "measure.max_repeats=12",
    "measure.max_spread=0.05",
    "measure.budget_secs=1",
    "measure.slower=4",
    "measure.run_timeout_secs=1000",
).measure


class Script:
    """A timer that returns scripted run times, repeating the last one, and counts every run of the kernel."""

    def __init__(self, *times: float) -> None:
        self.times = list(times)
        self.calls: list[tuple[int, int]] = []

    def __call__(self, number: int, repeat: int) -> list[float]:
        self.calls.append((number, repeat))
        return [self.times.pop(0) if len(self.times) > 1 else self.times[0] for _ in range(repeat)]


def test_steady_times_end_after_the_fewest_runs() -> None:
    timer = Script(0.01)
    assert time_kernel(timer, SETTINGS, None) == ((0.01,) * 3, "steady")
    assert timer.calls == [(1, 1), (1, 1), (1, 2)]


def test_times_that_spread_are_repeated_until_the_limit() -> None:
    timer = Script(*[0.01, 0.02, 0.03, 0.04] * 5)
    run_secs, stop = time_kernel(timer, SETTINGS, None)
    assert stop == "repeats" and len(run_secs) == 12
    assert run_secs[0] == 0.02  # the cold run does not count


def test_times_that_settle_end_when_they_have() -> None:
    run_secs, stop = time_kernel(Script(0.03, 0.02, *[0.01] * 20), SETTINGS, None)
    assert stop == "steady" and 6 <= len(run_secs) < 12
    assert spread(run_secs) <= 0.05


def test_the_budget_ends_between_rounds_and_never_below_the_fewest_runs() -> None:
    run_secs, stop = time_kernel(Script(*[1.0, 2.0, 3.0] * 5), SETTINGS, None)
    assert stop == "budget" and run_secs == (2.0, 3.0, 1.0)


@pytest.mark.parametrize(("first", "stop"), [(0.41, "slower"), (0.39, "steady")])
def test_a_clear_loser_ends_after_one_warm_run(first: float, stop: str) -> None:
    run_secs, why = time_kernel(Script(9.0, first), SETTINGS, best_secs=0.1)
    assert why == stop and len(run_secs) == (1 if stop == "slower" else 3)


def test_without_a_best_or_with_zero_nothing_is_a_loser() -> None:
    assert time_kernel(Script(9.0), SETTINGS, None)[1] == "steady"
    assert time_kernel(Script(9.0), replace(SETTINGS, slower=0.0), 0.1)[1] == "steady"


def test_short_kernels_are_repeated_within_a_run() -> None:
    timer = Script(1e-5)
    run_secs, _ = time_kernel(timer, SETTINGS, None)
    assert timer.calls == [(1, 1), (1, 1), (100, 3)]
    assert len(run_secs) == 3


def test_a_flushed_cache_is_flushed_before_every_run() -> None:
    timer = Script(1e-5)
    time_kernel(timer, replace(SETTINGS, cache_flush_mib=1), None)
    assert all(number == 1 for number, _ in timer.calls)


def test_a_slow_kernel_ends_before_its_time_limit() -> None:
    run_secs, stop = time_kernel(Script(8.0), replace(SETTINGS, run_timeout_secs=30.0), None)
    assert (run_secs, stop) == ((8.0,), "budget")


@pytest.mark.parametrize("times", [(float("nan"),), (0.0,), (0.01, -1.0), (0.01, float("inf"))])
def test_what_is_no_time_is_refused(times: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="the device reports the run times"):
        time_kernel(Script(*times), SETTINGS, None)


@given(
    st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=40), st.integers(1, 5), st.integers(0, 10), st.floats(0.0, 1.0)
)
def test_it_ends_within_its_limits(times: list[float], fewest: int, more: int, bound: float) -> None:
    settings = replace(SETTINGS, min_repeats=fewest, max_repeats=fewest + more, max_spread=bound)
    run_secs, stop = time_kernel(Script(*times), settings, None)
    assert 1 <= len(run_secs) <= fewest + more
    enough = len(run_secs) >= fewest
    assert enough or stop == "budget"  # a slow kernel, see above
    assert (stop == "steady") == (enough and spread(run_secs) <= bound)
