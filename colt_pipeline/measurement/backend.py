"""Where a run's latencies come from: this machine, an RPC server, a formula, or only the run's recording."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tvm

from colt_pipeline.config.schema import Config, MeasureConfig
from colt_pipeline.errors import ConfigError, DeviceError, RecordingError
from colt_pipeline.measurement import remote
from colt_pipeline.measurement.bench import TVM_ERRORS, last_line
from colt_pipeline.measurement.cuda import compilable_cuda_target, cuda_target
from colt_pipeline.measurement.devices import Device, cpu_target, estimated_gpu, host_cpu, rpc_device
from colt_pipeline.measurement.estimate import estimate_secs
from colt_pipeline.measurement.gpu import builders_that_fit, host_gpu
from colt_pipeline.measurement.ledger import EXPERIENCE, RUNNER, SCHEMA, read_header
from colt_pipeline.measurement.measurer import LocalMeasurer, Measurer
from colt_pipeline.records import Measurement, MeasurementKind
from colt_pipeline.runs.layout import MEASUREMENTS, recordings_in, recordings_of
from colt_pipeline.serialization import written
from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.workload import Workload

_log = logging.getLogger(__name__)
_ESTIMATE = 2
"""Version of the formula in estimate.py; each version counts as a device of its own."""
_LOOK_SECS = 60.0
"""Session length for querying an RPC server's properties."""
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Backend:
    """One source of latencies."""

    device: Device
    target: dict[str, Any]
    """TVM's target dict."""
    measurement: MeasurementKind
    make_measurer: Callable[[Workload], Measurer]
    races: bool = False
    """Whether it measures batches as races, if ``measure.racing`` says so."""

    def header(self, workload: Workload, settings: MeasureConfig) -> dict[str, Any]:
        """The first line of this backend's ledgers: everything besides the program that a latency depends on."""
        return {
            "schema": SCHEMA,
            "workload": workload.name,
            "workload_hash": workload.hash,
            "target": self.target,
            "device": self.device.facts,
            "evaluator": _evaluator(settings if self.races else replace(settings, racing=0.0)),
            "measurement": self.measurement,
        }


def _evaluator(settings: MeasureConfig) -> dict[str, Any]:
    """How a program is built and timed; of another runner than this package's workers only its name is known."""
    if settings.runner:
        return {RUNNER: settings.runner}
    return {k: v for k, v in written(settings).items() if k not in ("builders", "confirm", "cold_runs")}


@dataclass(frozen=True)
class Recording:
    """The directory of one run's external inputs, and the backend that adds to it."""

    directory: Path
    header: dict[str, Any]
    """What latencies depend on besides the program."""
    backend: Backend | None
    """None if the recording is only replayed."""
    description: str
    """Where latencies come from, in words for the user."""
    experience: str | None = None
    """Digest of what the cost model is trained on before the run; None if it starts from nothing."""

    @property
    def ledger_header(self) -> dict[str, Any]:
        """The first line of its ledger."""
        return self.header | ({EXPERIENCE: self.experience} if self.experience else {})


class Estimator:
    """A Measurer that computes latencies instead of measuring them."""

    def __init__(self, config: Config, target: dict[str, Any]) -> None:
        assert config.target.gpu is not None
        self._gpu = config.target.gpu
        self._target = tvm.target.Target(target)

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        for module in modules:
            try:
                yield Measurement((estimate_secs(module, self._target, self._gpu),))
            except TVM_ERRORS as error:
                yield Measurement(error="run_error", detail=last_line(error))

    def close(self) -> None:
        pass


