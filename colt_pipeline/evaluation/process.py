"""A worker process seen from outside: it lives on between requests and is replaced when it is lost."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from colt_pipeline.errors import StackError

_LOAD_TIMEOUT_SECS = 300.0
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Lost:
    """The worker was gone before it answered."""

    status: int | None
    """Exit status; None after a time-out."""


class WorkerProcess:
    """One persistent worker; started on the first request, restarted after a crash or a time-out."""

    def __init__(self, load: dict[str, Any], environment: dict[str, str]) -> None:
        """`load`: the request that prepares a fresh worker; `environment`: added to this process's."""
        self._load = load
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self.generation = 0
        """Counts starts: what an earlier generation built is lost."""
        self._stopped = False

    def request(
        self, message: dict[str, Any], timeout_secs: float, generation: int | None = None
    ) -> dict[str, Any] | Lost:
        """The answer of a loaded worker; after Lost the next request starts another.

        `generation`: only this one knows what the message is about, so do not start another.

        Raises:
            StackError: a fresh worker does not start.
        """
        alive = self._process is not None and self._process.poll() is None
        if generation is not None and (generation != self.generation or not alive):
            return Lost(None if self._process is None else self._process.poll())
        if not alive:
            self.close()
            self._start()
            if isinstance(self._exchange(self._load, _LOAD_TIMEOUT_SECS), Lost) and not self._stopped:
                raise StackError(
                    "the measuring process does not start; run `python -m colt_pipeline.evaluation.worker` to see why"
                )
        return self._exchange(message, timeout_secs)

    def _start(self) -> None:
        self.generation += 1
        self._process = subprocess.Popen(
            [sys.executable, "-m", "colt_pipeline.evaluation.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=self._environment,
        )
        if self._stopped:
            self._process.kill()

    def _exchange(self, message: dict[str, Any], timeout_secs: float) -> dict[str, Any] | Lost:
        process = self._process
        if process is None:
            return Lost(None)
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._bury()
        answer, deadline = b"", time.monotonic() + timeout_secs
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                if not selector.select(max(deadline - time.monotonic(), 0)):
                    self.close()
                    return Lost(None)
                chunk = os.read(process.stdout.fileno(), _CHUNK)
                if not chunk:
                    return self._bury()
                answer += chunk
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def _bury(self) -> Lost:
        assert self._process is not None
        status = self._process.wait()
        self.close()
        return Lost(status)

    def stop(self) -> None:
        """From any thread: kill the worker and start no other; whoever waits for an answer gets Lost."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Kill the worker, if there is one."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass  # unsent bytes of the request that the dead worker never read
        self._process = None
