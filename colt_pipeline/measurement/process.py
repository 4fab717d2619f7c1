"""The parent's side of a worker process, which persists between requests and is replaced when it is lost."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colt_pipeline.errors import ConfigError, StackError

_LOAD_TIMEOUT_SECS = 300.0
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Lost:
    """The worker ended before it answered."""

    status: int | None
    """Exit status; None after a timeout."""


class WorkerProcess:
    """One persistent worker, started at the first request and restarted after a crash or a timeout."""

    def __init__(self, load: dict[str, Any], environment: dict[str, str], log: Path) -> None:
        """Describe the worker without starting it.

        Args:
            load: the request that prepares a fresh worker.
            environment: variables in addition to this process's.
            log: file that receives its stderr.
        """
        self._log = log
        self._load = load
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self.generation = 0
        """Number of starts; what an earlier generation built is lost."""
        self._stopped = False

    def request(
        self, message: dict[str, Any], timeout_secs: float, generation: int | None = None
    ) -> dict[str, Any] | Lost:
        """Send a request and wait for the answer; after Lost, the next request starts a new worker.

        Args:
            message: the request.
            timeout_secs: how long to wait for the answer.
            generation: the only generation that can serve this request; no new worker is started for it.

        Raises:
            ConfigError: the workload's inputs or reference are unusable.
            StackError: a fresh worker fails to start.
        """
        alive = self._process is not None and self._process.poll() is None
        if generation is not None and (generation != self.generation or not alive):
            return Lost(None if self._process is None else self._process.poll())
        if not alive:
            self.close()
            self._start()
            loaded = self._exchange(self._load, _LOAD_TIMEOUT_SECS)
            if isinstance(loaded, dict) and "fatal" in loaded:
                self.close()
                raise ConfigError(loaded["fatal"])
            if isinstance(loaded, Lost) and not self._stopped:
                raise StackError(f"the measuring process fails to start: {self._reason(loaded)}")
        return self._exchange(message, timeout_secs)

    def _reason(self, lost: Lost) -> str:
        """Why a worker was lost before it was ready, which is when it runs the unscheduled program once."""
        if lost.status is None:
            return f"no answer in {_LOAD_TIMEOUT_SECS:g} s; if the unscheduled program takes that long, make it smaller"
        said = self._log.read_text(errors="replace").strip().splitlines()[-1:] if self._log.exists() else []
        died = (
            f" (signal {-lost.status}; does the program read or write beyond its buffers?)" if lost.status < 0 else ""
        )
        return f"{''.join(said) or 'no error output'}{died}"

    def _start(self) -> None:
        self.generation += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "colt_pipeline.measurement.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,  # its own process group, with the compilers it calls
            )
        if self._stopped:
            _kill(self._process)

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
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
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
        """Kill the worker for good; a pending request gets Lost. May be called from any thread."""
        self._stopped = True
        process = self._process  # another thread may reset it
        if process is not None:
            _kill(process)

    def close(self) -> None:
        """Kill the worker if there is one."""
        if self._process is None:
            return
        _kill(self._process)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass  # unsent bytes of the request that the dead worker never read
        self._process = None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker and everything it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
