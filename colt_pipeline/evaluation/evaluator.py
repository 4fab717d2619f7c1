"""Measures each program once: the run's ledger first, then the device's shared ledger, then the device."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tvm

from colt_pipeline.errors import ReplayMissError, StackError
from colt_pipeline.evaluation.ledger import Header, Ledger
from colt_pipeline.evaluation.measure import Measurer
from colt_pipeline.events import Sample
from colt_pipeline.records import Measurement, digest
from colt_pipeline.space import Program
from colt_pipeline.workloads import Workload


class Evaluator:
    """The run's ledger in front of a measurer that is only made when something must be measured.

    Programs that another run on this device has measured under the same header are copied from the shared ledger, so
    that equal programs have equal latencies in all runs that are compared.
    """

    def __init__(
        self,
        workload: Workload,
        ledger: Ledger,
        header: Header,
        connect: Callable[[], Measurer] | None,
        device_directory: Path,
        anew: bool,
    ) -> None:
        """`connect` makes the measurer, None in a replay; `device_directory`: recordings of this device.

        `anew`: measure what this run has not measured itself, whatever other runs have.
        """
        self._workload = workload
        self._ledger = ledger
        self._header = header
        self._connect = connect
        self._device_directory = device_directory
        self._anew = anew
        self._measurer: Measurer | None = None
        self.measured = 0
        """Programs measured live by this object."""

    def baseline_secs(self) -> float:
        """Median latency of the unoptimized program.

        Raises:
            ReplayMissError: a replay without a recorded baseline.
            StackError: the unoptimized program does not run here.
        """
        baseline = self._lookup(self._workload.hash, self._workload.module, keep_error=False)
        if baseline.latency_secs is None:
            raise StackError(f"the unoptimized {self._workload.name} fails: {baseline.error} ({baseline.detail})")
        return baseline.latency_secs

    def measure(self, programs: Sequence[Program]) -> list[Sample]:
        """One Sample per program, in order; what was never measured on this device is measured and recorded.

        Raises:
            ReplayMissError: a replay met a program that was not recorded.
        """
        found = [(p.key, self._lookup(p.key, p.schedule.mod)) for p in programs]
        return [Sample(key, measurement.latency_secs, measurement.error) for key, measurement in found]

    def _lookup(self, key: str, module: tvm.IRModule, keep_error: bool = True) -> Measurement:
        recorded = self._ledger.get(key)
        if recorded is not None:
            return recorded
        if self._connect is None:
            raise ReplayMissError(
                f"replay of {self._ledger.path}: program {key[:12]} was not measured in the recording; "
                "the code, the configuration or a package differs from the recorded run. "
                "Use record=missing to measure it here."
            )
        measurement = self._shared(key, module)
        if keep_error or measurement.error is None:  # a failed baseline is tried again, or the run could never go on
            self._ledger.put(key, measurement)
        return measurement

    def _shared(self, key: str, module: tvm.IRModule) -> Measurement:
        """From the device's shared ledger, or measured now and put there unless it failed."""
        name = f"{self._workload.name}-{digest(dict(self._header))[:12]}.jsonl"
        with self._device_lock():
            shared = Ledger(self._device_directory / "shared" / name, self._header, replay=False)
            try:
                known = None if self._anew else shared.get(key)
                if known is None:
                    known = self._live().measure([module])[0]
                    if known.error is None:
                        shared.put(key, known)
                return known
            finally:
                shared.close()

    @contextmanager
    def _device_lock(self) -> Iterator[None]:
        """Two processes never measure on one device at once: they queue."""
        directory = self._device_directory / "shared"
        directory.mkdir(parents=True, exist_ok=True)
        with (directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _live(self) -> Measurer:
        if self._measurer is None:
            assert self._connect is not None
            self._measurer = self._connect()
        self.measured += 1
        return self._measurer

    def close(self) -> None:
        """End the measurer's processes."""
        if self._measurer is not None:
            self._measurer.close()
