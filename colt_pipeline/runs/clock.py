"""The time that a search has taken, in all its sessions: what ``minutes`` limits.

``clock.jsonl`` is stored with a run's recording: after each measured batch a line with the number of samples so far and
the seconds so far. So a replay stops where the run stopped, whatever it takes itself. The time between the runs of a
comparison does not count, nor does what a kill has lost, at most a batch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

from colt_pipeline.errors import BudgetError
from colt_pipeline.runs.jsonl import read_growing
from colt_pipeline.runs.recorded import Access, Fields, Recorded
from colt_pipeline.serialization import Count, Elapsed, typed


class _Line(TypedDict):
    samples: Count
    secs: Elapsed


def read_tick(line: Fields) -> tuple[int, Fields]:
    """The number of samples that a line is about, and the line itself.

    Raises:
        ValueError: it is not a line of a clock; the message names the field.
    """
    return typed(_Line, line)["samples"], line


def secs_so_far(path: Path) -> float:
    """What a clock that another process may be writing shows; 0 if there is none yet.

    Raises:
        JournalError: the file is corrupt.
        ValueError: its last line is not one of a clock.
    """
    lines = read_growing(path)
    return typed(_Line, lines[-1])["secs"] if lines else 0.0


class Clock:
    """The clock of one run, with a limit."""

    def __init__(self, path: Path, minutes: float, access: Access) -> None:
        """Open the clock.

        Args:
            path: the run's ``clock.jsonl``.
            minutes: the limit.
            access: ``replay`` if only what is recorded counts.

        Raises:
            JournalError, RecordingError: the file is corrupt or in use by another process.
        """
        self._minutes = minutes
        self._live = access == "append"
        self._recorded: Recorded[int] = Recorded(path, access, read_tick)
        self._earlier = float(self._recorded.entries[-1]["secs"]) if self._recorded.entries else 0.0
        self._since = 0.0

    def tick(self, samples: int, session_secs: float) -> None:
        """Note the time after a batch, unless it is recorded.

        Args:
            samples: measured so far.
            session_secs: what this session's search has taken.
        """
        known = self._recorded.get(samples)
        if known is None and self._live:
            secs = round(self._earlier + session_secs - self._since, 3)
            known = self._recorded.append({"samples": samples, "secs": secs})
        if known is not None:
            self._earlier, self._since = float(known["secs"]), session_secs

    def check(self, samples: int) -> None:
        """Check that time is left after so many samples.

        Raises:
            BudgetError: none is; the last batch may have taken longer than was left.
        """
        known = self._recorded.get(samples)
        if known is not None and known["secs"] >= self._minutes * 60:
            raise BudgetError(
                f"minutes={self._minutes:g} is reached ({known['secs'] / 60:.3g} used for {samples} samples); the same "
                "command with more minutes goes on"
            )

    @property
    def secs_left(self) -> float:
        """What the limit left after the last batch."""
        return max(0.0, self._minutes * 60 - self._earlier)

    def close(self) -> None:
        """Release the file to other processes."""
        self._recorded.close()