def local(config: Config) -> Backend:
    """This machine's CPU or CUDA GPU.

    Raises:
        DeviceError: the target is CUDA, but there is no CUDA GPU, or something that measuring on it needs is missing.
        ConfigError: unknown architecture, too many cores, or too many builders for the GPU's memory.
    """
    settings = config.measure
    if config.target.kind == "cuda":
        device = host_gpu(config.target.arch)
        target = compilable_cuda_target(device.facts["arch"])
        settings = replace(settings, builders=builders_that_fit(data_bytes(config), settings.builders))
    else:
        device = host_cpu(config.target.cores)
        target = cpu_target(device.facts["threads"], config.target.mcpu or device.facts["mcpu"])
    races = config.target.kind != "cuda"
    return Backend(device, target, "measured", lambda workload: LocalMeasurer(workload, target, settings), races)


def data_bytes(config: Config) -> int:
    """What one kernel of a run holds on a GPU: its tensors, and what flushes the cache."""
    tuned = build(**vars(config.workload))
    return tuned.compulsory_bytes + (config.measure.cache_flush_mib << 20)


def rpc(config: Config) -> Backend:
    """The servers of an RPC tracker.

    Raises:
        DeviceError: no tracker is configured, none answers, or its server has no GPU for a CUDA target.
    """
    if not config.rpc.key:
        raise DeviceError("no RPC tracker is configured (rpc.key is empty)")
    if config.rpc.host not in _LOOPBACK:
        _log.warning(
            "rpc.host=%s: TVM's RPC has no authentication; anyone who can reach it can run code there",
            config.rpc.host,
        )
    server = remote.server_facts(config.target.kind, remote.request(config.rpc, _LOOK_SECS))
    device = rpc_device(config.rpc, config.target, server)
    arch = device.facts["arch"]
    on_gpu = config.target.kind == "cuda"
    target = compilable_cuda_target(arch) if on_gpu else cpu_target(device.facts["threads"], arch)
    return Backend(
        device, target, "measured", lambda workload: LocalMeasurer(workload, target, config.measure, config.rpc, server)
    )


def estimate(config: Config) -> Backend:
    """A roofline model based on the GPU's data sheet.

    Raises:
        DeviceError: the target has no data sheet.
    """
    gpu = config.target.gpu
    if gpu is None:
        raise DeviceError(f"estimates need a GPU's data sheet, but target={config.target.name} has none (gpu)")
    device = estimated_gpu(gpu, config.target.arch, _ESTIMATE)
    target = cuda_target(device.facts["arch"])
    return Backend(device, target, "estimated", lambda _: Estimator(config, target))


BACKENDS: dict[str, Callable[[Config], Backend]] = {"local": local, "rpc": rpc, "estimate": estimate}
"""``device=`` -> backend, in the order that ``device=auto`` tries."""


def choose(config: Config, recorded: Collection[str]) -> tuple[str, Backend, str]:
    """Choose the backend of a run.

    With ``device=auto`` this is the first available one, preferably one whose slug is in `recorded`. Backends after the
    chosen one are not tried, because waiting for a tracker takes time.

    Returns:
        The backend's name, the backend, and why the ones before it are unavailable.

    Raises:
        DeviceError: no backend is available.
        ConfigError: unknown device, or a target that the device does not support.
    """
    if config.device != "auto":
        return config.device, _named(config), ""
    found: list[tuple[str, Backend, str]] = []
    reasons: list[str] = []
    for name, make_backend in BACKENDS.items():
        try:
            backend = make_backend(config)
        except DeviceError as error:
            reasons.append(str(error))
            continue
        found.append((name, backend, "" if found else "; ".join(reasons)))
        if not recorded or backend.device.slug in recorded:
            return found[-1]
    if not found:
        raise DeviceError(f"no device here provides latencies for target={config.target.name}: {'; '.join(reasons)}")
    return found[0]


def _named(config: Config) -> Backend:
    if config.device not in BACKENDS:
        raise ConfigError(f"device={config.device} is unknown; choose one of: auto, {', '.join(BACKENDS)}")
    try:
        return BACKENDS[config.device](config)
    except DeviceError as error:
        others = ", ".join(name for name in BACKENDS if name != config.device)
        raise DeviceError(f"device={config.device}: {error}. Other devices: auto, {others}") from error


