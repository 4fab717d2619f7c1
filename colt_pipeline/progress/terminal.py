"""Reserves a terminal for one table, although this process and its children write to it."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue

_STDOUT, _STDERR = 1, 2
_WITHOUT_CURSOR = ("dumb", "unknown")
_TABLE_IS_SHOWN = "COLT_PIPELINE_TABLE_IS_SHOWN"
"""Set while `captured`: an environment variable reaches the workers of any launcher."""
_CHUNK = 1 << 16
_DRAIN_SECS = 0.1
_MOST_DRAIN_SECS = 1.0
"""For a child that outlives the table and goes on writing."""


def can_draw() -> bool:
    """Whether stderr is a terminal whose lines can be redrawn."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in _WITHOUT_CURSOR


def table_is_shown() -> bool:
    """Whether this process, or the one that started it, shows a table, so that lines of progress would repeat it."""
    return _TABLE_IS_SHOWN in os.environ


@contextmanager
def captured() -> Iterator[Callable[[], list[str]]]:
    """Capture what this process and its children write to the terminal of stderr.

    They write to a pseudo-terminal instead, so that they still see a terminal.

    Yields:
        A function that returns the lines written since its last call. Those that it has not returned at the end go to
        the terminal.
    """
    redirected = [_STDERR, *([_STDOUT] if os.isatty(_STDOUT) and os.path.sameopenfile(_STDOUT, _STDERR) else [])]
    master, slave = os.openpty()
    tty.setraw(slave)  # otherwise each newline would become two characters
    before = {number: os.dup(number) for number in redirected}
    written: SimpleQueue[bytes] = SimpleQueue()
    stop = threading.Event()
    # It does nothing that can fail, for without a reader writers would block.
    reader = threading.Thread(target=_read, args=(master, stop, written), daemon=True)

    def lines() -> list[str]:
        termios.tcsetwinsize(slave, termios.tcgetwinsize(before[_STDERR]))  # the user may have resized the terminal
        return [written.get().decode(errors="replace") for _ in range(written.qsize())]

    _flush()
    for number in redirected:
        os.dup2(slave, number)
    os.environ[_TABLE_IS_SHOWN] = "1"
    reader.start()
    try:
        lines()
        yield lines
    finally:
        _flush()
        for number, terminal in before.items():
            os.dup2(terminal, number)
        del os.environ[_TABLE_IS_SHOWN]
        stop.set()
        reader.join()
        sys.stderr.writelines(f"{line}\n" for line in lines())
        for number in (*before.values(), master, slave):
            os.close(number)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _read(master: int, stop: threading.Event, written: SimpleQueue[bytes]) -> None:
    """Read lines until `stop` is set and nothing more comes; waiting workers keep the other end open."""
    rest, deadline = b"", float("inf")
    while time.monotonic() < deadline:
        ready, _, _ = select.select([master], [], [], _DRAIN_SECS)
        if ready:
            *lines, rest = (rest + os.read(master, _CHUNK)).split(b"\n")
            for line in lines:
                written.put(line)
        elif stop.is_set():
            break
        if stop.is_set():
            deadline = min(deadline, time.monotonic() + _MOST_DRAIN_SECS)
    if rest:
        written.put(rest)
