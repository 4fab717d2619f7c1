"""How many kernels may be somewhere at once, where that number changes while they are."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition, Lock

_RECOUNT_SECS = 1.0


class Slots:
    """A semaphore whose size is asked for again while somebody waits; the first to wait is the first to enter."""

    def __init__(self, size: Callable[[], int]) -> None:
        """Nobody is inside yet.

        Args:
            size: how many may be inside; with fewer than one, one may, who will find out why.
        """
        self._size = size
        self._changed = Condition()
        self._inside = 0
        self._queue: list[object] = []
        self._closed = False

    def __enter__(self) -> None:
        ticket = object()
        with self._changed:
            self._queue.append(ticket)
        try:
            while not self._admitted(ticket):
                with self._changed:
                    self._changed.wait(_RECOUNT_SECS)
        finally:
            with self._changed:
                self._queue.remove(ticket)
                self._changed.notify_all()

    def _admitted(self, ticket: object) -> bool:
        size = max(self._size(), 1)  # may take a while, so not under the lock
        with self._changed:
            free = self._closed or (self._queue[0] is ticket and self._inside < size)
            self._inside += free
            return free

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody in, so that nobody waits for ever."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Recounted:
    """A number that is expensive to get, at most a second old; asked for by one thread at a time."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count
        self._lock = Lock()
        self._known = 0
        self._until = 0.0

    def __call__(self) -> int:
        """The number."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._known = self._count()
                self._until = time.monotonic() + _RECOUNT_SECS
            return self._known
