"""The process that builds and runs kernels: ``python -m colt_pipeline.measurement.worker``.

It reads one JSON request per line from standard input and answers each with one JSON line. It persists from program to
program, so TVM is imported and the inputs are created only once. Kernels for this machine's CPU are linked in memory:
no C compiler, no files.

The worker builds kernels itself but runs each one in a fork, which inherits the inputs and the linked kernel. Whatever
a kernel does (loop forever, write out of bounds, exhaust memory) affects only its fork, within a time limit (and a
memory limit on this machine's CPU), and the next kernel starts in a clean process.

Requests (``op``): ``load`` (workload, shape, target, rpc), ``build`` (name, module, memory_mib), ``run`` (name,
settings, best_secs); answers: {"ok": true}, {"fatal": message} or the fields of a Measurement.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tvm

from colt_pipeline.config.schema import MeasureConfig, RpcConfig
from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement.bench import TVM_ERRORS, Bench, last_line
from colt_pipeline.measurement.devices import CUDA_LOCK
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.measurement.remote import remote_limit_secs, run_remote
from colt_pipeline.records import Measurement
from colt_pipeline.workloads.catalogue import build

GPU_QUEUE_SECS = 600.0
"""How long a kernel may wait for its GPU, which runs one kernel at a time."""
_PR_SET_PDEATHSIG = 1
_CHUNK = 1 << 16
_BEGUN = b"\n"  # no JSON begins with it

Answer = dict[str, Any]
Begin = Callable[[], None]
"""Says that a kernel has its device, from when its time limit counts."""


class Worker:
    """Holds one workload's bench and the kernels that were built but not yet run."""

    def load(self, workload: str, shape: dict[str, int], target: dict[str, Any], rpc: dict[str, Any] | None) -> Answer:
        """Create inputs and reference; with `rpc`, kernels run on this tracker's servers."""
        self._bench = Bench(build(workload, shape))
        self._target = tvm.target.Target(target)
        self._device = target["kind"]
        self._rpc = RpcConfig(**rpc) if rpc else None
        self._built: dict[str, Any] = {}
        return {"ok": True}

    def build(self, name: str, module: str, memory_mib: int) -> Answer:
        """Compile and link; a failure is returned as a Measurement."""
        try:
            with _memory_limit(memory_mib), self._target:
                library = tvm.compile(tvm.ir.load_json(module), target=self._target)
                if self._device == "llvm" and self._rpc is None:
                    library.mod.get_function("main")  # link now, while builds run in parallel
        except TVM_ERRORS as error:
            return asdict(Measurement(error="build_error", detail=last_line(error)))
        self._built[name] = library
        return {"ok": True}

    def run(self, name: str, settings: dict[str, Any], best_secs: float | None) -> Answer:
        """Time and check a built kernel in a fork."""
        library, timing = self._built.pop(name), MeasureConfig(**settings)

        def on_cpu(begin: Begin) -> Measurement:
            _limit_memory(timing.memory_mib)  # not on a GPU: CUDA's driver reserves more address space than it uses
            return self._bench.measure(library.mod, tvm.cpu(), timing, best_secs)

        def on_gpu(begin: Begin) -> Measurement:
            # A fresh process has a fresh context, so a kernel that faults leaves the device usable. Contexts are
            # created and inputs copied side by side; kernels run one at a time.
            return self._bench.measure(library.mod, tvm.cuda(0), timing, best_secs, _gpu_turn(begin))

        def there(begin: Begin) -> Measurement:
            assert self._rpc is not None
            return run_remote(self._rpc, self._device, library, self._bench, timing, best_secs)

        limit = timing.run_timeout_secs
        if self._rpc is not None:
            return _in_fork(there, limit, remote_limit_secs(self._rpc, timing) - limit)
        return _in_fork(on_gpu, limit, GPU_QUEUE_SECS) if self._device == "cuda" else _in_fork(on_cpu, limit)


@contextmanager
def _gpu_turn(begin: Begin) -> Iterator[None]:
    """Hold the GPU; the kernel's time limit starts when it is obtained."""
    with device_lock(CUDA_LOCK):
        begin()
        yield


def _in_fork(work: Callable[[Begin], Measurement], timeout_secs: float, waiting_secs: float = 0.0) -> Answer:
    """Run `work` in a fork and return its result; if the fork dies or times out, that is a Measurement too.

    Args:
        work: what to compute; it may call its argument when it has its device, and the time limit starts anew.
        timeout_secs: time limit of the computation.
        waiting_secs: time that the fork may additionally wait for its device.
    """
    reader, writer = os.pipe()
    worker, child = os.getpid(), os.fork()
    if child == 0:
        status = 1
        try:
            die_with_parent()
            if os.getppid() != worker:  # the worker died before die_with_parent took effect
                os._exit(status)
            try:
                answer = asdict(work(lambda: _say(writer, _BEGUN)))
            except DeviceError as error:
                answer = {"fatal": str(error)}
            except TVM_ERRORS as error:
                answer = asdict(Measurement(error="run_error", detail=last_line(error)))
            _say(writer, json.dumps(answer).encode())
            status = 0
        finally:
            os._exit(status)  # never return to the worker's loop, whatever happened
    os.close(writer)
    text = _read_all(reader, timeout_secs + waiting_secs, timeout_secs)
    os.close(reader)
    if text is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if text is None:
        return asdict(Measurement(error="timeout", detail=f"the run took longer than {timeout_secs:g} s"))
    if not text:
        return asdict(Measurement(error="crash", detail=_how_it_ended(os.waitstatus_to_exitcode(status))))
    parsed: Answer = json.loads(text)
    return parsed


def _say(writer: int, text: bytes) -> None:
    while text:
        text = text[os.write(writer, text) :]


def _read_all(reader: int, timeout_secs: float, begun_timeout_secs: float) -> bytes | None:
    """Everything until the pipe closes, but _BEGUN, after which another limit counts; None after a timeout."""
    text, deadline = b"", time.monotonic() + timeout_secs
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while selector.select(max(deadline - time.monotonic(), 0)):
            chunk = os.read(reader, _CHUNK)
            if not chunk:
                return text
            if chunk.startswith(_BEGUN):
                deadline = time.monotonic() + begun_timeout_secs
            text += chunk.removeprefix(_BEGUN)
    return None


def _how_it_ended(status: int) -> str:
    if status < 0:
        return f"the kernel's process was ended by signal {-status} ({signal.Signals(-status).name})"
    return f"the kernel's process ended with status {status}"


def _limit_memory(mib: int) -> None:
    """Limit the further growth of this process's address space."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + (mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


@contextmanager
def _memory_limit(mib: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_AS)
    _limit_memory(mib)
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def die_with_parent() -> None:
    """On Linux, have the kernel kill this process when its parent dies, even in the middle of a measurement."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> None:
    """Serve requests until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with_parent()
    # TVM and LLVM occasionally print to standard output, so answers get their own channel.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker()
    operations: dict[str, Callable[..., Answer]] = {"load": worker.load, "build": worker.build, "run": worker.run}
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(operations[request.pop("op")](**request)) + "\n")


if __name__ == "__main__":
    main()
