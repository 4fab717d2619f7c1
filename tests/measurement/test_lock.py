"""Two processes never hold a device at once, and no lock file remains."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement import lock
from colt_pipeline.measurement.devices import Device
from colt_pipeline.measurement.lock import batch_lock, device_lock
from tests.support import ROOT

pytestmark = pytest.mark.tvm

HOLD = """
import sys, time
from pathlib import Path
from colt_pipeline.errors import DeviceError
from colt_pipeline.measurement import lock
lock._LOCKS = (Path(sys.argv[1]),)
for _ in range(20):
    with lock.device_lock("bench"):
        begin = time.monotonic()
        time.sleep(0.005)
        print(begin, time.monotonic())
"""


def test_holders_take_turns_and_leave_nothing(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    held = []
    for process in processes:
        output, _ = process.communicate()
        assert process.returncode == 0
        held += [tuple(map(float, line.split())) for line in output.splitlines()]
    held.sort()
    assert len(held) == 60
    assert all(end <= begin for (_, end), (begin, _) in zip(held, held[1:], strict=False))
    assert not list(tmp_path.iterdir())


def test_devices_do_not_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_LOCKS", (tmp_path,))
    with device_lock("a"), device_lock("b"):
        assert len(list(tmp_path.iterdir())) == 2


def test_without_a_system_directory_the_temporary_one_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_LOCKS", (tmp_path / "absent", tmp_path))
    with device_lock("a"):
        assert [p.name for p in tmp_path.iterdir()] == ["colt-a.lock"]
    assert not list(tmp_path.iterdir())


def test_no_place_for_locks_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_LOCKS", (tmp_path / "absent",))
    with pytest.raises(DeviceError, match="cannot lock the device with .*absent/colt-a.lock"), device_lock("a"):
        pass


def test_a_batch_holds_a_cpu_but_leaves_a_gpu_to_its_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_LOCKS", (tmp_path,))
    with batch_lock(Device({"cpu": "A"})):
        assert [p.name for p in tmp_path.iterdir()] == ["colt-cpu.lock"]
    with batch_lock(Device({"kind": "gpu", "gpu": "H", "arch": "sm_90"})):
        assert not list(tmp_path.iterdir())
