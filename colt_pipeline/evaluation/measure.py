"""Measures programs in a worker process that lives on; a crash or a hang costs one sample, never the run."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import tvm

from colt_pipeline.config import MeasureConfig
from colt_pipeline.errors import StackError
from colt_pipeline.records import Measurement
from colt_pipeline.workloads import Workload

_LOAD_TIMEOUT_SECS = 300.0
_CHUNK = 1 << 16


class Measurer(Protocol):
    """Anything that measures scheduled modules."""

    def measure(self, modules: Sequence[tvm.IRModule]) -> list[Measurement]:
        """One Measurement per module, in order; failures are values."""
        ...

    def close(self) -> None:
        """End all processes."""
        ...


@dataclass
class _Crash:
    status: int | None


class WorkerProcess:
    """One persistent worker; started on the first request, restarted after a crash or a time-out."""

    def __init__(self, threads: int) -> None:
        """`threads`: size of TVM's thread pool in the worker."""
        self._environment = {**os.environ, "TVM_NUM_THREADS": str(threads)}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def request(self, message: dict[str, Any], timeout_secs: float) -> dict[str, Any] | _Crash | None:
        """The worker's answer; None after a time-out, _Crash when it died. Either way it is gone then."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "colt_pipeline.evaluation.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment,
            )
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._bury()
        answer = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not answer.endswith(b"\n"):
                if not selector.select(timeout_secs):
                    self.close()
                    return None
                chunk = os.read(process.stdout.fileno(), _CHUNK)
                if not chunk:
                    return self._bury()
                answer += chunk
        parsed: dict[str, Any] = json.loads(answer)
        return parsed

    def _bury(self) -> _Crash:
        assert self._process is not None
        status = self._process.wait()
        self.close()
        return _Crash(status)

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


class LocalMeasurer:
    """Builds and runs on this machine, one program at a time."""

    def __init__(self, workload: Workload, target: dict[str, Any], settings: MeasureConfig) -> None:
        """`target` as TVM's dict; `settings`: repeats and time limit."""
        self._workload = workload
        self._target = target
        self._settings = settings
        self._worker = WorkerProcess(threads=int(target["num-cores"]))

    def measure(self, modules: Sequence[tvm.IRModule]) -> list[Measurement]:
        return [self._one(module) for module in modules]

    def _one(self, module: tvm.IRModule) -> Measurement:
        if not self._worker.alive:
            self._worker.close()
            loaded = self._worker.request(
                {"op": "load", "workload": self._workload.name, "shape": self._workload.shape}, _LOAD_TIMEOUT_SECS
            )
            if not isinstance(loaded, dict):
                raise StackError(
                    "the measuring process does not start; run `python -m colt_pipeline.evaluation.worker` to see why"
                )
        request = {
            "op": "measure",
            "module": tvm.ir.save_json(module),
            "target": self._target,
            "max_repeats": self._settings.max_repeats,
            "budget_secs": self._settings.budget_secs,
        }
        answer = self._worker.request(request, self._settings.timeout_secs)
        if answer is None:
            return Measurement(error="timeout", detail=f"longer than {self._settings.timeout_secs:g} s")
        if isinstance(answer, _Crash):
            return Measurement(error="crash", detail=f"the worker ended with status {answer.status}")
        return Measurement(**{**answer, "run_secs": tuple(answer["run_secs"])})

    def close(self) -> None:
        self._worker.close()
