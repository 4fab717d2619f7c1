"""Provokes every kind of fault inside a real search, and shows what is recorded and that the search continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import tvm

from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.measurement.backend import local
from colt_pipeline.measurement.measurer import LocalMeasurer, Measurer
from colt_pipeline.records import Measurement
from colt_pipeline.runs.events import Measured
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.runs.layout import JOURNAL
from colt_pipeline.search.loop import search
from colt_pipeline.workloads.workload import Workload
from stages.benchmarks import Row, command_line, positive, write_rows
from stages.benchmarks.kernels import SHAPE, endless, hungry, out_of_bounds, scaled, unlinked

_RUN_TIMEOUT_SECS = 3.0
_DISK_KIB = 64

_KILLED = 20

# Sample number -> (what happens, the kernel that replaces it; None if the machine misbehaves instead)
PROVOKED: dict[int, tuple[str, Callable[[], tvm.IRModule] | None]] = {
    6: ("an endless loop", endless),
    9: ("writes 6 GB out of bounds", out_of_bounds),
    11: ("allocates 104 GB", hungry),
    14: ("a wrong result", lambda: scaled(1.01)),
    17: ("calls a function that does not exist", unlinked),
    _KILLED: ("its worker is killed by signal 9", None),
}


class Saboteur:
    """A measurer that replaces some kernels with faulty ones and kills a worker."""

    def __init__(self, inner: LocalMeasurer) -> None:
        self._inner = inner
        self._seen = -1  # the first program is the baseline
        self.results: dict[int, Measurement] = {}

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        numbers = range(self._seen + 1, self._seen + 1 + len(modules))
        self._seen += len(modules)
        made = [
            make() if (make := PROVOKED.get(n, ("", None))[1]) else m for n, m in zip(numbers, modules, strict=True)
        ]
        results = self._inner.measure(made, best_secs)
        for number in numbers:
            if number == _KILLED:  # built, and waiting in its worker
                self._kill()
            self.results[number] = next(results)
            yield self.results[number]

    def _kill(self) -> None:
        for worker in self._inner._workers:
            if worker._process is not None:
                os.kill(worker._process.pid, signal.SIGKILL)

    def close(self) -> None:
        self._inner.close()


def rows(samples: int) -> list[Row]:
    """One row per fault: what was provoked, what was recorded, and how the search continued.

    Raises:
        ConfigError: the search would end before the last fault.
        DeviceError: a full disk cannot be simulated, because this user may not mount a small one.
    """
    if samples < _KILLED:
        raise ConfigError(f"the last fault occurs at sample {_KILLED}, so --samples must be at least {_KILLED}")
    with tempfile.TemporaryDirectory() as scratch:
        config = composed([f"results={scratch}", "run=faults", *_tiny(samples)])
        config = replace(config, measure=replace(config.measure, run_timeout_secs=_RUN_TIMEOUT_SECS))
        found = _in_a_search(config)
    return [*found, _full_disk(samples)]


def _tiny(samples: int) -> list[str]:
    shape = [f"workload.shape.{key}={value}" for key, value in SHAPE.items()]
    return ["workload=deepseek_r1_moe", *shape, f"samples={samples}", "search.warmup_samples=8", "model_set=4"]


def _in_a_search(config: Config) -> list[Row]:
    made: list[Saboteur] = []

    def make_measurer(workload: Workload) -> Measurer:
        inner = local(config).make_measurer(workload)
        assert isinstance(inner, LocalMeasurer)
        made.append(Saboteur(inner))
        return made[0]

    with assemble(config, make_measurer) as job:
        events = list(search(job.world, job.journal, job.state))
    samples = [s for e in events if isinstance(e, Measured) for s in e.samples]
    found = []
    for number, (what, _) in PROVOKED.items():
        result = made[0].results[number]
        after = made[0].results.get(number + 1)
        found.append(
            {
                "provoked": what,
                "sample": number,
                "recorded": result.error or "a latency",
                "detail": result.detail,
                "next_sample": "-" if after is None else after.error or "a latency",
                "search": f"{job.state.finished} after {len(samples)} samples",
            }
        )
    return found


def _full_disk(samples: int) -> Row:
    """A search on a small disk that fills up; with more room it resumes and has lost nothing."""
    with tempfile.TemporaryDirectory() as mount:
        size = f"size={_DISK_KIB}k"
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", mount], capture_output=True, check=False)
        if done.returncode:
            raise DeviceError("simulating a full disk needs a small tmpfs, which only root may mount")
        try:
            first = _run(mount, samples)
            before = _lines(Path(mount))
            subprocess.run(["mount", "-o", "remount,size=64m", mount], check=True)
            second = _run(mount, samples)
            after = _lines(Path(mount))
        finally:
            subprocess.run(["umount", mount], check=True)
    kept = all(after[name][: len(lines)] == lines for name, lines in before.items())
    return {
        "provoked": f"the disk ({_DISK_KIB} KiB) is full",
        "sample": "-",
        "recorded": f"exit status {first.returncode}: {first.stderr.splitlines()[-1].replace(mount, 'RESULTS')}",
        "detail": f"{sum(map(len, before.values()))} lines before, all of them kept: {kept}",
        "next_sample": "-",
        "search": f"with more room: exit status {second.returncode}, {len(after[JOURNAL])} events",
    }


def _run(results: str, samples: int) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as logs:  # Hydra's own logs, kept off the small disk
        flags = [f"results={results}", "run=disk", f"hydra.run.dir={logs}", *_tiny(samples)]
        command = [sys.executable, "-m", "colt_pipeline.tune", "hydra.output_subdir=null", *flags]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def _lines(results: Path) -> dict[str, list[str]]:
    """The parsed lines of every journal and recording, by file name."""
    return {p.name: [json.dumps(line) for line in read_lines(p)] for p in sorted(results.rglob("*.jsonl"))}


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.faults --out results/benchmark``, as root."""
    parser = command_line(__doc__)
    parser.add_argument("--samples", type=positive, default=24, help="programs to measure")
    given = parser.parse_args(argv)
    return write_rows(lambda: rows(given.samples), given.out / "faults.csv")


if __name__ == "__main__":
    sys.exit(main())
