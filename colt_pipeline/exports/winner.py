"""The program that a run found: read from its directory and its ledger, and rebuilt."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict

from colt_pipeline.analysis.tree.run import Run, read_run
from colt_pipeline.errors import JournalError, RunDirError
from colt_pipeline.measurement.confirm import confirmed
from colt_pipeline.measurement.devices import Device
from colt_pipeline.measurement.ledger import Ledger, read_header
from colt_pipeline.prediction.run_space import run_space, run_workload
from colt_pipeline.records import Measurement
from colt_pipeline.runs.layout import CONFIG, JOURNAL, recordings_of, runs_in
from colt_pipeline.serialization import Count, typed
from colt_pipeline.space import Program
from colt_pipeline.workloads.packing import Split, split
from colt_pipeline.workloads.workload import Workload


@dataclass(frozen=True)
class Timing:
    """The fastest program, and what is known about its latency."""

    program: str
    """Its key."""
    latency_secs: float
    run_secs: tuple[float, ...]
    """What `latency_secs` is the median of; one per round if it was confirmed; itself alone without a ledger."""
    rounds: int
    """How often it was measured again after the search, in turn with other programs; 0 = not."""
    header: Mapping[str, Any] | None
    """The first line of the run's ledger: the device, and how it was measured; None without a ledger."""
    cold_secs: float | None = None
    """With cold caches; None where that was not measured, as of kernels without constant inputs."""


@dataclass(frozen=True)
class Winner:
    """The best program of a run, and what is known about its latency."""

    run: Run
    workload: Workload
    program: Program
    timing: Timing

    @cached_property
    def parts(self) -> Split:
        """The scheduled kernel, and what packs its constant inputs."""
        return split(self.program.schedule.mod)

    @property
    def is_faster(self) -> bool:
        """Whether it is faster than the unscheduled program."""
        return self.timing.latency_secs < self.run.started.baseline_secs

    @property
    def target(self) -> dict[str, Any]:
        """TVM's target dict that it was tuned for."""
        return self.run.started.target

    @property
    def is_estimated(self) -> bool:
        """Whether latencies come from a formula."""
        return self.run.started.measurement == "estimated"

    @property
    def on_cpu(self) -> bool:
        """Whether it was tuned for a CPU, for which it can be exported as a library."""
        return bool(self.target["kind"] == "llvm")

    @property
    def vector_math(self) -> bool:
        """Whether it was compiled with vector math when it was measured."""
        if self.timing.header is None:
            return self.on_cpu and self.run.space.vector_math
        return self.timing.header["evaluator"].get("vector_math") is True


class _Workload(TypedDict):
    name: str
    shape: dict[str, Count]


class _Named(TypedDict):
    experiment: str
    run: str
    workload: _Workload


def read_winner(path: Path) -> Winner:
    """The winner of a run, finished or not: the best of those that were confirmed, else the search's best.

    Nothing is measured, and nothing in the run changes.

    Raises:
        ColtError: it is not a run, it has measured no valid program yet, or what it holds does not fit together.
    """
    return _winner(path, read_run(path))


def read_kernel(path: Path) -> tuple[Run, Winner | None]:
    """The run of a model's kernel, and its winner, if that is faster than the unscheduled program.

    Raises:
        ColtError: it is not a run, or what it holds does not fit together.
    """
    run = read_run(path)
    if run.state.best is None or run.state.best.latency_secs is None:
        return run, None
    winner = _winner(path, run)
    return run, winner if winner.is_faster else None


def _winner(path: Path, run: Run) -> Winner:
    try:
        named = typed(_Named, run.config)
    except ValueError as error:
        raise RunDirError(f"{path / CONFIG} is not the configuration of a run ({error}); restore it") from error
    workload = run_workload(path, run.config, run.started)
    timing = _timing(path, named, run)
    space = run_space(path, workload, run.started, run.space.additions)
    candidate = run.state.programs[timing.program]
    return Winner(run, workload, space.load(candidate.program, candidate.trace), timing)


def _timing(path: Path, named: _Named, run: Run) -> Timing:
    best = run.state.best
    if best is None or best.latency_secs is None:
        raise RunDirError(f"{path}: no program has a valid latency yet; try again when `colt show` lists a best one")
    ledger_path, header = _find_ledger(path, named, run.started.device)
    if ledger_path is None or header is None:
        return Timing(best.program, best.latency_secs, (best.latency_secs,), 0, None)
    with closing(Ledger(ledger_path, header, "growing")) as ledger:
        again = confirmed(ledger, [s.program for s in run.state.samples if s.latency_secs is not None])
        if again:
            rounds = ledger.rounds(again[0].program)
            medians = tuple(m.latency_secs for m in rounds if m.latency_secs is not None)
            confirmation = (again[0].program, again[0].latency_secs, medians, again[0].rounds, header)
            return Timing(*confirmation, _cold_secs(rounds))
        known = ledger.get(best.program)
    if known is None or known.latency_secs != best.latency_secs:
        there = "nothing" if known is None else known.error or f"{known.latency_secs} s"
        raise JournalError(
            f"{path / JOURNAL}: program {best.program[:12]} has {best.latency_secs} s, but {ledger_path} holds "
            f"{there}; restore the one that is wrong"
        )
    return Timing(best.program, best.latency_secs, known.run_secs, 0, header, _cold_secs([known]))


def _cold_secs(rounds: Sequence[Measurement]) -> float | None:
    known = [secs for measurement in rounds for secs in measurement.cold_secs]
    return statistics.median(known) if known else None


def _find_ledger(path: Path, named: _Named, device: str) -> tuple[Path | None, dict[str, Any] | None]:
    """The ledger of the run in this directory, and its header; None where the recordings are not beside the runs."""
    here, end = path.resolve(), runs_in("") / named["experiment"] / named["run"]
    if here.parts[-len(end.parts) :] != end.parts:
        return None, None
    results = here.parents[len(end.parts) - 1]
    for ledger in recordings_of(results, named["experiment"], named["run"]):
        header = read_header(ledger)
        if header is not None and Device.recorded(header["device"], ledger).slug == device:
            return ledger, header
    return None, None
