"""A semaphore whose size changes while somebody waits."""

from __future__ import annotations

from threading import Barrier, Event, Thread

import pytest

from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement.slots import Recounted, Slots


def started(target: object) -> Thread:
    thread = Thread(target=target, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_as_many_are_inside_as_the_size_says_even_if_it_grows_meanwhile() -> None:
    size = [1]
    slots, together, entered = Slots(lambda: size[0]), Barrier(3), Event()

    def enter() -> None:
        with slots:
            entered.set()
            together.wait(30)

    threads = [started(enter) for _ in range(2)]
    assert entered.wait(30) and together.n_waiting <= 1
    size[0] = 2
    together.wait(30)  # both are inside
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_whoever_waits_first_enters_first() -> None:
    slots, order = Slots(lambda: 1), []

    def enter(name: str) -> None:
        with slots:
            order.append(name)

    threads = []
    with slots:
        for name in "abc":
            threads.append(started(lambda name=name: enter(name)))
            while len(slots._queue) < len(threads):
                pass
    for thread in threads:
        thread.join(30)
    assert order == ["a", "b", "c"]


def test_with_size_zero_one_enters_and_after_closing_everybody() -> None:
    slots = Slots(lambda: 0)
    with slots:
        waiting = started(lambda: slots.__enter__())
        while not slots._queue:
            pass
        slots.close()
        waiting.join(30)
        assert not waiting.is_alive()


def test_what_fails_while_counting_reaches_who_waits_and_leaves_no_ticket() -> None:
    failing = [True]

    def count() -> int:
        if failing[0]:
            raise DeviceError("no tracker")
        return 1

    slots = Slots(count)
    with pytest.raises(DeviceError, match="no tracker"):
        slots.__enter__()
    failing[0] = False
    with slots:
        assert not slots._queue


def test_an_expensive_number_is_not_asked_for_each_time() -> None:
    asked = []
    number = Recounted(lambda: asked.append(1) or 7)  # type: ignore[func-returns-value]
    assert [number() for _ in range(50)] == [7] * 50 and len(asked) <= 2
