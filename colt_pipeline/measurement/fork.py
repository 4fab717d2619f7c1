"""Work in a process forked from this one, with time limits; a fork that dies or hangs is an answer like any other."""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import psutil

from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement.bench import TVM_ERRORS, last_line
from colt_pipeline.records import Measurement

_PR_SET_PDEATHSIG = 1
_CHUNK = 1 << 16
_ENDED = b"\n"  # no answer contains it

Answer = dict[str, Any]
Ended = Callable[[], None]
"""Says that a phase has ended."""


@dataclass(frozen=True)
class Phase:
    """A part of the work of a fork, with a time limit of its own."""

    limit_secs: float
    if_exceeded: Answer


def in_fork(work: Callable[[Ended], Measurement], phases: Sequence[Phase]) -> Answer:
    """Run `work` in a fork and return its result; if the fork dies or times out, that is an answer too.

    Args:
        work: what to compute; it calls its argument at the end of each phase but the last.
        phases: their time limits.
    """
    reader, writer = os.pipe()
    child = _forked(lambda: _say(writer, _told(lambda: work(lambda: _say(writer, _ENDED)))))
    os.close(writer)
    text, exceeded = b"", None
    for phase in phases:
        more = _read(reader, phase.limit_secs, stop_at=b"" if phase is phases[-1] else _ENDED)
        if more is None:
            exceeded = phase
            _kill(child)
            break
        text += more
    os.close(reader)
    _, status = os.waitpid(child, 0)
    if exceeded is not None:
        return exceeded.if_exceeded
    if not text:
        return _crash(os.waitstatus_to_exitcode(status))
    parsed: Answer = json.loads(text)
    return parsed


class Turns:
    """Work in a fork that goes on turn by turn and is stopped in between, threads of the kernel included."""

    def __init__(self, work: Callable[[], Generator[Measurement, int]], limit: Phase) -> None:
        """Fork; nothing runs before the first turn.

        Args:
            work: yields one result per turn; it is sent what is to be done in the next.
            limit: time limit of each turn.
        """
        self._limit = limit
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()

        def serve() -> None:
            os.close(self._requests)
            os.close(self._answers)
            _serve(work(), requests, answers)

        self._child: int | None = _forked(serve)
        os.close(requests)
        os.close(answers)

    def turn(self, request: int) -> Answer:
        """Take the next turn; after an error, a timeout included, the fork has ended.

        Args:
            request: what the work is sent; the first turn ignores it.
        """
        assert self._child is not None
        os.kill(self._child, signal.SIGCONT)
        with suppress(BrokenPipeError):  # it died between turns
            _say(self._requests, b"%d\n" % request)
        text = _read(self._answers, self._limit.limit_secs, stop_at=_ENDED)
        if text is None:
            self.end()
            return self._limit.if_exceeded
        if not text:
            return _crash(self._reap())
        answer: Answer = json.loads(text)
        if answer.get("error") is None:
            os.kill(self._child, signal.SIGSTOP)
        else:
            self.end()
        return answer

    def end(self) -> None:
        """End the fork, unless it has ended."""
        if self._child is not None:
            os.kill(self._child, signal.SIGKILL)
            self._reap()

    def _reap(self) -> int:
        assert self._child is not None
        _, status = os.waitpid(self._child, 0)
        os.close(self._requests)
        os.close(self._answers)
        self._child = None
        return os.waitstatus_to_exitcode(status)


def _serve(turns: Generator[Measurement, int], requests: int, answers: int) -> None:
    """Take turns until the worker ends this process."""
    with os.fdopen(requests) as lines:
        next(lines)
        _say(answers, _told(lambda: next(turns)) + _ENDED)
        for line in lines:
            _say(answers, _told(partial(turns.send, int(line))) + _ENDED)


def _forked(work: Callable[[], None]) -> int:
    """The process id of a fork that does this work and ends."""
    worker, child = os.getpid(), os.fork()
    if child == 0:
        status = 1
        try:
            die_with_parent()
            if os.getppid() != worker:  # the worker died before die_with_parent took effect
                os._exit(status)
            work()
            status = 0
        finally:
            os._exit(status)  # never return to the worker's loop, whatever happened
    return child


def _told(work: Callable[[], Measurement]) -> bytes:
    """The answer of a fork."""
    try:
        answer = asdict(work())
    except DeviceError as error:
        answer = {"fatal": str(error)}
    except TVM_ERRORS as error:
        answer = asdict(Measurement(error="run_error", detail=last_line(error)))
    return json.dumps(answer).encode()


def _kill(child: int) -> None:
    """Kill a fork and the CUDA compiler that it called, which would go on without it."""
    os.kill(child, signal.SIGSTOP)  # it starts no further processes
    family = psutil.Process(child).children(recursive=True)
    os.kill(child, signal.SIGKILL)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _say(writer: int, text: bytes) -> None:
    while text:
        text = text[os.write(writer, text) :]


def _read(reader: int, limit_secs: float, stop_at: bytes) -> bytes | None:
    """Everything until `stop_at`, which is left out, or until the pipe closes; None after a timeout."""
    text, deadline = b"", time.monotonic() + limit_secs
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0 and selector.select(left):
            chunk = os.read(reader, 1 if stop_at else _CHUNK)
            if not chunk or chunk == stop_at:
                return text
            text += chunk
    return None


def _crash(status: int) -> Answer:
    """What a fork that ended with this status before it answered has measured."""
    if status < 0:
        how = f"was ended by signal {-status} ({signal.Signals(-status).name})"
    else:
        how = f"ended with status {status}"
    return asdict(Measurement(error="crash", detail=f"the kernel's process {how}"))


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent dies, even in the middle of a measurement."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
