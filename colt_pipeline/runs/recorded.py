"""A recording file before a live source: what it holds is looked up, what it lacks is obtained and written first."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from colt_pipeline.errors import RecordingError
from colt_pipeline.runs.jsonl import JsonLines, read_lines

Access = Literal["append", "replay"]
"""``append``: for this process alone, misses can be recorded; ``replay``: look-ups only, the file stays as it is."""

Fields = Mapping[str, Any]

K = TypeVar("K", bound=Hashable)


class Recorded(Generic[K]):
    """The entries of one file, by key; of entries with the same key the last one counts.

    Attributes:
        entries: all entries, in the order of their lines.
    """

    def __init__(self, path: Path, access: Access, read: Callable[[Fields], tuple[K, Fields]]) -> None:
        """`read`: a line -> its key and the entry that it means; it raises a ValueError that says what is wrong.

        Raises:
            JournalError: the file is broken or, to append, unwritable or in use by another process.
            RecordingError: `read` refuses a line; the message names file and line.
        """
        self.path = path
        self._read = read
        self._file = JsonLines(path) if access == "append" else None
        self.entries: list[Fields] = []
        self._index: dict[K, Fields] = {}
        for number, line in enumerate(read_lines(path) if self._file is None else self._file.records, start=1):
            try:
                self._keep(line)
            except ValueError as error:
                self.close()
                raise RecordingError(f"{path}, line {number}: {error}; restore the file") from error

    def get(self, key: K) -> Fields | None:
        """The entry of `key`; None if there is none."""
        return self._index.get(key)

    def append(self, line: Fields) -> Fields:
        """Write a line; returns the entry that it means, once it is on disk.

        Raises:
            JournalError: the disk refused it.
        """
        assert self._file is not None, "a replay records nothing"
        self._file.append(dict(line))
        return self._keep(line)

    def _keep(self, line: Fields) -> Fields:
        key, entry = self._read(line)
        self.entries.append(entry)
        self._index[key] = entry
        return entry

    def close(self) -> None:
        """Let other processes append."""
        if self._file is not None:
            self._file.close()


def require(fields: Fields, names: Iterable[str]) -> None:
    """Refuse `fields` that lack one of `names`.

    Raises:
        ValueError: the message lists those that are missing.
    """
    if missing := [name for name in names if name not in fields]:
        raise ValueError(f"lacks {', '.join(missing)}")
