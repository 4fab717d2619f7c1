"""Estimate the measurement noise on this machine: ``python -m colt_pipeline.tools.noise --minutes 10``.

The best recorded schedule of each workload (or, before any run, the fastest of a few samples) is repeatedly built and
measured, one workload after another, as a search would measure it. From the record, results/noise/<device>, the
analysis knows which differences are not improvements. Hydra overrides choose target, device and measure settings.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colt_pipeline.app import INTERRUPTED, with_message
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config, SpaceConfig
from colt_pipeline.errors import DeviceError, RecordingError
from colt_pipeline.measurement.lock import batch_lock
from colt_pipeline.records import Measurement
from colt_pipeline.runs.layout import BEST, CONFIG, SUMMARY, noise_in, runs_in
from colt_pipeline.runs.rundir import read_json, read_space, write_text
from colt_pipeline.runs.summary import read_summary
from colt_pipeline.serialization import canonical_json, typed
from colt_pipeline.traces import check_trace
from colt_pipeline.workloads import PAPER

if TYPE_CHECKING:
    import tvm

    from colt_pipeline.measurement.backend import Backend
    from colt_pipeline.measurement.measurer import Measurer
    from colt_pipeline.workloads.workload import Workload

_SAMPLES = 8


@dataclass(frozen=True)
class _Subject:
    """One schedule under observation."""

    workload: Workload
    key: str
    module: tvm.IRModule
    backend: Backend
    measurer: Measurer
    header: dict[str, Any]


def observe(configs: Sequence[Config], minutes: float) -> Path:
    """Measure one schedule per config, in turn; return the directory of the noise of all devices.

    Raises:
        ColtError: there is no device, or only estimates.
    """
    with ExitStack() as cleanup:
        subjects = [_subject(config, cleanup) for config in configs]
        lines: dict[str, list[dict[str, Any]]] = {s.workload.name: [s.header] for s in subjects}
        start, rounds = time.monotonic(), 0
        while time.monotonic() - start < 60 * minutes:
            for s in subjects:
                elapsed = round(time.monotonic() - start, 3)
                measured = _measure(s, [s.module])[0]
                fields = {k: v for k, v in asdict(measured).items() if k in ("run_secs", "error")}
                lines[s.workload.name].append({"program": s.key, "elapsed_secs": elapsed, **fields})
            rounds += 1
            if rounds in (1, 8) or rounds % 50 == 0:
                passed = (time.monotonic() - start) / 60
                print(f"{rounds} rounds, {passed:.1f} of {minutes:g} minutes", file=sys.stderr, flush=True)
    directory = noise_in(configs[0].results)
    for s in subjects:
        path = directory / s.backend.device.slug / f"{s.workload.name}.jsonl"
        write_text(path, "".join(canonical_json(line) + "\n" for line in lines[s.workload.name]))
    return directory


def _subject(config: Config, cleanup: ExitStack) -> _Subject:
    # These import TVM, which --help and invalid configurations do not need.
    import numpy as np

    from colt_pipeline.measurement.backend import choose
    from colt_pipeline.space import Space
    from colt_pipeline.workloads.catalogue import build

    workload = build(**vars(config.workload))
    _, backend, _ = choose(config, ())
    if backend.measurement != "measured":
        raise DeviceError(
            f"latencies for target={config.target.name} are {backend.measurement} here, so they have no noise"
        )
    best = best_recorded(runs_in(config.results), workload, backend)
    if best is not None:  # it is measured as it was then
        vector_math = best.space.vector_math and config.target.kind == "llvm"
        config = replace(config, measure=replace(config.measure, vector_math=vector_math))
        _, backend, _ = choose(config, ())
    measurer = backend.make_measurer(workload)
    cleanup.enter_context(closing(measurer))
    header = backend.header(workload, config.measure)
    if best is not None:
        program = Space(workload.module, backend.target, best.space.additions).load(best.program, best.trace)
        return _Subject(workload, program.key, program.schedule.mod, backend, measurer, header)
    space = Space(workload.module, backend.target, config.space.additions)
    programs = space.initial(_SAMPLES, np.random.default_rng(0))
    unknown = _Subject(workload, "", workload.module, backend, measurer, header)
    measured = _measure(unknown, [p.schedule.mod for p in programs])
    good = [(m.latency_secs, p) for m, p in zip(measured, programs, strict=True) if m.latency_secs is not None]
    if not good:
        raise DeviceError(f"none of {_SAMPLES} sampled programs of {workload.name} could be measured")
    _, fastest = min(good, key=lambda pair: pair[0])
    return _Subject(workload, fastest.key, fastest.schedule.mod, backend, measurer, header)


def _measure(subject: _Subject, modules: list[tvm.IRModule]) -> list[Measurement]:
    with batch_lock(subject.backend.device):
        return list(subject.measurer.measure(modules, None))


@dataclass(frozen=True)
class Schedule:
    """A schedule that a run found."""

    program: str
    """Its key."""
    trace: str
    space: SpaceConfig
    """The design space that it is of."""


def best_recorded(runs: Path, workload: Workload, backend: Backend) -> Schedule | None:
    """The fastest schedule that any finished run below `runs` measured on this device.

    Raises:
        RunDirError: a file of a run is broken.
        RecordingError: it lacks something, or its trace is none that a rule or mutator makes.
    """
    found: list[tuple[float, str, Path]] = []
    for path in sorted(runs.rglob(SUMMARY)):
        summary = read_summary(path, ("workload", "device", "best_secs", "best_program"))
        if (summary["workload"], summary["device"]) != (workload.name, backend.device.slug) or not summary["best_secs"]:
            continue
        best = _best(path.with_name(BEST))
        if best.workload_hash == workload.hash and best.target == backend.target:
            found.append((summary["best_secs"], summary["best_program"], path.parent))
    if not found:
        return None
    _, program, run = min(found)
    return Schedule(program, canonical_json(_best(run / BEST).trace), read_space(run / CONFIG))


@dataclass(frozen=True)
class _Best:
    workload_hash: str
    target: dict[str, Any]
    trace: Any

    def __post_init__(self) -> None:
        check_trace(self.trace)


def _best(path: Path) -> _Best:
    fields = read_json(path)
    try:
        return typed(_Best, fields)
    except ValueError as error:
        raise RecordingError(f"{path}: {error}; repeat the run, or move its directory away") from error


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the record and print the table; exit status 1 with a message if there is no device."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--workload", action="append", help="may be repeated; default: the paper's five")
    parser.add_argument("overrides", nargs="*", help="as for colt_pipeline.tune, such as target=gpu")
    arguments = parser.parse_args(argv)
    from colt_pipeline.analysis.noise import read_noise  # imports pandas, which --help does not need

    try:
        configs = [
            # One builder each, because only one program is built at a time.
            composed([f"workload={name}", "measure.builders=1", *arguments.overrides])
            for name in arguments.workload or PAPER
        ]
        directory = observe(configs, arguments.minutes)
        print(read_noise(directory).to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
