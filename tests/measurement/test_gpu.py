"""What measuring on a CUDA GPU needs, checked with a fake driver: one message for each thing that is missing."""

from __future__ import annotations

import ctypes
import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tvm
import tvm_ffi

from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.measurement import backend as backends
from colt_pipeline.measurement import gpu, gpu_probe
from colt_pipeline.measurement.cuda import cuda_target
from colt_pipeline.measurement.gpu_probe import Facts
from tests.support import Compose

pytestmark = pytest.mark.tvm

H100 = Facts("NVIDIA H100", "sm_90", 132, 1980000, total_bytes=80 << 30, free_bytes=79 << 30, cuda=13000)


class Driver:
    """libcuda.so.1, as far as the probe asks it."""

    def __init__(self, status: int = 0, gpus: int = 1) -> None:
        self._status, self._gpus = status, gpus

    def cuInit(self, flags: int) -> int:
        return self._status

    def cuGetErrorName(self, status: int, name: Any) -> int:
        name._obj.value = b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self._gpus
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        return 0

    def cuDeviceGetName(self, buffer: Any, size: int, device: int) -> int:
        buffer.value = H100.name.encode()
        return 0

    def cuDeviceGetPCIBusId(self, buffer: Any, size: int, device: int) -> int:
        buffer.value = b"0000:01:00.0"
        return 0

    def cuDeviceGetAttribute(self, value: Any, key: int, device: int) -> int:
        value._obj.value = {13: 1980000, 16: 132, 75: 9, 76: 0}[key]
        return 0

    def cuDeviceTotalMem_v2(self, size: Any, device: int) -> int:
        size._obj.value = H100.total_bytes
        return 0

    def cuDriverGetVersion(self, cuda: Any) -> int:
        cuda._obj.value = 13000
        return 0


class Management:
    """libnvidia-ml.so.1."""

    def nvmlInit_v2(self) -> int:
        return 0

    def nvmlDeviceGetHandleByPciBusId_v2(self, bus: bytes, handle: Any) -> int:
        return 0 if bus == b"0000:01:00.0" else 1

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.free = H100.free_bytes
        return 0


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let the dynamic linker find only these; the result collects what is loaded."""

    def only(**found: Any) -> list[str]:
        loaded: list[str] = []

        def load(name: str, mode: int = ctypes.DEFAULT_MODE) -> Any:
            library = found.get(Path(name).name.partition(".")[0] if "/" not in name else name)
            if library is None:
                raise OSError(f"{name}: cannot open shared object file: No such file or directory")
            loaded.append(name)
            return library

        monkeypatch.setattr(ctypes, "CDLL", load)
        return loaded

    return only


def runtime(cuda: int = 13000) -> Any:
    def version(number: Any) -> int:
        number._obj.value = cuda
        return 0

    return SimpleNamespace(cudaRuntimeGetVersion=version)


def test_the_driver_describes_the_first_gpu(libraries: Callable[..., list[str]]) -> None:
    libraries(**{"libcuda": Driver(), "libnvidia-ml": Management()})
    assert gpu_probe.facts() == H100
    libraries(libcuda=Driver())
    assert gpu_probe.facts() == replace(H100, free_bytes=H100.total_bytes)


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        (None, "this machine has no CUDA GPU: its driver, libcuda.so.1, is not installed"),
        (Driver(status=803), "does not start: cuInit gave error 803 .CUDA_ERROR_SYSTEM_DRIVER_MISMATCH.; see nvidia"),
        (Driver(status=100), "finds no GPU; see nvidia-smi; CUDA_VISIBLE_DEVICES=7 may hide it"),
        (Driver(gpus=0), "finds no GPU; see nvidia-smi; CUDA_VISIBLE_DEVICES=7 may hide it"),
    ],
)
def test_a_driver_that_is_of_no_use_is_described(
    libraries: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, driver: Driver | None, message: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    libraries(libcuda=driver)
    with pytest.raises(DeviceError, match=message):
        gpu_probe.facts()


@pytest.mark.parametrize(
    ("status", "stdout", "stderr", "message"),
    [
        (0, '{"fatal": "this machine has no CUDA GPU"}', "", "^this machine has no CUDA GPU$"),
        (1, "", "Traceback\nImportError: odd", "asking .* failed: ImportError: odd; see nvidia-smi"),
        (-11, "", "", "asking .* failed: exit status -11; see nvidia-smi"),
    ],
)
def test_what_the_probe_says_is_passed_on(
    monkeypatch: pytest.MonkeyPatch, status: int, stdout: str, stderr: str, message: str
) -> None:
    gpu.driver_facts.cache_clear()
    done = subprocess.CompletedProcess([], status, stdout, stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(DeviceError, match=message):
        gpu.driver_facts()


def test_a_driver_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    gpu.driver_facts.cache_clear()
    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(DeviceError, match="gave no answer in 60 s"):
        gpu.driver_facts()


def test_the_probe_is_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.driver_facts.cache_clear()
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps(asdict(H100)), "")

    monkeypatch.setattr(subprocess, "run", run)
    assert gpu.driver_facts() == gpu.driver_facts() == H100
    assert [command[1:] for command in commands] == [["-m", "colt_pipeline.measurement.gpu_probe"]]
    gpu.driver_facts.cache_clear()


@pytest.fixture
def not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """TVM's part for CUDA was not loaded with it."""
    monkeypatch.setattr(tvm_ffi, "get_global_func", lambda *_, **__: None)


