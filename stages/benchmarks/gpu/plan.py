"""What one GPU check covers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from colt_pipeline.config.compose import runs
from colt_pipeline.config.schema import TVM_SPACE, Config
from colt_pipeline.job import read_summary
from colt_pipeline.stack import usable_cores
from colt_pipeline.workloads import PAPER


@dataclass(frozen=True)
class Plan:
    """The settings of a check, from its command line."""

    out: Path
    """Directory of its tables."""
    results: Path
    """Directory of recordings and runs."""
    dry: bool
    """Whether latencies are computed instead of measured."""
    deadline: float
    """`time.monotonic` after which no batch begins."""
    workloads: Sequence[str] = PAPER
    experiments: Sequence[str] = ("gpu_searches", "gpu_measured")
    samples: int | None = None
    """Per search; None = as its experiment says."""
    space: str = TVM_SPACE.name
    """The design space of all searches, and of what is compiled."""

    @property
    def latencies(self) -> str:
        """Where latencies come from, for tables."""
        return "estimated" if self.dry else "measured"

    @property
    def device(self) -> str:
        return "estimate" if self.dry else "local"

    @property
    def processes(self) -> int:
        """Searches side by side: each takes one core, besides what its builds take."""
        return min(usable_cores(), len(self.configs))

    @cached_property
    def configs(self) -> list[Config]:
        """The runs, the longest searches first."""
        return self._runs("record=missing")

    @cached_property
    def recorded(self) -> list[Config]:
        """The same runs where they are recorded, which needs no device."""
        return [config for config in self._runs("record=replay") if read_summary(config) is not None]

    def _runs(self, record: str) -> list[Config]:
        common = [f"workload={','.join(self.workloads)}", f"device={self.device}"]
        common += [] if self.samples is None else [f"samples={self.samples}"]
        common += [f"results={self.results}", f"space={self.space}", record]
        return [config for experiment in self.experiments for config in runs([f"experiment={experiment}", *common])]

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline
