"""The process that builds and runs kernels: ``python -m colt_pipeline.measurement.worker``.

It reads one JSON request per line from standard input and answers each with one JSON line. It persists from program to
program, so TVM is imported and the inputs are created only once. Kernels for this machine's CPU are linked in memory:
no C compiler, no files.

The worker runs each kernel in a fork, which inherits the inputs and the linked kernel (one for a GPU is built in the
fork). Whatever a kernel does (loop forever, write out of bounds, exhaust memory) affects only its fork, within a time
limit (and a memory limit on this machine's CPU), and the next kernel starts in a clean process.

Requests (``op``): ``load`` (workload's recipe, target, rpc, server), ``build`` (name, module, memory_mib, vector_math),
``run`` (name, settings, best_secs); in a race on this machine's CPU, where a fork goes on as long as its kernel takes
part, ``enter`` (name, settings), ``again`` (name, repeats), ``leave`` (name). Answers: {"ok": true}, {"fatal": message}
or the fields of a Measurement.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from colt_pipeline import stack

stack.require()  # before TVM is imported

import tvm  # noqa: E402

from colt_pipeline.config.schema import MeasureConfig, RpcConfig  # noqa: E402
from colt_pipeline.errors import ConfigError  # noqa: E402
from colt_pipeline.measurement.bench import TVM_ERRORS, Bench, Packed, last_line  # noqa: E402
from colt_pipeline.measurement.devices import CUDA_LOCK  # noqa: E402
from colt_pipeline.measurement.fork import Answer, Ended, Phase, Turns, die_with_parent, in_fork  # noqa: E402
from colt_pipeline.measurement.gpu import load_runtime  # noqa: E402
from colt_pipeline.measurement.lock import device_lock  # noqa: E402
from colt_pipeline.measurement.remote import remote_limit_secs, run_remote  # noqa: E402
from colt_pipeline.measurement.vector_math import pipeline  # noqa: E402
from colt_pipeline.records import Measurement  # noqa: E402
from colt_pipeline.workloads.catalogue import rebuild  # noqa: E402
from colt_pipeline.workloads.packing import split  # noqa: E402

GPU_QUEUE_SECS = 600.0
"""How long a kernel may wait for its GPU, which runs one kernel at a time."""
_KERNELS_KEPT = 8
_TRUSTED = {"tirx.disable_assert": True}
"""Without the checks of a kernel's arguments, which the bench makes: the kernel itself is the same machine code, and a
matrix product is built in two thirds of the time."""


@dataclass(frozen=True)
class _Kernel:
    """A kernel that was built."""

    library: Any
    packed: Packed


class Worker:
    """Holds one workload's bench and the kernels that were built but not yet run, or that wait in a race."""

    def load(
        self,
        workload: dict[str, Any],
        target: dict[str, Any],
        rpc: dict[str, Any] | None,
        server: dict[str, Any] | None = None,
    ) -> Answer:
        """Create inputs and reference; with `rpc`, kernels run on this tracker's servers, like `server`."""
        try:
            self._bench = Bench(rebuild(workload))
        except ConfigError as error:
            return {"fatal": str(error)}
        except TVM_ERRORS as error:
            name, said = workload["name"], last_line(error)
            return {"fatal": f"{name} cannot be run unscheduled: {said}; make it smaller, or write it otherwise"}
        self._target = target
        self._rpc, self._server = RpcConfig(**rpc) if rpc else None, server
        self._built: dict[str, Callable[[], _Kernel]] = {}
        self._racers: dict[str, Turns] = {}
        # A confirmation builds the same few programs in every round.
        self._compile = lru_cache(maxsize=_KERNELS_KEPT)(self._compiled)
        if self._on_gpu:
            load_runtime()  # forks inherit it; CUDA itself is initialized only there
        return {"ok": True}

    def build(self, name: str, module: str, memory_mib: int, vector_math: bool) -> Answer:
        """Compile and link; a failure is returned as a Measurement. A kernel for this machine's GPU only waits here."""
        make = partial(self._compile, module, memory_mib, vector_math)
        if self._on_gpu:
            self._built[name] = make
            return {"ok": True}
        try:
            kernel = make()
        except TVM_ERRORS as error:
            return asdict(Measurement(error="build_error", detail=last_line(error)))
        self._built[name] = lambda: kernel
        return {"ok": True}

    def _compiled(self, module: str, memory_mib: int, vector_math: bool) -> _Kernel:
        target = tvm.target.Target(self._target)
        here = target.kind.name == "llvm" and self._rpc is None
        with _memory_limit(memory_mib), target, tvm.transform.PassContext(config=_TRUSTED if here else None):
            parts = split(tvm.ir.load_json(module))
            library = tvm.compile(parts.module, target=target, tir_pipeline=pipeline(vector_math))
            if here:
                library.mod.get_function("main")  # link now, while builds run in parallel
        return _Kernel(library, parts.packed)

    def run(self, name: str, settings: dict[str, Any], best_secs: float | None) -> Answer:
        """Time and check a kernel in a fork."""
        built, timing = self._built.pop(name), MeasureConfig(**settings)
        running = Phase(timing.run_timeout_secs, _late("run", timing.run_timeout_secs))

        def on_cpu(ended: Ended) -> Measurement:
            _limit_memory(timing.memory_mib)
            kernel = built()
            return self._bench.measure(kernel.library.mod, tvm.cpu(), timing, best_secs, packed=kernel.packed)

        def on_gpu(ended: Ended) -> Measurement:
            # Built here, because a module for CUDA initializes CUDA where it is deleted, and what was forked from a
            # process with CUDA cannot use it. Without a limit on memory: CUDA's driver reserves more than it uses.
            try:
                library = built().library
            except TVM_ERRORS as error:
                return Measurement(error="build_error", detail=last_line(error))
            ended()
            return self._bench.measure(library.mod, tvm.cuda(0), timing, best_secs, _gpu_turn(ended))

        def there(ended: Ended) -> Measurement:
            assert self._rpc is not None
            server = (self._rpc, self._target["kind"], self._server)
            kernel = built()
            return run_remote(*server, kernel.library, kernel.packed, self._bench, timing, best_secs)

        if self._rpc is not None:
            return in_fork(there, [replace(running, limit_secs=remote_limit_secs(self._rpc, timing))])
        if not self._on_gpu:
            return in_fork(on_cpu, [running])
        building = Phase(timing.build_timeout_secs, _late("build", timing.build_timeout_secs))
        return in_fork(on_gpu, [building, _GPU_IS_BUSY, running])

    def enter(self, name: str, settings: dict[str, Any]) -> Answer:
        """The first runs of a kernel in a race: a cold one, then warm ones, checked."""
        kernel, timing = self._built.pop(name)(), MeasureConfig(**settings)

        def runs() -> Generator[Measurement, int]:
            _limit_memory(timing.memory_mib)
            yield from self._bench.turns(kernel.library.mod, tvm.cpu(), timing, kernel.packed)

        self._racers[name] = Turns(runs, Phase(timing.run_timeout_secs, _late("run", timing.run_timeout_secs)))
        return self.again(name, 0)

    def again(self, name: str, repeats: int) -> Answer:
        """Further warm runs of a kernel that entered a race, which an error ends."""
        answer = self._racers[name].turn(repeats)
        if answer.get("error") is not None:
            del self._racers[name]
        return answer

    def leave(self, name: str) -> Answer:
        """The kernel takes no further part in races."""
        self._racers.pop(name).end()
        return {"ok": True}

    @property
    def _on_gpu(self) -> bool:
        return self._rpc is None and bool(self._target["kind"] == "cuda")


