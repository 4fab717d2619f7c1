"""Where a run's time goes: seconds by kind of work. Kept out of the journal, which contains no times."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Sums seconds of named laps, such as ``llm``, ``measure`` or ``train``; ``draft`` and ``total`` contain others."""

    def __init__(self) -> None:
        self.clock = time.perf_counter
        """Seconds from any origin; wall-clock time unless replaced."""
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Add the duration of the block to `name`."""
        start = self.clock()
        try:
            yield
        finally:
            self.seconds[name] += self.clock() - start
