"""Locks shared by all processes on this machine: a device has one user at a time, and others wait in line."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from colt_pipeline.errors import DeviceError

if TYPE_CHECKING:  # imports TVM, which takes seconds
    from colt_pipeline.measurement.devices import Device

_LOCKS = (Path("/run/lock"), Path("/tmp"))
"""Directories that all users can share for lock files, best first; not TMPDIR, which may differ between processes."""
_log = logging.getLogger(__name__)


def batch_lock(device: Device) -> AbstractContextManager[None]:
    """Hold `device` while a batch is built and measured.

    On a CPU builds would disturb another process's measurements. On a GPU nothing is held, because each kernel's own
    process locks it (worker.py) and would wait for this one forever.
    """
    return nullcontext() if device.shared_by_kernel else device_lock(device.lock)


@contextmanager
def device_lock(name: str) -> Iterator[None]:
    """Hold the lock `name` of this machine, waiting until no other process does; its file is removed afterwards.

    Raises:
        DeviceError: no directory for lock files is writable, or the disk is full.
    """
    directory = next((path for path in _LOCKS if os.access(path, os.W_OK)), _LOCKS[-1])
    path = directory / f"colt-{name}.lock"
    while True:
        try:
            descriptor = _open(path)
        except OSError as error:
            raise DeviceError(f"cannot lock the device with {path}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("another process is using %s; waiting", name)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is(path, descriptor):
            break
        os.close(descriptor)  # the previous holder removed this file while we waited for it
    try:
        yield
    finally:
        # Removed before unlocking, so that waiting processes notice that it is gone; another user's file stays.
        with suppress(PermissionError):
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY)  # in a sticky directory another user's file can be opened but not re-created
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