@contextmanager
def _gpu_turn(ended: Ended) -> Iterator[None]:
    """Hold the GPU: other kernels' contexts are created and their inputs copied meanwhile, but they run in turn."""
    with device_lock(CUDA_LOCK):
        ended()
        yield


def _late(what: str, limit_secs: float) -> Answer:
    return asdict(Measurement(error="timeout", detail=f"the {what} took longer than {limit_secs:g} s"))


_GPU_IS_BUSY = Phase(
    GPU_QUEUE_SECS,
    {
        "fatal": f"this machine's GPU was not free for {GPU_QUEUE_SECS:g} s, because another search measures on it; "
        "once that has ended, the same command resumes the run"
    },
)


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


def _die_first() -> None:
    """On Linux, have the kernel kill this process or its forks, and not the search, when memory runs out."""
    if sys.platform == "linux":
        with suppress(OSError):  # some sandboxes hide the file
            Path("/proc/self/oom_score_adj").write_text("1000")


def main() -> None:
    """Serve requests until standard input closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with_parent()
    _die_first()
    # TVM and LLVM occasionally print to standard output, so answers get their own channel.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    worker = Worker()
    operations: dict[str, Callable[..., Answer]] = {"load": worker.load, "build": worker.build, "run": worker.run}
    operations |= {"enter": worker.enter, "again": worker.again, "leave": worker.leave}
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(operations[request.pop("op")](**request)) + "\n")


if __name__ == "__main__":
    main()
