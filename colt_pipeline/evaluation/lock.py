"""One measuring process per device on this machine: the others queue."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SYSTEM_LOCKS = Path("/run/lock")
"""Where Linux keeps lock files of all users."""


@contextmanager
def device_lock(slug: str) -> Iterator[None]:
    """Hold the device `slug` of this machine; waits until no other process does. Leaves no file behind."""
    directory = _SYSTEM_LOCKS if os.access(_SYSTEM_LOCKS, os.W_OK) else Path(tempfile.gettempdir())
    path = directory / f"colt-{slug}.lock"
    while True:
        descriptor = _open(path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is(path, descriptor):
            break
        os.close(descriptor)  # the one before us removed this file while we waited for it
    try:
        yield
    finally:
        # Removed before the lock goes, so whoever has the file open sees that it is gone; another user's file stays.
        with suppress(PermissionError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)  # another user's file may be opened in a sticky directory, not created anew
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
