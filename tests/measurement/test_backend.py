"""Where latencies come from, for which target, and the message if there is no source."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tvm

from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.measurement import backend as backends
from colt_pipeline.measurement import devices
from colt_pipeline.measurement.backend import choose
from colt_pipeline.measurement.cuda import cuda_target
from colt_pipeline.measurement.devices import Device, cpu_target, describe, host_cpu
from colt_pipeline.workloads.catalogue import build
from tests.support import SMALL, Compose

pytestmark = pytest.mark.tvm

GPU = Device({"kind": "gpu", "gpu": "Some GPU", "arch": "sm_90", "tvm": "0"})


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(arch: str) -> Device:
        raise DeviceError("this machine has no CUDA GPU: its driver, libcuda.so.1, is not installed")

    monkeypatch.setattr(backends, "host_gpu", absent)


def test_a_cpu_is_detected_and_measured_here(composed: Compose) -> None:
    name, backend, absent = choose(composed(), ())
    assert (name, absent, backend.measurement) == ("local", "", "measured")
    facts = host_cpu().facts
    assert backend.target == {"kind": "llvm", "num-cores": facts["threads"], "mcpu": facts["mcpu"]}
    assert {"cpu", "cores", "threads", "governor", "mcpu", "tvm"} <= facts.keys()


def test_a_ledger_says_that_its_programs_raced(composed: Compose) -> None:
    workload = build("deepseek_r1_moe", SMALL["deepseek_r1_moe"])

    def evaluator(*overrides: str, races: bool = True) -> dict[str, Any]:
        config = composed(*overrides)
        backend = replace(choose(config, ())[1], races=races)
        found: dict[str, Any] = backend.header(workload, config.measure)["evaluator"]
        return found

    assert choose(composed(), ())[1].races
    assert evaluator()["racing"] == 3 and "racing" not in evaluator("measure=default")
    assert "racing" not in evaluator(races=False), "what is measured over RPC does not race"
    with_racing, without = evaluator(), evaluator("measure=default")
    assert {name for name in with_racing if with_racing[name] != without.get(name)} == {"racing", "max_repeats"}


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_auto_estimates_for_the_configured_one(composed: Compose) -> None:
    name, backend, absent = choose(composed("target=gpu"), ())
    assert (name, backend.measurement) == ("estimate", "estimated")
    assert backend.device.slug == "estimate-nvidia-geforce-rtx-2080-ti-sm-75"
    assert backend.target["arch"] == "sm_75"
    assert "no CUDA GPU" in absent and "no RPC tracker is configured" in absent


def test_a_gpu_at_hand_comes_first(composed: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "host_gpu", lambda arch: GPU)
    monkeypatch.setattr(backends, "compilable_cuda_target", cuda_target)
    monkeypatch.setattr(backends, "builders_that_fit", lambda data_bytes, builders: 3)
    name, backend, absent = choose(composed("target=gpu"), ())
    assert (name, backend.device.slug, backend.target["arch"], absent) == ("local", "some-gpu-sm-90", "sm_90", "")
    recorded = ["estimate-nvidia-geforce-rtx-2080-ti-sm-75"]
    assert choose(composed("target=gpu"), recorded)[0] == "estimate"  # the run resumes where it was recorded
    assert choose(composed("target=gpu"), ["some-other-gpu"])[0] == "local"


def test_a_tracker_is_left_alone_where_this_machine_will_do(composed: Compose) -> None:
    assert choose(composed("rpc.key=k", "rpc.port=1"), ())[0] == "local"  # nothing listens there


@pytest.mark.parametrize(("target", "arch"), [("rtx2080ti", "sm_75"), ("h100", "sm_90"), ("h200", "sm_90")])
def test_named_gpus_have_their_architecture(composed: Compose, target: str, arch: str) -> None:
    backend = choose(composed(f"target={target}", "device=estimate"), ())[1]
    assert backend.target["arch"] == arch and arch.replace("_", "-") in backend.device.slug
    tvm.target.Target(backend.target)  # TVM accepts it


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("target=gpu", "device=local"),
            "device=local: this machine has no CUDA GPU: .* Other devices: auto, rpc, est",
        ),
        (("target=cpu", "device=estimate"), "estimates need a GPU's data sheet, but target=cpu has none"),
        (("target=gpu", "device=rpc"), "no RPC tracker is configured"),
        (("target=gpu", "device=rpc", "rpc.key=k", "rpc.port=1"), "no RPC tracker answers at rpc.host=127.0.0.1 rpc.p"),
    ],
)
def test_a_device_that_is_not_there_is_named_with_the_way_out(
    composed: Compose, overrides: tuple[str, ...], message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        choose(composed(*overrides), ())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("device=fpga",), "device=fpga is unknown; choose one of: auto, local, rpc, estimate"),
        (("target.mcpu=z80",), "target.mcpu=z80 is unknown to LLVM"),
        (("target.cores=9999",), "target.cores=9999, but only"),
        (("target=gpu", "device=estimate", "target.arch=turing"), "target.arch=turing is not a CUDA architecture"),
    ],
)
def test_a_target_that_cannot_be_is_named(composed: Compose, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        choose(composed(*overrides), ())


def test_a_tracker_beyond_loopback_is_warned_about(
    composed: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = Device({"kind": "rpc", "key": "k", "arch": host_cpu().facts["mcpu"], "threads": 1, "tvm": "0"})
    monkeypatch.setattr("colt_pipeline.measurement.remote.request", lambda settings, secs: None)
    monkeypatch.setattr("colt_pipeline.measurement.remote.server_facts", lambda kind, session: {})
    monkeypatch.setattr(backends, "rpc_device", lambda *_: device)
    with caplog.at_level(logging.WARNING):
        choose(composed("device=rpc", "rpc.key=k", "rpc.host=192.0.2.1"), ())
    assert "no authentication" in caplog.text
    caplog.clear()
    choose(composed("device=rpc", "rpc.key=k"), ())
    assert not caplog.text


def test_the_governor_is_a_fact_where_it_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    governor = tmp_path / "scaling_governor"
    monkeypatch.setattr(devices, "_GOVERNOR", governor)
    assert host_cpu().facts["governor"] == "unreadable"
    governor.write_text("performance\n")
    assert host_cpu().facts["governor"] == "performance"


def test_one_device_has_one_lock_however_it_is_described() -> None:
    assert Device({**GPU.facts, "arch": "sm_75"}).lock == GPU.lock
    assert Device({**host_cpu().facts, "cores": 1}).lock == host_cpu().lock != GPU.lock


def test_targets_in_words() -> None:
    assert describe(cpu_target(2, "znver3"), {}) == "CPU through LLVM, mcpu znver3, 2 cores"
    words = describe(cuda_target("sm_90"), {"gpu": "NVIDIA H200"})
    assert words.startswith("GPU through CUDA, NVIDIA H200, sm_90") and "48 KiB" in words
