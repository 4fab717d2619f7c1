"""How close the best recorded schedules come to this machine's limits: a roofline per workload.

Limits and schedules are measured in turn within one run; only the schedules come from the recording. A kernel that
moves its inputs and its output once while computing at the peak takes the longer of the two times, and no kernel doing
this work takes less. A timed kernel runs repeatedly on the same data, so data that fit into the last-level cache are
read from there, and for them the limit is that cache's bandwidth.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from colt_pipeline.config.compose import composed
from colt_pipeline.measurement.lock import device_lock
from stages.benchmarks import Row, command_line, micro, names, positive, write_rows
from stages.benchmarks.recorded import best_schedules
from stages.benchmarks.rounds import medians, own_process

_MEMORY_MIB = 512
"""Far beyond any cache."""


@dataclass(frozen=True)
class Limits:
    """The peak performance of a machine."""

    flop_per_sec: float
    memory_bytes_per_sec: float
    cache_bytes_per_sec: float
    """Bandwidth of the last-level cache."""
    cache_bytes: int
    """Size of the last-level cache."""

    def roofline(self, flop: int, data_bytes: int) -> tuple[float, str]:
        """The minimum seconds for this much work and data, and the bottleneck: compute, memory or cache."""
        place, speed = ("memory", self.memory_bytes_per_sec)
        if data_bytes <= self.cache_bytes:
            place, speed = ("cache", self.cache_bytes_per_sec)
        return max((flop / self.flop_per_sec, "compute"), (data_bytes / speed, place))


def measured(target: Mapping[str, Any], lock: str) -> Limits:
    """This machine's limits, measured once while holding `lock`; for a process of its own."""
    settings, cache_mib = composed([]).measure, micro.last_level_cache_mib()
    with device_lock(lock):
        return Limits(
            flop_per_sec=micro.flop_per_sec(target, settings),
            memory_bytes_per_sec=micro.bytes_per_sec(target, _MEMORY_MIB, settings),
            cache_bytes_per_sec=micro.bytes_per_sec(target, _cache_mib(cache_mib), settings),
            cache_bytes=cache_mib << 20,
        )


def middle(found: Sequence[Limits]) -> Limits:
    """The median of each limit."""
    return Limits(*map(statistics.median, zip(*map(astuple, found), strict=True)))


def _cache_mib(size_mib: int) -> int:
    """What to read of a cache: half of it, because the rest of the process and other cores use it too."""
    return max(size_mib // 2, 1)


def rows(runs: Path, workloads: Sequence[str], rounds: int) -> list[Row]:
    """One row per workload: latency, GFLOP/s, roofline, fraction of it reached, and the underlying limits.

    Raises:
        ConfigError: there are no finished runs.
        DeviceError: a recorded schedule does not run here.
    """
    settings = composed([]).measure
    cache_mib = micro.last_level_cache_mib()
    with best_schedules(runs, workloads) as (backend, schedules), own_process() as process:

        def remote(measure: Callable[..., float], *arguments: object) -> Callable[[], float]:
            return lambda: process.submit(measure, backend.target, *arguments, settings).result()

        subjects = {
            "peak": remote(micro.flop_per_sec),
            "memory": remote(micro.bytes_per_sec, _MEMORY_MIB),
            "cache": remote(micro.bytes_per_sec, _cache_mib(cache_mib)),
            **{s.workload.name: s.secs for s in schedules},
        }
        found = medians(subjects, rounds, backend.device.lock)
    limits = Limits(found["peak"], found["memory"], found["cache"], cache_mib << 20)
    return [
        row(limits, s.workload.name, s.workload.flop, s.workload.compulsory_bytes, found[s.workload.name])
        for s in schedules
    ]


def row(limits: Limits, workload: str, flop: int, data_bytes: int, secs: float) -> Row:
    """How close a workload that takes `secs` comes to `limits`."""
    roofline_secs, bound = limits.roofline(flop, data_bytes)
    return {
        "workload": workload,
        "latency_ms": round(1e3 * secs, 4),
        "gflops": round(flop / secs / 1e9, 2),
        "data_mib": round(data_bytes / 2**20, 2),
        "roofline_ms": round(1e3 * roofline_secs, 4),
        "bound": bound,
        "share": round(roofline_secs / secs, 4),
        "peak_gflops": round(limits.flop_per_sec / 1e9, 1),
        "memory_gb_per_sec": round(limits.memory_bytes_per_sec / 1e9, 2),
        "cache_gb_per_sec": round(limits.cache_bytes_per_sec / 1e9, 2),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.limits --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="directory with finished runs below")
    parser.add_argument("--workloads", type=names, default=(), help="comma-separated; default: all with a finished run")
    parser.add_argument("--rounds", type=positive, default=7, help="measurements of each")
    given = parser.parse_args(argv)
    return write_rows(lambda: rows(given.runs, given.workloads, given.rounds), given.out / "limits.csv")


if __name__ == "__main__":
    sys.exit(main())
