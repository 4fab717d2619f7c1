"""Reserves a terminal for one table, although this process and its children write to it."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_STDOUT, _STDERR = 1, 2
_WITHOUT_CURSOR = ("dumb", "unknown")
_CHUNK = 1 << 16
_DRAIN_SECS = 0.1


def on_terminal() -> bool:
    """Whether to show progress as a table rather than lines: stderr is a terminal whose lines can be redrawn.

    This holds in every process that writes to that terminal, also inside `captured`.
    """
    return sys.stderr.isatty() and os.environ.get("TERM") not in _WITHOUT_CURSOR


@contextmanager
def captured(show: Callable[[str], None]) -> Iterator[None]:
    """Pass each line that this process or a child writes to the terminal of stderr to `show`.

    They write to a pseudo-terminal instead, so that they still see a terminal. `show` is called in a separate thread.
    """
    redirected = [_STDERR, *([_STDOUT] if os.isatty(_STDOUT) and os.path.sameopenfile(_STDOUT, _STDERR) else [])]
    master, slave = os.openpty()
    tty.setraw(slave)  # otherwise each newline would become two characters
    termios.tcsetwinsize(slave, termios.tcgetwinsize(_STDERR))
    before = {number: os.dup(number) for number in redirected}
    stop = threading.Event()
    reader = threading.Thread(target=_forward, args=(master, stop, show), daemon=True)
    _flush()
    for number in redirected:
        os.dup2(slave, number)
    reader.start()
    try:
        yield
    finally:
        _flush()
        for number, terminal in before.items():
            os.dup2(terminal, number)
        stop.set()
        reader.join()
        for number in (*before.values(), master, slave):
            os.close(number)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _forward(master: int, stop: threading.Event, show: Callable[[str], None]) -> None:
    """Forward lines until `stop` is set, because waiting workers keep the other end open."""

    def _show(line: bytes) -> None:
        with suppress(OSError):  # the terminal is gone, but this thread must keep reading or writers would block
            show(line.decode(errors="replace"))

    rest = b""
    while True:
        ready, _, _ = select.select([master], [], [], _DRAIN_SECS)
        if ready:
            *lines, rest = (rest + os.read(master, _CHUNK)).split(b"\n")
            for line in lines:
                _show(line)
        elif stop.is_set():
            break
    if rest:
        _show(rest)
