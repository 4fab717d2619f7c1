"""A recording file in front of a live source: known entries are looked up, missing ones obtained and recorded."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from colt_pipeline.errors import RecordingError
from colt_pipeline.runs.jsonl import JsonLines, read_lines

Access = Literal["append", "replay"]
"""``append``: exclusive to this process, misses can be recorded; ``replay``: look-ups only, the file never changes."""

Fields = Mapping[str, Any]

K = TypeVar("K", bound=Hashable)


class Recorded(Generic[K]):
    """The entries of one file, by key; the last of several entries with the same key counts.

    Attributes:
        entries: all entries, in the order of their lines.
    """

    def __init__(self, path: Path, access: Access, read: Callable[[Fields], tuple[K, Fields]]) -> None:
        """Open and read the file.

        Args:
            path: the recording file.
            access: whether entries may be added.
            read: line -> its key and entry; raises a ValueError that says what is wrong.

        Raises:
            JournalError: the file is corrupt or, for ``append``, unwritable or in use by another process.
            RecordingError: `read` rejects a line; the message names file and line.
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
        """Write a line and, once it is on disk, return its entry.

        Raises:
            JournalError: it could not be written.
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
        """Release the file to other processes."""
        if self._file is not None:
            self._file.close()


def require(fields: Fields, names: Iterable[str]) -> None:
    """Check that `fields` has all of `names`.

    Raises:
        ValueError: some are missing; the message lists them.
    """
    if missing := [name for name in names if name not in fields]:
        raise ValueError(f"lacks {', '.join(missing)}")
