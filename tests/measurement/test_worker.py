"""A kernel's process: its time limit counts from when it has its device."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from colt_pipeline.measurement.worker import Begin, _in_fork
from colt_pipeline.records import Measurement

pytestmark = pytest.mark.tvm

LIMIT_SECS = 0.5


def answer(work: Callable[[Begin], Measurement], waiting_secs: float) -> dict[str, Any]:
    return _in_fork(work, LIMIT_SECS, waiting_secs)


def test_waiting_for_the_device_is_not_running() -> None:
    def late(begin: Begin) -> Measurement:
        time.sleep(2 * LIMIT_SECS)
        begin()
        return Measurement((1.0,), max_relative_error=0.0)

    assert answer(late, 30.0)["run_secs"] == [1.0]


def test_a_kernel_that_has_its_device_is_held_to_its_limit() -> None:
    def endless(begin: Begin) -> Measurement:
        begin()
        time.sleep(60)
        return Measurement()

    begin = time.monotonic()
    found = answer(endless, 30.0)
    assert found["error"] == "timeout" and found["detail"] == "the run took longer than 0.5 s"
    assert time.monotonic() - begin < 20


def test_a_long_answer_arrives_whole() -> None:
    def long(begin: Begin) -> Measurement:
        begin()
        return Measurement(error="run_error", detail="x" * (1 << 20))

    assert len(answer(long, 30.0)["detail"]) == 1 << 20
