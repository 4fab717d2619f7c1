"""A Measurer without a device: it waits for TVM to deliver what TVM measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import tvm
from tvm_ffi import structural_hash

from colt_pipeline.records import Measurement


class Awaiting(Exception):
    """The search needs measurements that TVM has not made yet; no error."""

    def __init__(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> None:
        super().__init__()
        self.modules = modules
        self.best_secs = best_secs
        """The best latency so far."""


class Door:
    """Interrupts the search when it wants to measure, and lets it through when the results are there.

    What a search does next depends on its state alone, so it simply repeats the interrupted step.
    """

    def __init__(self) -> None:
        self._delivered: dict[int, Measurement] = {}

    def deliver(self, module: tvm.IRModule, measurement: Measurement) -> None:
        """Keep a measurement until the search asks for it."""
        self._delivered[structural_hash(module)] = measurement

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        """See Measurer.

        Raises:
            Awaiting: a measurement was not delivered.
        """
        hashes = [structural_hash(module) for module in modules]
        if any(known not in self._delivered for known in hashes):
            raise Awaiting(modules, best_secs)
        for known in hashes:
            yield self._delivered.pop(known)

    def close(self) -> None:
        """Nothing to stop."""
