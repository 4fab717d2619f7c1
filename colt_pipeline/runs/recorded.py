"""Typed reading of recordings, and a recording file in front of a live source.

Recordings may come from anybody. Whoever reads one, whether a run, a replay or a check, uses the same reader of its
lines, which raises a ValueError for whatever this program would not have written.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from colt_pipeline.errors import RecordingError
from colt_pipeline.runs.jsonl import JsonLines, read_growing, read_lines

Access = Literal["append", "replay", "growing"]
"""``append``: exclusive to this process, misses can be recorded; ``replay``: look-ups only, the file never changes;
``growing``: look-ups only, while another process may be appending to it."""

Fields = Mapping[str, Any]

_READERS: dict[Access, Callable[[Path], list[dict[str, Any]]]] = {"replay": read_lines, "growing": read_growing}

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


def read_typed(path: Path, read: Callable[[Fields], T]) -> list[T]:
    """The lines of a recording that another process may be writing, each as `read` returns it.

    Raises:
        JournalError: the file is corrupt.
        RecordingError: `read` rejects a line; the message names file and line.
    """
    return list(_typed(path, read_growing(path), read))


def _typed(path: Path, lines: Iterable[Fields], read: Callable[[Fields], T]) -> Iterator[T]:
    for number, line in enumerate(lines, start=1):
        try:
            yield read(line)
        except ValueError as error:
            raise RecordingError(f"{path}, line {number}: {error}; restore the file") from error


def _never(entry: Fields) -> bool:
    return False


class Recorded(Generic[K]):
    """The entries of one file, by key.

    Attributes:
        entries: all entries, in the order of their lines.
    """

    def __init__(
        self,
        path: Path,
        access: Access,
        read: Callable[[Fields], tuple[K, Fields]],
        superseded: Callable[[Fields], bool] = _never,
    ) -> None:
        """Open and read the file.

        Args:
            path: the recording file.
            access: whether entries may be added.
            read: line -> its key and entry; raises a ValueError that says what is wrong.
            superseded: whether a later entry with the same key may replace this one; by default a key occurs once.

        Raises:
            JournalError: the file is corrupt or, for ``append``, unwritable or in use by another process.
            RecordingError: `read` rejects a line, or its key occurred before; the message names file and line.
        """
        self.path = path
        self._read = read
        self._superseded = superseded
        self._file = JsonLines(path) if access == "append" else None
        self.entries: list[Fields] = []
        self._index: dict[K, Fields] = {}
        try:
            for _ in _typed(path, self._file.records if self._file else _READERS[access](path), self._keep):
                pass
        except RecordingError:
            self.close()
            raise

    def get(self, key: K) -> Fields | None:
        """The entry of `key`; None if there is none."""
        return self._index.get(key)

    def append(self, line: Fields) -> Fields:
        """Write a line and, once it is on disk, return its entry.

        Raises:
            JournalError: it could not be written.
            ValueError: it could not be read again, so it was not written.
        """
        assert self._file is not None, "a replay records nothing"
        key, entry = self._admit(line)
        self._file.append(dict(line))
        return self._enter(key, entry)

    def _keep(self, line: Fields) -> Fields:
        return self._enter(*self._admit(line))

    def _admit(self, line: Fields) -> tuple[K, Fields]:
        key, entry = self._read(line)
        before = self._index.get(key)
        if before is not None and not self._superseded(before):
            raise ValueError(f"its key {key!r} is already in line {self.entries.index(before) + 1}")
        return key, entry

    def _enter(self, key: K, entry: Fields) -> Fields:
        self.entries.append(entry)
        self._index[key] = entry
        return entry

    def close(self) -> None:
        """Release the file to other processes."""
        if self._file is not None:
            self._file.close()
