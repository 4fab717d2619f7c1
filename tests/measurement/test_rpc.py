"""Measuring on the servers of a real tracker on loopback, even if they die."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from tvm import rpc as tvm_rpc

from colt_pipeline.assemble import assemble
from colt_pipeline.config.schema import RpcConfig
from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement.devices import host_cpu
from colt_pipeline.measurement.measurer import LocalMeasurer
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.search.loop import search
from stages.benchmarks.kernels import SHAPE, endless, out_of_bounds, scaled, workload
from tests.measurement.settings import SETTINGS, target
from tests.support import ROOT, Compose

pytestmark = pytest.mark.tvm

KEY = "bench"
Start = Callable[..., list[subprocess.Popen[bytes]]]
"""Starts so many servers, by default one."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def launch(module: str, *flags: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, "--host", "127.0.0.1", *flags],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline, "not ready in a minute"
        time.sleep(0.1)


def listens(number: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", number)) == 0


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    number = free_port()
    tracker = launch("tvm.exec.rpc_tracker", "--port", str(number), "--port-end", str(number + 1))
    wait_until(lambda: listens(number))
    yield number
    tracker.kill()
    tracker.wait()


def servers(port: int) -> int:
    tracker = tvm_rpc.connect_tracker("127.0.0.1", port)
    known = len(tracker.summary()["server_info"])
    tracker.close()
    return known


@pytest.fixture
def start(port: int) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start_servers(count: int = 1) -> list[subprocess.Popen[bytes]]:
        before, new, ports_of_servers = servers(port), list[subprocess.Popen[bytes]](), set[int]()
        while len(ports_of_servers) < count:
            ports_of_servers.add(free_port())
        for own in ports_of_servers:
            ports = ("--port", str(own), "--port-end", str(own + 1))
            new.append(launch("tvm.exec.rpc_server", "--tracker", f"127.0.0.1:{port}", "--key", KEY, *ports))
        started.extend(new)
        wait_until(lambda: servers(port) >= before + count)
        return new

    yield start_servers
    for server in started:
        kill(server)
    wait_until(lambda: servers(port) == 0)


def kill(server: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(server.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    server.wait()


def busy(port: int) -> int:
    """Servers that run something."""
    tracker = tvm_rpc.connect_tracker("127.0.0.1", port)
    summary = tracker.summary()
    tracker.close()
    return len(summary["server_info"]) - int(summary["queue_info"].get(KEY, {}).get("free", 0))


@pytest.fixture
def measurer(port: int) -> Iterator[LocalMeasurer]:
    rpc = RpcConfig("127.0.0.1", port, KEY, 60.0)
    local = LocalMeasurer(workload(), target(), SETTINGS, rpc)
    yield local
    local.close()


def test_programs_are_measured_and_checked_on_a_server(measurer: LocalMeasurer, start: Start) -> None:
    start()
    right, wrong = measurer.measure([scaled(1.0), scaled(1.01)], None)
    assert right.error is None and len(right.run_secs) >= 3
    assert wrong.error == "wrong_result"


def test_a_search_runs_on_a_server(composed: Compose, port: int, start: Start) -> None:
    start()
    rpc = ("device=rpc", f"rpc.key={KEY}", f"rpc.port={port}")
    shape = [f"workload.shape.{key}={value}" for key, value in SHAPE.items()]
    config = composed("workload=deepseek_r1_moe", *shape, "samples=6", "measure.builders=2", "run=remote", *rpc)
    with assemble(config) as job:
        list(search(job.world, job.journal, job.state))
    assert [s.error for s in job.state.samples] == [None] * 6
    assert job.source.startswith(f"device=rpc: rpc-{KEY}-{host_cpu().facts['mcpu']}, latencies measured")
    (ledger,) = (Path(config.results) / "recordings").glob("rpc-*/adhoc/remote/measurements.jsonl")
    assert read_lines(ledger)[0]["device"]["kind"] == "rpc"


def test_a_server_that_dies_mid_batch_loses_nothing(measurer: LocalMeasurer, start: Start) -> None:
    (doomed,) = start()
    list(measurer.measure([scaled(1.0)], None))  # workers and server are warm
    start()
    results = measurer.measure([scaled(1.0) for _ in range(12)], None)
    first = next(results)
    kill(doomed)
    assert [m.error for m in (first, *results)] == [None] * 12


def test_a_program_that_loses_every_server_is_a_crash(measurer: LocalMeasurer, start: Start) -> None:
    """TVM's server exits when a session crashes, so each attempt takes down a server."""
    start(2)
    assert next(measurer.measure([out_of_bounds()], None)).error == "crash"
    start()
    assert next(measurer.measure([scaled(1.0)], None)).error is None


def test_as_many_kernels_run_as_there_are_servers_also_if_one_joins(port: int, start: Start) -> None:
    start(2)
    settings = replace(SETTINGS, run_timeout_secs=120.0, builders=1)
    local = LocalMeasurer(workload(), target(), settings, RpcConfig("127.0.0.1", port, KEY, 60.0))
    run = Thread(target=lambda: list(local.measure([endless()] * 3, None)))
    run.start()
    try:
        wait_until(lambda: busy(port) == 2)
        start()
        wait_until(lambda: busy(port) == 3)
    finally:
        local.close()
        run.join()


def test_results_come_in_order_from_several_servers(measurer: LocalMeasurer, start: Start) -> None:
    start(2)
    kernels = [scaled(1.0), scaled(1.01), scaled(1.0), scaled(1.01), scaled(1.0)]
    expected = [None, "wrong_result", None, "wrong_result", None]
    assert [m.error for m in measurer.measure(kernels, None)] == expected


def test_a_search_that_loses_all_servers_ends_with_one_message_and_resumes(
    composed: Compose, port: int, start: Start
) -> None:
    doomed = start(2)
    shape = [f"workload.shape.{key}={value}" for key, value in SHAPE.items()]
    config = composed(
        *("workload=deepseek_r1_moe", *shape, "samples=6", "search.batch_size=2", "measure.builders=2", "run=lost"),
        *("device=rpc", f"rpc.key={KEY}", f"rpc.port={port}", "rpc.timeout_secs=4"),
    )
    with assemble(config) as job:
        steps = search(job.world, job.journal, job.state)
        while len(job.state.samples) < 2:
            next(steps)
        for server in doomed:
            kill(server)
        with pytest.raises(DeviceError, match=f"assigned no server with rpc.key={KEY} within rpc.timeout_secs=4"):
            list(steps)
        before = list(job.state.samples)
    start()
    with assemble(config) as job:
        list(search(job.world, job.journal, job.state))
    assert job.state.samples[: len(before)] == before and len(job.state.samples) == 6


def test_a_server_that_is_another_device_is_refused(port: int, start: Start) -> None:
    start()
    facts = {"arch": host_cpu().facts["mcpu"], "threads": 96}
    rpc = RpcConfig("127.0.0.1", port, KEY, 60.0)
    with closing(LocalMeasurer(workload(), target(), SETTINGS, rpc, facts)) as local:
        with pytest.raises(DeviceError, match=r"threads \d+, but the run began on .*threads 96; .* another key"):
            next(local.measure([scaled(1.0)], None))


def test_an_endless_kernel_is_a_timeout(measurer: LocalMeasurer, start: Start) -> None:
    start()
    measurer._settings = replace(SETTINGS, run_timeout_secs=2.0)
    assert next(measurer.measure([endless()], None)).error == "timeout"


def test_no_free_server_is_one_message(port: int) -> None:
    local = LocalMeasurer(workload(), target(), SETTINGS, RpcConfig("127.0.0.1", port, KEY, 1.0))
    with pytest.raises(DeviceError, match=r"assigned no server with rpc.key=bench .* tvm.exec.rpc_server"):
        next(local.measure([scaled(1.0)], None))
    local.close()


def test_a_server_that_comes_late_is_waited_for(measurer: LocalMeasurer, start: Start) -> None:
    late = Thread(target=start)
    late.start()
    assert next(measurer.measure([scaled(1.0)], None)).error is None
    late.join()


def test_no_tracker_is_one_message() -> None:
    local = LocalMeasurer(workload(), target(), SETTINGS, RpcConfig("127.0.0.1", free_port(), KEY, 1.0))
    with pytest.raises(DeviceError, match=r"no RPC tracker answers at .* tvm.exec.rpc_tracker"):
        next(local.measure([scaled(1.0)], None))
    local.close()


def test_no_compiler_is_one_message(port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "rm").symlink_to(shutil.which("rm") or "")
    monkeypatch.setenv("PATH", str(tmp_path))
    local = LocalMeasurer(workload(), target(), SETTINGS, RpcConfig("127.0.0.1", port, KEY, 1.0))
    with pytest.raises(DeviceError, match="links kernels with a C compiler"):
        next(local.measure([scaled(1.0)], None))
    local.close()
