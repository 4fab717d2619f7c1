"""The journal of a run: one append-only ``events.jsonl`` whose fold is the state of the search.

It contains no times, host names or paths: run == rerun == kill + resume == replay, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from colt_pipeline.errors import JournalError
from colt_pipeline.runs.events import Event, event_from_json
from colt_pipeline.runs.jsonl import JsonLines, read_growing


def read_events(path: Path) -> list[Event]:
    """The events of a journal, read without a lock: if another process is writing it, a partial last line is ignored.

    Raises:
        JournalError: corrupt before its last line, or written by an incompatible version.
    """
    return _events(path, read_growing(path))


def _events(path: Path, records: Iterable[Mapping[str, Any]]) -> list[Event]:
    try:
        return [event_from_json(record) for record in records]
    except (KeyError, TypeError) as error:
        raise JournalError(f"{path} was written by another version of this program ({error}).") from error


class Journal:
    """Events of one run, written to disk before they are applied."""

    def __init__(self, path: Path) -> None:
        """Open `path` for this process exclusively.

        Raises:
            JournalError: in use, unwritable, corrupt, or written by an incompatible version.
        """
        self.path = path
        self._lines = JsonLines(path)
        try:
            self.events = _events(path, self._lines.records)
        except JournalError:
            self._lines.close()
            raise

    def append(self, event: Event) -> None:
        """Write `event` and force it to disk.

        Raises:
            JournalError: it could not be written.
        """
        self._lines.append(event.to_json())
        self.events.append(event)

    def close(self) -> None:
        self._lines.close()