def find_recording(config: Config, workload: Workload, experience: str | None = None) -> Recording:
    """The run's recording: the existing one, or the one that the first available backend would make.

    Args:
        config: the run.
        workload: what it tunes.
        experience: see `Recording`.

    Raises:
        RecordingError: a replay without exactly one recording, or a recording of another workload or experience.
        DeviceError, ConfigError: no device provides latencies for the target.
    """
    found = replace(_found(config, workload), experience=experience)
    if config.record.mode != "all":
        _same_experience(config, found)
    return found


def _same_experience(config: Config, recording: Recording) -> None:
    """Check that a recording began with the same experience; the first recordings do not say with which."""
    path = recording.directory / MEASUREMENTS
    there, here = (read_header(path) or {}).get(EXPERIENCE), recording.experience
    if there not in (None, here):
        now = f"pretraining={config.pretraining} contains {here[:12]}" if here else "this run starts from nothing"
        raise RecordingError(
            f"{path}: the run started from the experience {there[:12]} (as its cost model does), but {now}, so "
            "it would be a different search. Name the directory that it started from with pretraining=DIR, or restore "
            "its files; for a new search choose another name with run=NAME."
        )


def _found(config: Config, workload: Workload) -> Recording:
    recorded = _recorded(config, workload)
    if config.record.mode == "replay":
        if len(recorded) != 1:
            raise RecordingError(
                f"replay of {config.experiment}/{config.run} needs its recording from exactly one device below "
                f"{recordings_in(config.results)}; found: {', '.join(recorded) or 'none'}. "
                "Name the directory that has it with results=DIR, or remove all but one; record=missing records it "
                "anew, and with stand_ins=false that asks the models live, which costs money."
            )
        return _replayed(config, *recorded.popitem())
    fresh = config.record.mode == "all"
    try:
        name, backend, absent = choose(config, () if fresh else recorded)
    except (DeviceError, ConfigError):
        if config.device != "auto" or fresh or len(recorded) != 1:
            raise
        return _replayed(config, *recorded.popitem())
    if config.device == "auto" and not fresh and len(recorded) == 1 and backend.device.slug not in recorded:
        return _replayed(config, *recorded.popitem())
    slug, header = backend.device.slug, backend.header(workload, config.measure)
    description = f"device={name}: {slug}, latencies {backend.measurement}" + (f" ({absent})" if absent else "")
    return Recording(_directory(config, slug), header, backend, description)


def _replayed(config: Config, slug: str, header: dict[str, Any]) -> Recording:
    description = f"recorded ledger of {slug}, latencies {header['measurement']}; nothing is measured"
    return Recording(_directory(config, slug), header, None, description)


def _directory(config: Config, slug: str) -> Path:
    return recordings_in(config.results) / slug / config.experiment / config.run


def _recorded(config: Config, workload: Workload) -> dict[str, dict[str, Any]]:
    """Device slug -> header of each recording of this run.

    Raises:
        RecordingError: a recording is of another workload or shape, or a replay finds no recordings at all.
    """
    recordings = recordings_in(config.results)
    if config.record.mode == "replay" and not recordings.is_dir():
        raise RecordingError(f"there is no recordings directory {recordings}; check results={config.results}")
    found = {}
    for path in recordings_of(config.results, config.experiment, config.run):
        header = read_header(path)
        if header is None:
            continue  # killed before it wrote the header
        if (slug := Device.recorded(header["device"], path).slug) != path.relative_to(recordings).parts[0]:
            raise RecordingError(
                f"{path} is a recording of {slug}, but lies in the directory of another device; restore it"
            )
        if header["workload_hash"] != workload.hash:
            raise RecordingError(
                f"{path} is a recording of {header['workload']} {header['workload_hash'][:12]}, but this run tunes "
                f"{workload.name} {workload.hash[:12]}. Choose another name for it with run=NAME."
            )
        found[slug] = {name: value for name, value in header.items() if name != EXPERIENCE}
    return found
