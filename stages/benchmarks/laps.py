"""How long each event of a search takes, apart from what is timed by itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from colt_pipeline.job import Job
from colt_pipeline.runs.events import Event
from colt_pipeline.search.loop import search


def timed(job: Job, apart: Sequence[str]) -> Iterator[tuple[Event, float, dict[str, float]]]:
    """Run a search to its end.

    Args:
        job: the search.
        apart: laps of its stopwatch, such as ``llm``.

    Yields:
        Each event, the seconds that it took without those laps, and the seconds of each of them.
    """
    laps = job.world.stopwatch.seconds
    events = search(job.world, job.journal, job.state)
    while True:
        before, start = dict(laps), time.perf_counter()
        event = next(events, None)
        if event is None:
            return
        spent = time.perf_counter() - start
        of_laps = {name: laps[name] - before.get(name, 0.0) for name in apart}
        yield event, spent - sum(of_laps.values()), of_laps
