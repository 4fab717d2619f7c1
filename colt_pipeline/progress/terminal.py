"""A terminal that one table keeps for itself, although this process and its children write to it."""

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
    """Whether a table shows progress, rather than lines: stderr is a terminal whose lines can be drawn again.

    It is so in every process that writes to that terminal, within `captured` too.
    """
    return sys.stderr.isatty() and os.environ.get("TERM") not in _WITHOUT_CURSOR


@contextmanager
def captured(show: Callable[[str], None]) -> Iterator[None]:
    """Inside, `show` gets each line that this process or a child writes to the terminal of stderr.

    They write to a pseudo-terminal instead, so that they still find one. `show` is called in a thread of its own.
    """
    redirected = [_STDERR, *([_STDOUT] if os.isatty(_STDOUT) and os.path.sameopenfile(_STDOUT, _STDERR) else [])]
    master, slave = os.openpty()
    tty.setraw(slave)  # or each newline would become two characters
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
    """Until it is told to stop: the other end stays open as long as a worker waits for the next job."""

    def _show(line: bytes) -> None:
        with suppress(OSError):  # the terminal is gone, but nobody must wait for this thread to read on
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
