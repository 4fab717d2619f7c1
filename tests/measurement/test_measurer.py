"""Real measurements: persistent workers, and faults that cost one sample."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tvm

from colt_pipeline.errors import ConfigError, StackError
from colt_pipeline.measurement.measurer import LocalMeasurer
from colt_pipeline.measurement.process import Lost, WorkerProcess
from colt_pipeline.measurement.racing import Races
from colt_pipeline.records import Measurement
from colt_pipeline.space import Space
from stages.benchmarks.kernels import endless, hungry, out_of_bounds, scaled, unlinked, workload
from tests.measurement.settings import SETTINGS, target
from tests.support import ROOT

pytestmark = pytest.mark.tvm


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalMeasurer]:
    local = LocalMeasurer(workload(), target(), SETTINGS)
    yield local
    local.close()


@pytest.fixture
def measurer(shared: LocalMeasurer) -> LocalMeasurer:
    """Workers that persist from test to test, as they do from batch to batch."""
    shared._settings, shared._overlap = SETTINGS, False
    return shared


@pytest.fixture
def racing(measurer: LocalMeasurer) -> Iterator[LocalMeasurer]:
    """The same workers, in their first race."""
    measurer._settings, measurer._races = RACE, Races(RACE)
    yield measurer
    if measurer._races._pacemaker is not None:
        measurer._races._pacemaker.leave()


def measure(measurer: LocalMeasurer, *modules: tvm.IRModule, best_secs: float | None = None) -> list[Measurement]:
    return list(measurer.measure(modules, best_secs))


def test_schedules_of_a_workload_measure_and_are_correct(measurer: LocalMeasurer) -> None:
    space = Space(workload().module, target())
    programs = space.initial(2, np.random.default_rng(0))
    for m in measure(measurer, workload().module, *(p.schedule.mod for p in programs)):
        assert m.error is None, m.detail
        assert m.latency_secs is not None and 0 < m.latency_secs < 0.1
        assert 3 <= len(m.run_secs) <= 4 and m.stop in ("steady", "repeats", "budget")
        assert m.max_relative_error is not None and m.max_relative_error < workload().rtol


FAULTS: dict[str, tuple[Callable[[], tvm.IRModule], str, str]] = {
    "wrong_result": (lambda: scaled(1.01), "wrong_result", "relative error 0.01"),
    "infinite": (lambda: scaled(float("inf")), "wrong_result", "relative error"),
    "out_of_bounds": (out_of_bounds, "crash", "signal 11 (SIGSEGV)"),
    "endless": (endless, "timeout", "the run took longer than 1 s"),
    "hungry": (hungry, "run_error", "bad_alloc"),
    "unlinked": (unlinked, "crash", "signal 11"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_costs_one_sample(measurer: LocalMeasurer, fault: str) -> None:
    make, kind, detail = FAULTS[fault]
    measurer._settings = replace(SETTINGS, run_timeout_secs=1.0 if fault == "endless" else 20.0)
    before, faulty, after = measure(measurer, scaled(1.0), make(), scaled(1.0))
    assert before.error is after.error is None
    assert faulty.error == kind and detail in faulty.detail
    assert faulty.latency_secs is None
    workers = [w._process for w in measurer._workers]
    assert all(w is not None and w.poll() is None for w in workers)  # the workers persist
    assert not any(psutil.Process(w.pid).children() for w in workers if w is not None)


def test_a_wrong_result_keeps_its_error(measurer: LocalMeasurer) -> None:
    wrong, infinite = measure(measurer, scaled(1.01), scaled(float("inf")))
    assert wrong.max_relative_error == pytest.approx(0.01, rel=0.01)
    assert infinite.max_relative_error is None  # JSON has no infinity


def test_a_clear_loser_is_run_once(measurer: LocalMeasurer) -> None:
    measurer._settings = replace(SETTINGS, slower=4.0)
    loser, winner = measure(measurer, scaled(1.0), best_secs=1e-9)[0], measure(measurer, scaled(1.0), best_secs=10.0)[0]
    assert loser.stop == "slower" and len(loser.run_secs) == 1 and loser.error is None
    assert len(winner.run_secs) >= 3


RACE = replace(SETTINGS, racing=3.0, slower=4.0)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_race_costs_one_sample(racing: LocalMeasurer, fault: str) -> None:
    make, kind, detail = FAULTS[fault]
    racing._settings = replace(RACE, run_timeout_secs=1.0 if fault == "endless" else 20.0)
    before, faulty, after = measure(racing, scaled(1.0), make(), scaled(1.0), best_secs=math.inf)
    assert before.latency_secs is not None and after.latency_secs is not None
    assert faulty.error == kind and detail in faulty.detail and faulty.latency_secs is None
    assert before.max_relative_error is not None and before.stop is not None


def test_only_the_process_of_the_best_kernel_outlives_a_race(racing: LocalMeasurer) -> None:
    for _ in range(2):
        results = measure(racing, scaled(1.0), scaled(1.01), scaled(1.0), scaled(1.0), best_secs=math.inf)
        assert [m.error for m in results] == [None, "wrong_result", None, None]
        forks = [p for w in racing._workers if w._process for p in psutil.Process(w._process.pid).children()]
        assert [fork.status() for fork in forks] == [psutil.STATUS_STOPPED]


def test_a_race_against_an_unreachable_best_runs_each_kernel_once(racing: LocalMeasurer) -> None:
    results = measure(racing, scaled(1.0), scaled(1.0), best_secs=1e-9)
    assert [(m.stop, len(m.run_secs)) for m in results] == [("slower", 1)] * 2


def test_without_a_best_latency_there_is_no_race(racing: LocalMeasurer) -> None:
    assert [len(m.run_secs) >= 3 for m in measure(racing, scaled(1.0), scaled(1.0))] == [True, True]
    assert racing._races._pacemaker is None


def test_kernels_whose_workers_are_killed_in_a_race_enter_again(
    racing: LocalMeasurer, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, killed = WorkerProcess.request, []

    def deadly(self: WorkerProcess, message: dict[str, Any], *rest: Any) -> dict[str, Any] | Lost:
        if message["op"] == "again" and not killed and self._process is not None:
            killed.append(self)
            self._process.kill()
            self._process.wait()
        return answer(self, message, *rest)

    monkeypatch.setattr(WorkerProcess, "request", deadly)
    results = measure(racing, scaled(1.0), scaled(1.0), best_secs=math.inf)
    assert killed and [m.error for m in results] == [None, None]


def test_a_flushed_cache_times_the_kernel_all_the_same(measurer: LocalMeasurer) -> None:
    measurer._settings = replace(SETTINGS, cache_flush_mib=8, min_repeat_secs=0.01)
    flushed = measure(measurer, scaled(1.0))[0]
    assert flushed.error is None and len(flushed.run_secs) >= 3


def test_workers_killed_from_outside_are_replaced_and_lose_nothing(measurer: LocalMeasurer) -> None:
    measure(measurer, scaled(1.0))
    results = measurer.measure([scaled(1.0) for _ in range(4)], None)
    first = next(results)  # all four are built and wait in their workers
    for worker in measurer._workers:
        if worker._process is not None:
            worker._process.send_signal(signal.SIGKILL)
            worker._process.wait()
    assert [m.error for m in (first, *results)] == [None] * 4


@pytest.mark.parametrize(
    ("losses", "error"), [([-9], None), ([-9, -9], "crash"), ([None], "timeout")], ids=["once", "twice", "hangs"]
)
def test_a_builder_that_is_lost_once_is_forgiven(
    measurer: LocalMeasurer, monkeypatch: pytest.MonkeyPatch, losses: list[int | None], error: str | None
) -> None:
    answer = WorkerProcess.request

    def lossy(self: WorkerProcess, message: dict[str, Any], *rest: Any) -> dict[str, Any] | Lost:
        return Lost(losses.pop(0)) if losses and message["op"] == "build" else answer(self, message, *rest)

    monkeypatch.setattr(WorkerProcess, "request", lossy)
    lost, after = measure(measurer, scaled(1.0))[0], measure(measurer, scaled(1.0))[0]
    assert lost.error == error and after.error is None


@pytest.mark.parametrize(
    ("status", "message"), [(-11, "signal 11; does the program read or write beyond"), (None, "no answer in 300 s; if")]
)
def test_a_worker_that_dies_of_its_workload_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int | None, message: str
) -> None:
    worker = WorkerProcess({"op": "load"}, {}, tmp_path / "errors")
    monkeypatch.setattr(worker, "_exchange", lambda *_: Lost(status))
    with pytest.raises(StackError, match=message), closing(worker):
        worker.request({"op": "build"}, 1.0)


def test_a_worker_that_does_not_start_says_why(tmp_path: Path) -> None:
    worker = WorkerProcess({"op": "no such operation"}, {}, tmp_path / "errors")
    with pytest.raises(StackError, match="fails to start.*no such operation"):
        worker.request({"op": "build"}, 1.0)
    worker.close()


def test_a_workload_that_cannot_be_checked_is_one_message(tmp_path: Path) -> None:
    load = {"op": "load", "workload": {"name": "no such kernel", "shape": {}}, "target": target(), "rpc": None}
    worker = WorkerProcess(load, {}, tmp_path / "errors")
    with pytest.raises(ConfigError, match="^workload.name=no such kernel is unknown"):
        worker.request({"op": "build"}, 1.0)
    worker.close()


@pytest.mark.skipif(sys.platform != "linux", reason="Linux chooses by a score")
def test_when_memory_runs_out_a_worker_dies_before_the_search(measurer: LocalMeasurer) -> None:
    measure(measurer, scaled(1.0))
    workers = [w._process.pid for w in measurer._workers if w._process is not None]
    scores = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in workers]
    assert scores == [1000] * len(workers) and workers


def test_building_goes_on_while_running_waits_off_the_cpu(measurer: LocalMeasurer) -> None:
    measurer._overlap = True
    results = measure(measurer, *(scaled(f) for f in (1.0, 1.01, 1.0, 1.01, 1.0)))
    assert [m.error for m in results] == [None, "wrong_result", None, "wrong_result", None]


SCRIPT = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may start without it
from tests.measurement.test_measurer import LocalMeasurer, SETTINGS, endless, scaled, target, workload
local = LocalMeasurer(workload(), target(), SETTINGS)
try:
    print(local._scratch, [m.error for m in local.measure([scaled(1.0)], None)], flush=True)
    print([m.error for m in local.measure([endless()], None)])
finally:
    local.close()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(how: signal.Signals) -> None:
    """No process or file remains, after Ctrl-C to the whole group or kill -9 of the parent alone."""
    parent = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert parent.stdout is not None
    scratch = parent.stdout.readline().split()[0]
    assert Path(scratch).is_dir()
    time.sleep(0.5)  # into the endless kernel
    family = psutil.Process(parent.pid).children(recursive=True)
    assert len(family) >= 2
    if how is signal.SIGINT:
        os.killpg(parent.pid, how)
    else:
        parent.kill()
    parent.wait()
    parent.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert not Path(scratch).exists()