@pytest.mark.usefixtures("not_loaded")
def test_a_runtime_in_a_python_package_is_found(
    libraries: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "nvidia" / "cu13" / "lib" / "libcudart.so.13"
    package.parent.mkdir(parents=True)
    package.touch()
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path / "nvidia")])
    monkeypatch.setattr(gpu, "find_spec", lambda name: spec)
    part = str(Path(tvm.__file__).parent / "lib" / "libtvm_runtime_cuda.so")
    loaded = libraries(libcuda=Driver(), **{str(package): runtime(), part: object()})
    gpu.load_runtime()
    assert loaded == ["libcuda.so.1", str(package), part]  # TVM's part needs the two


@pytest.mark.usefixtures("not_loaded")
@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "driver cannot be loaded .libcuda.so.1 was not found"),
        ({"libcuda": Driver()}, "driver is installed, but TVM finds no CUDA runtime .libcudart.so.13.; pip install nv"),
        ({"libcuda": Driver(), "libcudart": runtime()}, "apache-tvm cannot use CUDA GPUs: libtvm_runtime_cuda.so: can"),
    ],
)
def test_a_missing_library_is_named(
    libraries: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    libraries(**found)
    with pytest.raises(DeviceError, match=message):
        gpu.load_runtime()


@pytest.fixture
def with_h100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "driver_facts", lambda: H100)
    monkeypatch.setattr(gpu, "load_runtime", lambda: None)


@pytest.mark.usefixtures("with_h100")
@pytest.mark.parametrize("arch", ["", "sm_90", "sm_90a"])
def test_the_gpu_is_a_device(libraries: Callable[..., list[str]], arch: str) -> None:
    libraries(libcudart=runtime(13050))  # a newer minor version than the driver's runs
    device = gpu.host_gpu(arch)
    assert device.facts | {"tvm": ""} == {
        "kind": "gpu",
        "gpu": "NVIDIA H100",
        "arch": arch or "sm_90",
        "multiprocessors": 132,
        "clock_khz": 1980000,
        "tvm": "",
    }
    assert device.slug.startswith("nvidia-h100-sm-90")


@pytest.mark.usefixtures("with_h100")
def test_a_driver_older_than_the_runtime_is_named(
    libraries: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "driver_facts", lambda: replace(H100, cuda=12080))
    libraries(libcudart=runtime(13050))
    with pytest.raises(DeviceError, match="driver supports CUDA 12.8, but TVM's CUDA runtime is 13.5; update NVIDIA's"):
        gpu.host_gpu("")


@pytest.mark.usefixtures("with_h100")
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_100", "sm_100a", "sm_89"])
def test_code_for_another_architecture_does_not_run(libraries: Callable[..., list[str]], arch: str) -> None:
    libraries(libcudart=runtime())
    with pytest.raises(ConfigError, match=f"target.arch={arch} does not run on this machine's NVIDIA H100 .sm_90.; le"):
        gpu.host_gpu(arch)


def test_code_runs_on_later_minor_versions() -> None:
    assert gpu._runs("sm_80", "sm_86") and gpu._runs("sm_120", "sm_121") and gpu._runs("sm_100f", "sm_103")
    assert not gpu._runs("sm_86", "sm_80") and not gpu._runs("sm_100a", "sm_103")


def test_builders_fit_into_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "usable_cores", lambda: 8)
    monkeypatch.setattr(gpu, "driver_facts", lambda: replace(H100, free_bytes=10 << 30))
    data = 512 << 20  # with a context, 1 GiB each
    assert gpu.builders_that_fit(data, 0) == 0  # one per core
    assert gpu.builders_that_fit(data, 10) == 10
    assert gpu.builders_that_fit(3 * data, 0) == 5
    with pytest.raises(ConfigError, match="measure.builders=11 do not fit: each needs 1024 MiB .* measure.builders=10"):
        gpu.builders_that_fit(data, 11)
    with pytest.raises(
        DeviceError, match="no kernel of this workload fits: each needs 10752 MiB .* 10240 of 81920 MiB"
    ):
        gpu.builders_that_fit(20 * data, 0)


@pytest.mark.usefixtures("with_h100")
def test_the_local_gpu_is_checked_for_the_workload(
    composed: Compose, libraries: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def fit(data_bytes: int, builders: int) -> int:
        asked.append((data_bytes, builders))
        return 2

    libraries(libcudart=runtime())
    monkeypatch.setattr(backends, "builders_that_fit", fit)
    monkeypatch.setattr(backends, "compilable_cuda_target", cuda_target)
    monkeypatch.setattr(backends, "LocalMeasurer", lambda workload, target, settings: (target["arch"], settings))
    made: Any = backends.local(composed("target=gpu", "measure.cache_flush_mib=1"))
    projection = 4 * (16 * 4096 + 4096 * 4096 + 16 * 4096)
    assert asked == [(projection + (1 << 20), 0)]
    arch, settings = made.make_measurer(None)
    assert (arch, settings.builders) == ("sm_90", 2)
