"""Append-only JSON Lines: the file format of journals and recordings.

Append means write, flush, fsync, return, so whatever a caller applies afterwards is on disk. A last line truncated by a
kill (no newline at the end of the file) is dropped when the file is opened for writing; anything else that does not
parse is an error, and nothing is ever rewritten. A file that is no longer appended to may be compressed with gzip
(``.gz``).
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from colt_pipeline.errors import JournalError
from colt_pipeline.serialization import canonical_json, strict_json

PACKED = ".gz"
"""Suffix of a compressed file."""
MOST_UNPACKED_BYTES = 1 << 28
"""More than any recording has; a small compressed file may hold any number."""
_LONGEST_FIRST_LINE = 1 << 20
"""A thousand times what the first line of a journal has."""


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All records of `path`; none if the file does not exist.

    Raises:
        JournalError: a line is not a JSON object; the message names file and line.
    """
    return _parse(path, unpacked(path)) if path.exists() else []


def read_growing(path: Path) -> list[dict[str, Any]]:
    """Like `read_lines`, for a file that another process may be writing: an incomplete last line is ignored."""
    data = unpacked(path) if path.exists() else b""
    return _parse(path, data[: data.rfind(b"\n") + 1])


def read_first(path: Path) -> dict[str, Any] | None:
    """The first record of a file that another process may be writing; None as long as there is none.

    Raises:
        JournalError: as for `read_lines`, or the line is endless.
    """
    try:
        refuse_endless(path)
        with path.open("rb") as file:
            line = file.readline(_LONGEST_FIRST_LINE)
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}.") from error
    if len(line) == _LONGEST_FIRST_LINE:
        raise JournalError(f"{path}, line 1: longer than {_LONGEST_FIRST_LINE >> 20} MiB. Restore the file.")
    return _parse(path, line)[0] if line.endswith(b"\n") else None


def read_from(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """The records of the complete lines of a growing file from byte `offset` on; none if the file does not exist.

    Returns:
        The records, and the offset after them.

    Raises:
        JournalError: as for `read_lines`; lines are counted from `offset`.
    """
    try:
        refuse_endless(path)
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return [], offset
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}.") from error
    whole = data[: data.rfind(b"\n") + 1]
    return _parse(path, whole), offset + len(whole)


def unpacked(path: Path) -> bytes:
    """The contents of `path`, decompressed if it is a ``.gz`` file.

    Raises:
        JournalError: the file cannot be read or decompressed.
    """
    try:
        refuse_endless(path)
        if path.suffix != PACKED:
            return path.read_bytes()
        with gzip.open(path) as file:
            data = file.read(MOST_UNPACKED_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise JournalError(f"{path}: not a valid gzip file ({error}). Restore it.") from error
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}.") from error
    if len(data) > MOST_UNPACKED_BYTES:
        raise JournalError(f"{path} has more than {MOST_UNPACKED_BYTES >> 20} MiB when unpacked; unpack it yourself.")
    return data


def refuse_endless(path: Path) -> None:
    """Refuse anything but a file on disk: reading from a device or a pipe might never end.

    Raises:
        OSError: it is a device, a pipe or a socket.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "it is a device or a pipe, not a file")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from appending to the existing file `path`.

    Raises:
        JournalError: it cannot be opened, or is in use by another process.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise JournalError(f"cannot read {path}: {error.strerror}.") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise JournalError(f"{path} is in use by another process; wait for it.") from error
        yield


def _parse(path: Path, data: bytes) -> list[dict[str, Any]]:
    records = []
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            record = strict_json(line)
        except ValueError as error:
            raise JournalError(
                f"{path}, line {number}: not valid JSON ({error}). Restore the file, or move it away to start over."
            ) from error
        if not isinstance(record, dict):
            raise JournalError(f"{path}, line {number}: expected a JSON object, got {type(record).__name__}.")
        records.append(record)
    return records


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(strict_json(line), dict)
    except ValueError:
        return False


_log = logging.getLogger(__name__)


class JsonLines:
    """A JSON Lines file, open for appending by this process exclusively.

    Attributes:
        records: what the file held when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open (and create) `path`, lock it, read it.

        Raises:
            JournalError: in use by another process, unwritable, or corrupt before its last line.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            refuse_endless(path)
            self._file: IO[bytes] = path.open("a+b", buffering=0)
        except OSError as error:
            raise JournalError(f"cannot write {path}: {error.strerror}. Choose another directory.") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(self._file.fileno()), path.stat()):
                raise BlockingIOError  # the process that held the lock has replaced the file
            self.records = self._recover()
        except BlockingIOError as error:
            self._file.close()
            raise JournalError(f"{path} is in use by another process; wait for it, or set run=NAME.") from error
        except OSError as error:
            self._file.close()
            raise JournalError(f"cannot repair {path}: {error.strerror}. Free disk space and try again.") from error
        except JournalError:
            self._file.close()
            raise

    def _recover(self) -> list[dict[str, Any]]:
        self._file.seek(0)
        data = self._file.read()
        whole = data[: data.rfind(b"\n") + 1]
        if _is_object(data[len(whole) :]):  # only the newline is missing
            whole = data + b"\n"
            self._file.write(b"\n")
        records = _parse(self.path, whole)
        if len(whole) < len(data):
            lost = len(data) - len(whole)
            _log.warning("%s: dropped the last line, which a kill had truncated (%d bytes)", self.path, lost)
            self._file.truncate(len(whole))
        return records

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and force it to disk.

        Raises:
            JournalError: it could not be written; everything written before is intact.
        """
        line = (canonical_json(record) + "\n").encode()
        end = self._file.seek(0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):  # a limit is reported only where nothing at all can be written
                written += self._file.write(line[written:])
            os.fsync(self._file.fileno())
        except OSError as error:
            os.ftruncate(self._file.fileno(), end)
            raise JournalError(
                f"cannot append to {self.path}: {error.strerror}. Nothing written before is damaged; "
                "make room (or raise the limit) and run the same command again."
            ) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
