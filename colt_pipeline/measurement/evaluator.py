"""Measures each program once, looking first in the run's ledger, then in the device's shared ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import tvm

from colt_pipeline.errors import DeviceError, ReplayMissError
from colt_pipeline.measurement.devices import Device
from colt_pipeline.measurement.ledger import RUNNER, Header, Ledger
from colt_pipeline.measurement.lock import batch_lock, device_lock
from colt_pipeline.measurement.measurer import Measurer
from colt_pipeline.records import Measurement
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.layout import SHARED
from colt_pipeline.serialization import digest
from colt_pipeline.space import Program
from colt_pipeline.workloads.workload import Workload

Modules = dict[str, tvm.IRModule]
"""Program key -> scheduled module."""

_CERTAINLY = 1.5
"""A latency that was cut short is certainly not the best if it is this many times as long: first warm runs are long."""

Reuse = Literal["any_run", "this_run"]
"""Which measurements on this device may be reused: those of all runs, or only this run's own."""


class Evaluator:
    """The run's ledger in front of a measurer that is created only when something has to be measured.

    Programs that another run has measured on this device under the same header are copied from the shared ledger, so
    that equal programs have equal latencies in all runs being compared. What another runner than this package's workers
    measured is not shared, because its settings are unknown.
    """

    def __init__(
        self,
        workload: Workload,
        ledger: Ledger,
        header: Header,
        make_measurer: Callable[[], Measurer] | None,
        device_directory: Path,
        reuse: Reuse,
    ) -> None:
        """Put a ledger in front of a measurer.

        Args:
            workload: what is tuned.
            ledger: the run's ledger.
            header: what latencies depend on besides the program.
            make_measurer: None in a replay.
            device_directory: recordings of this device.
            reuse: which measurements may be reused.
        """
        self._workload = workload
        self.ledger = ledger
        """The run's own."""
        self.header = header
        """What latencies depend on besides the program."""
        self._make_measurer = make_measurer
        self._device_directory = device_directory
        self._reuse = reuse
        self._measurer: Measurer | None = None
        self.measured = 0
        """Programs measured live by this object."""
        self.intervals: list[tuple[float, float]] = []
        """When this object was using the device: begin and end in seconds since the epoch."""

    @property
    def live(self) -> bool:
        """Whether programs that are not recorded are measured."""
        return self._make_measurer is not None

    @property
    def timed_secs(self) -> float | None:
        """Total seconds of the timed runs of all samples, including shared ones; None if there are none."""
        return self.ledger.timed_secs(but=self._workload.hash)

    def baseline_secs(self, module: tvm.IRModule) -> float:
        """Median latency of the unoptimized program, which is `module` on this target.

        Raises:
            ReplayMissError: a replay without a recorded baseline.
            DeviceError: the unoptimized program does not run here.
        """
        for key, measurement in self._lacking({self._workload.hash: module}):
            # Not recorded, so that it is tried again; otherwise the run could never resume.
            if measurement.latency_secs is None:
                raise DeviceError(
                    f"the unoptimized {self._workload.name} failed: {measurement.error} ({measurement.detail})"
                )
            self.ledger.put(key, measurement)
        baseline = self.ledger.get(self._workload.hash)
        assert baseline is not None and baseline.latency_secs is not None
        return baseline.latency_secs

    def measure(self, programs: Sequence[Program]) -> list[Sample]:
        """One Sample per program, in order; programs not yet measured on this device are measured and recorded.

        Raises:
            ReplayMissError: a replay needs a program that was not recorded.
            DeviceError: the device was lost; the measurements so far are kept, in a race those of earlier batches.
        """
        for key, measurement in self._lacking({p.key: p.schedule.mod for p in programs}):
            self.ledger.put(key, measurement)
        found = [(p.key, self.ledger.get(p.key)) for p in programs]
        return [Sample(key, m.latency_secs, m.error) for key, m in found if m is not None]

    def remeasure(self, programs: Sequence[Program]) -> None:
        """Measure programs once more, in this order, each as its next round of the run's own ledger.

        Nothing is taken from other runs or shared with them, and none is cut short for being slow.

        Raises:
            DeviceError: the device was lost; the measurements so far are kept.
        """
        assert self._make_measurer is not None, "a replay measures nothing"
        with batch_lock(Device(self.header["device"])), self._timed(self._make_measurer) as measurer:
            results = measurer.measure([program.schedule.mod for program in programs], None)
            for program, measurement in zip(programs, results, strict=True):
                self.ledger.put(program.key, measurement)

    def _lacking(self, modules: Modules) -> Iterator[tuple[str, Measurement]]:
        """Measurements of the `modules` missing from the run's ledger, each as soon as it is known."""
        missing = {key: module for key, module in modules.items() if self.ledger.get(key) is None}
        if not missing:
            return
        if self._make_measurer is None:
            raise ReplayMissError(
                f"replay of {self.ledger.path}: program {next(iter(missing))[:12]} was not measured in the recording; "
                "the code, the configuration or a package differs from the recorded run. "
                "Use record=missing device=local to measure it on this machine; with stand_ins=false that also asks "
                "the models live, which costs money."
            )
        yield from self._through_shared(missing, self._make_measurer)

    def _through_shared(
        self, missing: Modules, make_measurer: Callable[[], Measurer]
    ) -> Iterator[tuple[str, Measurement]]:
        """Take measurements from the device's shared ledger, or measure now and add the successful ones to it."""
        with batch_lock(Device(self.header["device"])):
            found = self._found(missing)
            known = {key: m for key, m in found.items() if self._serves(m)}
            yield from known.items()
            new = {key: module for key, module in missing.items() if key not in known}
            if not new:
                return
            with self._timed(make_measurer) as measurer:
                results = measurer.measure(list(new.values()), self.ledger.best_secs)
                for key, measurement in zip(new, results, strict=True):
                    self.measured += 1
                    yield key, self._published(key, measurement, found.get(key))

    @contextmanager
    def _timed(self, make_measurer: Callable[[], Measurer]) -> Iterator[Measurer]:
        """The measurer, whose use of the device is noted."""
        begin = time.time()
        try:
            if self._measurer is None:
                self._measurer = make_measurer()
            yield self._measurer
        finally:
            self.intervals.append((begin, time.time()))

    def _found(self, keys: Iterable[str]) -> dict[str, Measurement]:
        """What the shared ledger holds of these programs."""
        if not self._shares:
            return {}
        with self._shared() as shared:
            return {key: m for key in keys if (m := shared.latest(key)) is not None}

    @property
    def _shares(self) -> bool:
        return RUNNER not in self.header["evaluator"]

    @contextmanager
    def _shared(self) -> Iterator[Ledger]:
        """The ledger of all runs on this device with this header, while no other process uses it."""
        name = f"{self._workload.name}-{digest(dict(self.header))[:12]}"
        path = self._device_directory / SHARED / f"{name}.jsonl"
        with device_lock(f"ledger-{name}"), closing(Ledger(path, self.header, "append")) as shared:
            yield shared

    def _published(self, key: str, measurement: Measurement, before: Measurement | None) -> Measurement:
        """A new measurement after adding it to the shared ledger, or what another process has added meanwhile.

        What was there `before` did not serve, and must not replace the new one because the best has improved since.
        """
        if measurement.error is not None or not self._shares:
            return measurement
        with self._shared() as shared:
            first = shared.latest(key)
            if first is not None and first != before and self._serves(first):
                return first
            shared.put(key, measurement)
        return measurement

    def _serves(self, measurement: Measurement) -> bool:
        """Whether another run's measurement may be reused: not if it was cut short but could be the best here."""
        if self._reuse == "this_run":
            return False
        best, latency = self.ledger.best_secs, measurement.latency_secs
        whole = measurement.stop != "slower"
        return whole or (best is not None and latency is not None and latency > _CERTAINLY * best)

    def rest(self) -> None:
        """Stop the measurer's processes until something has to be measured again."""
        if self._measurer is not None:
            self._measurer.close()
            self._measurer = None

    def close(self) -> None:
        """Stop the measurer's processes."""
        self.rest()
