"""Who stops when in a race, on scripted run times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colt_pipeline.measurement.racing import ASSUMED_SPREAD, Races, clear_ratio, settling_seen, spread_seen
from colt_pipeline.records import Measurement
from tests.support import configured

SETTINGS = configured(
    "measure=racing",
    "measure.min_repeats=3",
    "measure.max_repeats=8",
    "measure.max_spread=0.02",
    "measure.budget_secs=100",
    "measure.slower=4",
    "measure.racing=3",
    "measure.run_timeout_secs=1000",
).measure
FIRST_LIMIT = math.exp(3 * ASSUMED_SPREAD * math.sqrt(2))
"""Clearly slower, in one run each, before any spread has been seen."""


class Script:
    """A kernel with scripted run times, cold one first, the last one repeated; a string is an error."""

    def __init__(self, *times: float | str, log: list[str] | None = None, name: str = "") -> None:
        self.times = list(times)
        self.log = [] if log is None else log
        self.name = name
        self.left = False

    def _next(self, runs: int) -> Measurement:
        assert not self.left, "it has left"
        self.log.append(self.name)
        found: list[float] = []
        for _ in range(runs):
            time = self.times.pop(0) if len(self.times) > 1 else self.times[0]
            if isinstance(time, str):
                self.left = True
                return Measurement(error="crash", detail=time)
            found.append(time)
        return Measurement(tuple(found), max_relative_error=1e-7)

    def enter(self) -> Measurement:
        return self._next(2)

    def again(self, repeats: int) -> Measurement:
        return self._next(repeats)

    def leave(self) -> None:
        assert not self.left
        self.left = True


def race(*racers: Script, best_secs: float = math.inf) -> list[Measurement]:
    return Races(SETTINGS).run(racers, best_secs)


def test_what_is_clearly_slower_runs_once_and_the_best_until_its_time_is_steady() -> None:
    slow, fast = Script(0.2, 0.19), Script(0.2, 0.1)
    first, best = race(slow, fast)
    assert (first.run_secs, first.stop) == ((0.19,), "slower")
    assert (best.run_secs, best.stop) == ((0.1,) * 4, "steady")
    assert slow.left and not fast.left


@pytest.mark.parametrize(("times", "once"), [(0.99, False), (1.01, True)])
def test_one_run_is_clearly_slower_beyond_the_assumed_spread(times: float, once: bool) -> None:
    other = race(Script(0.1), Script(times * FIRST_LIMIT * 0.1))[1]
    assert other.stop == "slower" and (len(other.run_secs) == 1) == once


def test_a_disturbed_warm_run_is_no_reason_to_stop() -> None:
    results = race(Script(0.11, 0.1), Script(0.11, 0.3, 0.1))
    assert [m.stop for m in results] == ["repeats", "repeats"]
    assert results[1].latency_secs == 0.1


def test_one_disturbed_run_in_a_later_turn_is_no_reason_to_stop_either() -> None:
    results = race(Script(0.11, 0.1), Script(0.11, 0.1, 0.3, 0.1))
    assert [m.stop for m in results] == ["repeats", "repeats"]
    assert results[1].latency_secs == 0.1


def test_a_wrong_result_is_recorded_without_the_cold_run() -> None:
    class Wrong(Script):
        def enter(self) -> Measurement:
            return Measurement((0.2, 0.1), error="wrong_result", detail="relative error 1")

    [wrong] = race(Wrong(0.1))
    assert (wrong.run_secs, wrong.error) == ((0.1,), "wrong_result")


def test_kernels_that_are_close_take_turns_until_the_limit() -> None:
    log: list[str] = []
    results = race(*(Script(0.1 + n / 10_000, log=log, name=str(n)) for n in range(3)))
    assert [len(m.run_secs) for m in results] == [8, 8, 8] and {m.stop for m in results} == {"repeats"}
    assert "".join(log) == "012" + "120" + "201" + "012", "each round begins with another"


def test_what_has_been_seen_decides_what_is_clear() -> None:
    """A kernel 15 % slower than the best is close on a noisy machine and clearly slower on a quiet one."""
    quiet, noisy = Races(SETTINGS), Races(SETTINGS)
    for _ in range(8):
        quiet.run([Script(0.1), Script(0.1)], math.inf)
        noisy.run([Script(*[0.1, 0.1, 0.13, 0.08] * 4), Script(*[0.1, 0.08, 0.13, 0.1] * 4)], math.inf)
    runs = [len(races.run([Script(0.1), Script(0.115)], math.inf)[1].run_secs) for races in (quiet, noisy)]
    assert runs[0] == 1 < runs[1]


def test_the_best_of_earlier_races_sets_the_pace() -> None:
    """The machine has become half as fast: what was 0.1 s takes 0.2 s now, and 0.2 s is as good."""
    races = Races(SETTINGS)
    best = Script(*[0.1] * 5, 0.2)
    assert races.run([best], math.inf)[0].run_secs == (0.1,) * 4
    equal, slower = races.run([Script(0.2), Script(0.4)], 0.1)
    assert equal.stop != "slower" and slower.stop == "slower"
    quicker = Script(0.05)
    races.run([quicker], 0.1)
    assert best.left and not quicker.left, "another one sets the pace"


def test_a_pacemaker_that_is_gone_is_not_missed() -> None:
    races = Races(SETTINGS)
    races.run([Script(*[0.1] * 5, "gone")], math.inf)
    only, lost = races.run([Script(0.2), Script(0.5)], 0.1)
    assert only.stop == "steady" and lost.stop == "slower"


@pytest.mark.parametrize(("secs", "runs"), [(1.0, 2), (400.0, 1)])
def test_a_pacemakers_turn_fits_into_its_time_limit(secs: float, runs: int) -> None:
    asked: list[int] = []

    class Asked(Script):
        def again(self, repeats: int) -> Measurement:
            asked.append(repeats)
            return super().again(repeats)

    races = Races(SETTINGS)
    races.run([Asked(secs)], math.inf)
    asked.clear()
    races.run([Script(secs)], secs)
    assert asked[0] == runs


def test_what_takes_far_longer_than_any_before_stops_although_nothing_in_the_batch_is_better() -> None:
    assert [m.stop for m in race(Script(0.41), Script(0.42), best_secs=0.1)] == ["slower", "slower"]
    assert race(Script(0.39), best_secs=0.1)[0].stop == "steady"


@pytest.mark.parametrize("times", [("died",), (0.1, 0.1, "died")], ids=["at once", "later"])
def test_a_kernel_that_fails_costs_its_own_sample(times: tuple[float | str, ...]) -> None:
    before, failed, after = race(Script(0.1), Script(*times), Script(0.1))
    assert (failed.error, failed.detail, failed.latency_secs) == ("crash", "died", None)
    assert before.latency_secs == after.latency_secs == 0.1


def test_a_fast_kernel_that_fails_stops_nobody() -> None:
    failed, right = race(Script(0.001, 0.001, "died"), Script(0.1))
    assert failed.error == "crash" and right.latency_secs == 0.1
    assert race(Script("wrong"), Script("wrong too"))[1].detail == "wrong too"


def test_a_first_run_that_is_typically_slower_is_no_reason_to_stop() -> None:
    """Kernels settle at 0.1 s after a first warm run of 0.15 s, which is beyond the spread."""
    races = Races(SETTINGS)
    for _ in range(8):
        races.run([Script(0.2, 0.15, 0.1), Script(0.2, 0.15, 0.1)], math.inf)
    equal, slower = races.run([Script(0.2, 0.15, 0.1), Script(0.6, 0.45, 0.3)], 0.1)
    assert len(equal.run_secs) > 1 and equal.latency_secs == 0.1
    assert (slower.run_secs, slower.stop) == ((0.45,), "slower")
    assert settling_seen([math.log(1.5)] * 9) == pytest.approx(math.log(1.5))


def test_repeated_runs_say_how_large_the_spread_is() -> None:
    assert spread_seen([]) == pytest.approx(ASSUMED_SPREAD)
    assert spread_seen([[0.1, 0.1]] * 1000) < 0.01
    rng = np.random.default_rng(0)
    normal = np.exp(rng.normal(0.0, 0.3, (1000, 8)))
    assert spread_seen(normal.tolist()) == pytest.approx(0.3, rel=0.15)
    normal[:, 0] *= 10
    assert spread_seen(normal.tolist()) < 0.4, "disturbed runs count for little"


def test_more_runs_tell_smaller_differences_apart_down_to_a_limit() -> None:
    ratios = [clear_ratio(0.05, n, n, SETTINGS) for n in (1, 2, 4, 1000)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[-1] == math.exp(SETTINGS.max_spread)


@given(st.lists(st.lists(st.floats(1e-4, 10.0), min_size=2, max_size=20), min_size=1, max_size=9), st.floats(0.1, 10))
def test_every_kernel_gets_a_latency_within_the_limits(times: Sequence[Sequence[float]], confidence: float) -> None:
    settings = replace(SETTINGS, racing=confidence)
    racers = [Script(*each) for each in times]
    results = Races(settings).run(racers, math.inf)
    assert len(results) == len(racers) and all(1 <= len(m.run_secs) <= 8 for m in results)
    assert all(m.stop is not None and m.error is None for m in results)
    assert sum(not racer.left for racer in racers) == 1, "the best one's process stays for the next race"
