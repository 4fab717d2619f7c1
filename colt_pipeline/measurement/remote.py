"""Runs a built kernel on a server of a TVM RPC tracker.

If the server is lost (it dies, or the kernel kills it: TVM's server exits with a crashed session), the kernel is tried
again on the next server that the tracker assigns; a kernel that loses two servers is a ``crash``.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvm import rpc as tvm_rpc
from tvm.support import cc

from colt_pipeline.config.schema import MeasureConfig, RpcConfig
from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement.bench import TVM_ERRORS, Bench, Packed, last_line
from colt_pipeline.records import Measurement

_TRIES = 2
_REACH_SECS = 5.0
_RETRY_SECS = 0.2
_LIBRARY = "kernel.so"


def run_remote(
    settings: RpcConfig,
    kind: str,
    server: Mapping[str, Any] | None,
    library: Any,
    packed: Packed,
    bench: Bench,
    timing: MeasureConfig,
    best_secs: float | None,
) -> Measurement:
    """Time and check `library` on a server with the key `settings.key`.

    Args:
        settings: the tracker.
        kind: TVM's target kind.
        server: what the server has to be, see `server_facts`; None = anything.
        library: the compiled module.
        packed: the inputs that it packs.
        bench: inputs and expected output.
        timing: how to time.
        best_secs: the best latency so far, if any.

    Raises:
        DeviceError: no tracker, no server free in time, a server that is another device, or no C compiler to link with.
    """
    if not cc.get_cc():
        raise DeviceError("device=rpc links kernels with a C compiler, but none is on the PATH; install gcc or clang")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / _LIBRARY
        try:
            library.export_library(str(path))
        except TVM_ERRORS as error:
            return Measurement(error="build_error", detail=last_line(error))
        for _ in range(_TRIES):
            session = request(settings, timing.run_timeout_secs)
            try:
                if server is not None:
                    _check_same(settings, server, server_facts(kind, session))
                session.upload(str(path))
                device = session.cuda(0) if kind == "cuda" else session.cpu(0)
                result = bench.measure(session.load_module(_LIBRARY), device, timing, best_secs, packed=packed)
            except TVM_ERRORS as error:
                result = Measurement(error="run_error", detail=last_line(error))
            if "RPCSessionTimeoutError" in result.detail:
                return Measurement(error="timeout", detail=f"the run took longer than {timing.run_timeout_secs:g} s")
            if result.error != "run_error" or _answers(session):
                return result
    return Measurement(error="crash", detail=f"{_TRIES} RPC servers were lost while it ran")


def server_facts(kind: str, session: Any) -> dict[str, Any]:
    """What is known about a server, and what all with one key have in common.

    Raises:
        DeviceError: the target is CUDA, but the server has no CUDA GPU.
    """
    if kind != "cuda":
        arch = str(session.get_function("target.llvm_get_system_cpu")())
        return {"arch": arch, "threads": int(session.get_function("runtime.NumThreads")())}
    gpu = session.cuda(0)
    if not gpu.exist:
        raise DeviceError("an RPC server has no CUDA GPU, but the target is CUDA; start it on a machine with one")
    return {"gpu": str(gpu.device_name), "arch": "sm_" + str(gpu.compute_version).replace(".", "")}


def _check_same(settings: RpcConfig, expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Check that latencies of a server are comparable with those of the others."""
    if found != expected:
        there, here = (", ".join(f"{name} {value}" for name, value in facts.items()) for facts in (found, expected))
        raise DeviceError(
            f"a server with rpc.key={settings.key} has {there}, but the run began on {here}; a run does not mix "
            "devices. Stop that server, or give it another key"
        )


def remote_limit_secs(settings: RpcConfig, timing: MeasureConfig) -> float:
    """Upper bound on the duration of `run_remote`: linking, then waiting for a server and running at every try."""
    return timing.build_timeout_secs + _TRIES * (settings.timeout_secs + timing.run_timeout_secs)


def servers(settings: RpcConfig) -> int:
    """Number of servers, busy or free, that the tracker knows under the key.

    Raises:
        DeviceError: no tracker answers.
    """
    tracker = connect(settings)
    try:
        known = tracker.summary()["server_info"]
    except (OSError, RuntimeError) as error:
        raise _no_tracker(settings) from error
    finally:
        tracker.close()
    return sum(server["key"] == f"server:{settings.key}" for server in known)


def request(settings: RpcConfig, session_secs: float) -> Any:
    """A session of at most `session_secs` on the next free server.

    Raises:
        DeviceError: no tracker answers, or no server became free in time.
    """
    deadline = time.monotonic() + settings.timeout_secs
    while (left := deadline - time.monotonic()) > 0:
        tracker = connect(settings)
        tracker._sock.settimeout(left)  # TVM would wait forever
        try:
            return tracker.request(settings.key, session_timeout=session_secs, max_retry=1)
        except RuntimeError:  # none became free, or the assigned one is gone, which the tracker then forgets
            time.sleep(_RETRY_SECS)
        finally:
            tracker.close()
    raise DeviceError(
        f"the RPC tracker {settings.host}:{settings.port} assigned no server with rpc.key={settings.key} within "
        f"rpc.timeout_secs={settings.timeout_secs:g}; start one: python -m tvm.exec.rpc_server --host 127.0.0.1 "
        f"--tracker {settings.host}:{settings.port} --key {settings.key}"
    )


def connect(settings: RpcConfig) -> Any:
    """Connect to the tracker.

    Raises:
        DeviceError: no tracker answers at that address.
    """
    before = socket.getdefaulttimeout()
    try:
        # TVM would try for a minute before giving up, and wait forever for a listener that never answers.
        socket.create_connection((settings.host, settings.port), _REACH_SECS).close()
        socket.setdefaulttimeout(_REACH_SECS)
        return tvm_rpc.connect_tracker(settings.host, settings.port)
    except (OSError, RuntimeError) as error:
        raise _no_tracker(settings) from error
    finally:
        socket.setdefaulttimeout(before)


def _no_tracker(settings: RpcConfig) -> DeviceError:
    return DeviceError(
        f"no RPC tracker answers at rpc.host={settings.host} rpc.port={settings.port}; start one: "
        f"python -m tvm.exec.rpc_tracker --host {settings.host} --port {settings.port}"
    )


def _answers(session: Any) -> bool:
    """Whether the server of this session is still running."""
    try:
        session.get_function("tvm.rpc.server.workpath")("")
    except TVM_ERRORS:
        return False
    return True
