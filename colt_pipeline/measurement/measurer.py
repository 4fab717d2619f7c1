"""Measures programs in persistent worker processes; a crash or a hang costs one sample, never the run."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, repeat
from pathlib import Path
from queue import LifoQueue
from threading import BoundedSemaphore
from typing import Any, Protocol

import tvm

from colt_pipeline.config.schema import MeasureConfig, RpcConfig
from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement import remote
from colt_pipeline.measurement.process import Lost, WorkerProcess
from colt_pipeline.measurement.racing import Races
from colt_pipeline.measurement.remote import remote_limit_secs
from colt_pipeline.measurement.slots import Recounted, Slots
from colt_pipeline.measurement.worker import GPU_QUEUE_SECS
from colt_pipeline.records import Measurement
from colt_pipeline.stack import usable_cores
from colt_pipeline.workloads.catalogue import recipe
from colt_pipeline.workloads.workload import Workload

_GRACE_SECS = 10.0
"""Added to the limit that a worker enforces itself, to catch a worker that hangs."""
_TRIES = 2
_MOST_SERVERS = 64
"""RPC servers that are used at once."""

# Ends when its parent does, for whatever reason, and removes the files that workers left behind.
_JANITOR = 'read -r _; rm -rf "$1"'


class Measurer(Protocol):
    """Anything that measures scheduled modules."""

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        """Measure modules.

        Args:
            modules: scheduled modules.
            best_secs: the best latency so far, which slower programs are judged by; infinite = there is none; None =
                none is cut short.

        Yields:
            One Measurement per module, in order, as soon as it is available, in a race when it is over; failures are
            values.
        """
        ...

    def close(self) -> None:
        """Stop all processes."""
        ...


MakeMeasurer = Callable[[Workload], Measurer]


@dataclass(frozen=True)
class _Built:
    """A kernel waiting in the worker that built it."""

    name: str
    worker: WorkerProcess
    generation: int


class LocalMeasurer:
    """Builds kernels in parallel and runs them one at a time, on this machine or, with `rpc`, on a tracker's servers.

    On this machine's CPU nothing is built while a kernel runs, because that would disturb the timing; elsewhere builds
    continue. With `rpc`, as many kernels run at once as the tracker has servers at that moment.
    """

    def __init__(
        self,
        workload: Workload,
        target: dict[str, Any],
        settings: MeasureConfig,
        rpc: RpcConfig | None = None,
        server: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare the workers, which start at their first request.

        Args:
            workload: what the kernels compute.
            target: TVM's target dict.
            settings: how to build and time.
            rpc: the tracker; None to run on this machine.
            server: what its servers have to be, see `server_facts`; None = anything.

        Raises:
            DeviceError: the temporary directory is unwritable.
        """
        self._settings = settings
        try:
            self._scratch = tempfile.mkdtemp(prefix="colt-")
        except OSError as error:
            raise DeviceError(f"cannot write {tempfile.gettempdir()}: {error.strerror}; set TMPDIR") from error
        self._janitor = subprocess.Popen(
            ["/bin/sh", "-c", _JANITOR, "sh", self._scratch], stdin=subprocess.PIPE, start_new_session=True
        )
        # One thread each, because workers fork and parallel builds already use all cores.
        environment = {"TMPDIR": self._scratch, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        if target["kind"] == "llvm":
            environment["TVM_NUM_THREADS"] = str(target["num-cores"])
        elif shutil.which("nvcc"):
            environment["TVM_CUDA_COMPILE_MODE"] = "nvcc"  # TVM's default, NVRTC, needs cuda-bindings
        load: dict[str, Any] = {"op": "load", "workload": recipe(workload), "target": target}
        load |= {"rpc": rpc and vars(rpc), "server": server}
        on_gpu = rpc is None and target["kind"] == "cuda"
        self._overlap = on_gpu or rpc is not None
        self._run_secs = remote_limit_secs(rpc, settings) if rpc else settings.run_timeout_secs
        self._run_secs += settings.build_timeout_secs + GPU_QUEUE_SECS if on_gpu else 0.0
        self._names = count()
        # When builds overlap with runs, one core stays free for the process that drives the device, but with a single
        # builder nothing would overlap.
        builders = settings.builders or (max(usable_cores() - 1, 2) if self._overlap else usable_cores())
        # Kernels on a GPU take turns by themselves. RPC servers come and go; a worker waits for the one that runs its
        # kernel, so builds go on in as many others.
        servers: Callable[[], int] = Recounted(partial(remote.servers, rpc)) if rpc else lambda: builders
        self._device = Slots(servers)
        self._under_way = Slots((lambda: servers() + builders) if rpc else servers)
        self._building = BoundedSemaphore(builders)
        self._races = Races(settings)
        log = Path(self._scratch) / "errors"
        self._workers = [WorkerProcess(load, environment, log) for _ in range(builders + _MOST_SERVERS * bool(rpc))]
        self._idle: LifoQueue[WorkerProcess] = LifoQueue()  # no more are started than are needed at once
        for worker in self._workers:
            self._idle.put(worker)
        # Threads only wait for workers, but must live as long as the measurer: a worker dies with its parent thread.
        self._threads = ThreadPoolExecutor(len(self._workers))

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        """See Measurer.

        Raises:
            DeviceError: the device cannot be reached.
            StackError: the workers fail to start.
        """
        if self._overlap:
            yield from self._threads.map(self._build_and_run, modules, repeat(best_secs))
            return
        built_modules = list(zip(modules, self._threads.map(self._build_somewhere, modules), strict=True))
        if self._settings.racing and best_secs is not None:
            yield from self._race(built_modules, best_secs)
            return
        for module, built in built_modules:
            measured = built if isinstance(built, Measurement) else self._run(built, module, best_secs)
            if best_secs is not None and measured.latency_secs is not None:
                best_secs = min(measured.latency_secs, best_secs)
            yield measured

    def _race(
        self, kernels: Sequence[tuple[tvm.IRModule, _Built | Measurement]], best_secs: float
    ) -> Iterator[Measurement]:
        racers = [_Racer(self, module, built) for module, built in kernels if isinstance(built, _Built)]
        raced = iter(self._races.run(racers, best_secs))
        return (next(raced) if isinstance(built, _Built) else built for _, built in kernels)

    def _build_and_run(self, module: tvm.IRModule, best_secs: float | None) -> Measurement:
        with self._under_way:
            worker = self._idle.get()
            try:
                with self._building:
                    built = self._build(worker, module)
                if isinstance(built, Measurement):
                    return built
                with self._device:
                    return self._run(built, module, best_secs)
            finally:
                self._idle.put(worker)

    def _build_somewhere(self, module: tvm.IRModule) -> _Built | Measurement:
        worker = self._idle.get()
        try:
            return self._build(worker, module)
        finally:
            self._idle.put(worker)

    def _build(self, worker: WorkerProcess, module: tvm.IRModule) -> _Built | Measurement:
        """Build in a worker. Its first death may have an outside cause; a second one is blamed on the program."""
        name, limit = str(next(self._names)), self._settings.build_timeout_secs
        request = {"op": "build", "name": name, "module": tvm.ir.save_json(module)}
        request |= {"memory_mib": self._settings.memory_mib, "vector_math": self._settings.vector_math}
        status = None
        for _ in range(_TRIES):
            answer = worker.request(request, limit)
            if isinstance(answer, dict):
                return _Built(name, worker, worker.generation) if "ok" in answer else _measurement(answer)
            status = answer.status
            if status is None:
                return Measurement(error="timeout", detail=f"the build took longer than {limit:g} s")
        return Measurement(error="crash", detail=f"the building process ended with status {status}")

    def _run(self, built: _Built | Measurement, module: tvm.IRModule, best_secs: float | None) -> Measurement:
        """Run a kernel, rebuilding it if its worker is gone."""
        request = {"op": "run", "settings": vars(self._settings), "best_secs": best_secs}
        return self._first_run(built, module, request)[1]

    def _first_run(
        self, built: _Built | Measurement, module: tvm.IRModule, request: dict[str, Any]
    ) -> tuple[_Built | None, Measurement]:
        """Where a kernel has run at last, and what that request was answered."""
        losses = 0
        while isinstance(built, _Built):
            if built.worker.generation == built.generation:
                answer = self._answer(built, request)
                if isinstance(answer, dict):
                    return built, _measurement(answer)
                losses += 1
                if losses == _TRIES:
                    return None, Measurement(error="crash", detail=f"its worker was lost {_TRIES} times")
            built = self._build(built.worker, module)
        return None, built

    def _answer(self, built: _Built, request: dict[str, Any]) -> dict[str, Any] | Lost:
        return built.worker.request(request | {"name": built.name}, self._run_secs + _GRACE_SECS, built.generation)

    def close(self) -> None:
        """Stop all processes and remove what they left behind."""
        for slots in (self._under_way, self._device):
            slots.close()
        for worker in self._workers:
            worker.stop()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()
        self._janitor.wait()


class _Racer:
    """A kernel in a race; one whose worker is lost enters again."""

    def __init__(self, measurer: LocalMeasurer, module: tvm.IRModule, built: _Built) -> None:
        self._measurer = measurer
        self._module = module
        self._built: _Built | None = built

    def enter(self) -> Measurement:
        assert self._built is not None
        request = {"op": "enter", "settings": vars(self._measurer._settings)}
        self._built, first = self._measurer._first_run(self._built, self._module, request)
        return first

    def again(self, repeats: int) -> Measurement:
        assert self._built is not None
        answer = self._measurer._answer(self._built, {"op": "again", "repeats": repeats})
        if isinstance(answer, dict):
            return _measurement(answer)
        entered = self.enter()
        return entered if entered.error is not None else replace(entered, run_secs=entered.run_secs[1:])

    def leave(self) -> None:
        if self._built is not None:
            self._measurer._answer(self._built, {"op": "leave"})


def _measurement(answer: dict[str, Any]) -> Measurement:
    if "fatal" in answer:
        raise DeviceError(answer["fatal"])
    return Measurement.of(answer)
