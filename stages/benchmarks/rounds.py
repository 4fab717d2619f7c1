"""Measures several subjects in turn, round by round, so that drift of the machine affects all of them."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

from colt_pipeline.config.schema import MeasureConfig
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.measurement.timing import time_kernel

PAUSE_SECS = 0.1
"""Workers of OpenMP spin for milliseconds after a call, those of ONNX Runtime for longer than 20, which makes whatever
runs next up to three times slower: a kernel of 0.24 ms took 0.41 to 1.5 ms after pauses of 20 ms."""
_TURN_SECS = 0.02
_TRIES = 3


def medians(subjects: Mapping[str, Callable[[], float]], rounds: int, lock: str) -> dict[str, float]:
    """Measure each subject once per round.

    Args:
        subjects: name -> function that returns one measurement.
        rounds: number of rounds.
        lock: device to hold during each measurement.

    Returns:
        Name -> median.
    """
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(1, rounds + 1):
        for name, measure in subjects.items():
            with device_lock(lock):
                found[name].append(measure())
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return {name: statistics.median(values) for name, values in found.items()}


def in_turn(subjects: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Time subjects that have threads of their own in this process.

    Each round begins with another subject. Before each there is a pause, in which the threads of the others fall
    asleep; and as a rested subject is slow at first, as many calls as are timed go before them.

    Returns:
        Name -> median over the rounds of the mean seconds of a call.
    """
    names = list(subjects)
    calls = {name: max(1, math.ceil(_TURN_SECS / _best_of(subjects[name]))) for name in names}
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            time.sleep(PAUSE_SECS)
            _mean_secs(subjects[name], calls[name])
            found[name].append(_mean_secs(subjects[name], calls[name]))
        names = [*names[1:], *names[:1]]
    return {name: statistics.median(values) for name, values in found.items()}


def _best_of(run: Callable[[], object]) -> float:
    time.sleep(PAUSE_SECS)
    return min(_mean_secs(run, 1) for _ in range(_TRIES))


def _mean_secs(run: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) / calls


def median_secs(run: Callable[[], object], settings: MeasureConfig) -> float:
    """Median seconds of `run`, timed by the same rules as the kernels of a search."""

    def timer(number: int, repeat: int) -> list[float]:
        times = []
        for _ in range(repeat):
            begin = time.perf_counter()
            for _ in range(number):
                run()
            times.append((time.perf_counter() - begin) / number)
        return times

    return statistics.median(time_kernel(timer, settings, None)[0])


def own_process() -> Executor:
    """A fresh process, for work that keeps its own threads or memory; ends when the executor is closed."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))
