"""The best recorded schedules, ready to be remeasured on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import tvm

from colt_pipeline.config.compose import composed
from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.measurement.backend import Backend, local
from colt_pipeline.measurement.measurer import Measurer
from colt_pipeline.runs.layout import BEST, SUMMARY
from colt_pipeline.runs.rundir import read_json
from colt_pipeline.runs.summary import read_summary
from colt_pipeline.space import Space
from colt_pipeline.tools.noise import best_recorded
from colt_pipeline.workloads.catalogue import WORKLOADS, build
from colt_pipeline.workloads.workload import Workload


@dataclass(frozen=True)
class Recorded:
    """One workload's best recorded schedule."""

    workload: Workload
    module: tvm.IRModule
    measurer: Measurer

    def secs(self) -> float:
        """Its latency, built and measured as a search would; the result is checked against the reference.

        Raises:
            DeviceError: it does not run here, or its result is wrong.
        """
        (measured,) = self.measurer.measure([self.module], None)
        if measured.latency_secs is None:
            name, why = self.workload.name, f"{measured.error} ({measured.detail})"
            raise DeviceError(f"the best recorded schedule of {name} failed: {why}")
        return measured.latency_secs


@contextmanager
def best_schedules(runs: Path, workloads: Sequence[str]) -> Iterator[tuple[Backend, list[Recorded]]]:
    """This machine's CPU, and the best schedule below `runs` of each of `workloads` (if empty, of all that have one).

    Raises:
        ConfigError: no finished run on this CPU of a requested workload, or of any workload.
    """
    found, missing = [], []
    with ExitStack() as cleanup:
        for name in workloads or WORKLOADS:
            config = composed([f"workload={name}", "measure.builders=1"])  # one program to build at a time
            workload = build(**vars(config.workload))
            backend = local(config)
            best = best_recorded(runs, workload, backend)
            if best is None:
                missing.append(name)
                continue
            program = Space(workload.module, backend.target, best.space.additions).load(best.program, best.trace)
            as_then = replace(config.measure, vector_math=best.space.vector_math)
            measurer = local(replace(config, measure=as_then)).make_measurer(workload)
            found.append(Recorded(workload, program.schedule.mod, cleanup.enter_context(closing(measurer))))
        if not found or (workloads and missing):
            raise ConfigError(
                f"{runs} holds no finished run of {', '.join(missing)} on {backend.device.slug} at the "
                "configured shape; run `dvc repro`, tune it, or name another directory with --runs"
            )
        yield backend, found


def best_run(runs: Path, workload: Workload, backend: Backend) -> Path | None:
    """The finished run below `runs` with the fastest schedule of a workload on this device, confirmed where it was.

    Raises:
        RunDirError: a file of a run is broken.
    """
    found = []
    for path in sorted(runs.rglob(SUMMARY)):
        summary = read_summary(path, ("device", "best_secs"))
        if summary["device"] != backend.device.slug or not summary["best_secs"]:
            continue
        best = read_json(path.with_name(BEST))
        if (best.get("workload_hash"), best.get("target")) == (workload.hash, backend.target):
            found.append((summary.get("confirmed_secs", summary["best_secs"]), path.parent))
    return min(found)[1] if found else None
