"""Things that are measured side by side: in turn, round by round, so that a drift of the machine meets all of them."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context

from colt_pipeline.config.schema import MeasureConfig
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.measurement.timing import time_kernel


def medians(subjects: Mapping[str, Callable[[], float]], rounds: int, lock: str) -> dict[str, float]:
    """Each subject's median over `rounds` rounds; `lock`: the device that nobody else may use meanwhile."""
    found: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(1, rounds + 1):
        for name, measure in subjects.items():
            with device_lock(lock):
                found[name].append(measure())
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    return {name: statistics.median(values) for name, values in found.items()}


def median_secs(run: Callable[[], object], settings: MeasureConfig) -> float:
    """Median seconds of `run`, timed by the rules that kernels of searches are timed by."""

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
    """A fresh process for whatever keeps threads or memory of its own; lives until the executor is closed."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))
