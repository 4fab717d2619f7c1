"""Measurements of runs as training data for the pretrained cost model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm.s_tir.meta_schedule.feature_extractor import PerStoreFeature

from colt_pipeline.errors import ConfigError
from colt_pipeline.prediction.experience_files import (
    Origin,
    program_line,
    read_files,
    write_experience,
    write_file,
)
from colt_pipeline.prediction.pretrained import features
from colt_pipeline.prediction.run_space import run_space, run_workload
from colt_pipeline.runs.events import Measured, Started
from colt_pipeline.runs.journal import candidates_of, check_traces, read_events
from colt_pipeline.runs.layout import CONFIG, JOURNAL
from colt_pipeline.runs.rundir import read_config, read_space
from colt_pipeline.runs.usage import journals
from colt_pipeline.serialization import KEY_WIDTH, canonical_json
from colt_pipeline.space import Space

Programs = Mapping[str, tuple[str, float | None]]
"""Program key -> its trace, and its latency in seconds (None if it failed)."""


@dataclass(frozen=True)
class _Run:
    """What a run measured."""

    path: Path
    started: Started
    additions: tuple[str, ...]
    programs: Programs

    @property
    def origin(self) -> Origin:
        started = self.started
        return Origin(started.workload, started.workload_hash, started.device, started.target, self.additions)


@dataclass(frozen=True)
class Addition:
    """What runs added to the experience of one origin."""

    origin: Origin
    added: int
    known: int
    """Programs of these runs that were there already."""


@dataclass(frozen=True)
class Added:
    """What became of the runs."""

    additions: tuple[Addition, ...]
    skipped: Mapping[Path, str]
    """Run directory -> why nothing was taken from it."""


def collect_experience(runs: Path, out: Path) -> None:
    """Run directories ``runs/*/*`` -> files in `out`; a program found in several runs counts once.

    Runs in TVM's space alone become one file per workload without origin, as the first recorded searches started from.

    Raises:
        JournalError: a journal is corrupt, was written by another version, or has a trace that no rule or mutator
            makes.
        RunDirError: a run's configuration is missing or broken.
    """
    found = [run for journal in sorted(runs.glob(f"*/*/{JOURNAL}")) if (run := _read(journal)) is not None]
    if any(run.additions for run in found):
        _add(found, out)
        return
    workloads: dict[str, dict[str, tuple[_Run, str, float | None]]] = {}
    for run in found:
        own = workloads.setdefault(run.started.workload_hash, {})
        own.update({key: (run, trace, latency) for key, (trace, latency) in run.programs.items()})
    spaces, extractor = _Spaces(), PerStoreFeature()
    for workload_hash, own in workloads.items():
        loaded = ((latency, spaces.of(run), key, trace) for key, (run, trace, latency) in own.items())
        rows = (
            (latency, features(space, extractor, [space.load(key, trace)])[0]) for latency, space, key, trace in loaded
        )
        write_experience(out / f"{workload_hash}.csv", rows)


def add_experience(runs: Sequence[Path], directory: Path) -> Added:
    """Add what runs measured to the experience in `directory`, each program once; estimates are no experience.

    Args:
        runs: run directories, or directories above them.
        directory: created if needed.

    Raises:
        ConfigError: none of the runs has measured anything on a CPU.
        JournalError: a journal is corrupt, was written by another version, or has a trace that no rule or mutator
            makes.
        RecordingError: a file in `directory` is not one of experience.
        RunDirError: there are no runs; one is broken, or tuned another kernel than its directory describes; or
            `directory` is unwritable.
    """
    paths = list(dict.fromkeys(journal for path in runs for journal in journals(path)))
    skipped: dict[Path, str] = {}
    usable = []
    for journal in paths:
        run = _read(journal)
        if run is None or not run.programs:
            skipped[journal.parent] = "nothing was measured yet"
        elif run.started.measurement != "measured":
            skipped[journal.parent] = f"its latencies are {run.started.measurement}, not measured"
        elif run.started.target["kind"] != "llvm":
            skipped[journal.parent] = "it is of a GPU, where cost models start from nothing"
        else:
            usable.append(run)
    if not usable:
        path, reason = next(iter(skipped.items()))
        raise ConfigError(f"nothing below {', '.join(map(str, runs))} can be added; {path}, for example: {reason}")
    return Added(_add(usable, directory), skipped)


def _add(runs: Sequence[_Run], directory: Path) -> tuple[Addition, ...]:
    spaces, extractor = _Spaces(), PerStoreFeature()
    origins: dict[str, list[_Run]] = {}
    for run in runs:
        origins.setdefault(run.origin.file_name, []).append(run)
    additions = []
    for group in origins.values():
        origin = group[0].origin
        known = _Known(directory, origin)
        measured: dict[str, tuple[_Run, str, str, float | None]] = {}
        for run in group:
            for key, (trace, latency) in run.programs.items():
                measured.setdefault(key[:KEY_WIDTH], (run, key, trace, latency))
        lines: dict[str, str] = {}
        for short in measured.keys() - known.keys:
            run, key, trace, latency = measured[short]
            space = spaces.of(run)
            line = program_line(latency, features(space, extractor, [space.load(key, trace)])[0])
            if line not in known.without_key:
                lines[short] = line
        if lines:
            write_file(directory, origin, {**known.same_origin, **lines})
        additions.append(Addition(origin, len(lines), len(measured) - len(lines)))
    return tuple(additions)


class _Known:
    """What a directory holds of one workload on one device, compiled for one target."""

    def __init__(self, directory: Path, origin: Origin) -> None:
        self.keys: set[str] = set()
        """First digits of the programs' keys."""
        self.without_key: set[str] = set()
        """Lines of programs of the workload in files that name neither device nor programs."""
        self.same_origin: dict[str, str] = {}
        """The file that is added to: first digits of a program's key -> its line."""
        for file in read_files(directory):
            if file.workload_hash != origin.workload_hash:
                continue
            if file.origin is None:
                self.without_key.update(file.lines)
            elif file.origin.scale == origin.scale:
                self.keys.update(file.keys)
                if file.path.name == origin.file_name:
                    self.same_origin = dict(zip(file.keys, file.lines, strict=True))


class _Spaces:
    """The spaces of runs, each built once."""

    def __init__(self) -> None:
        self._spaces: dict[tuple[str, str, tuple[str, ...]], Space] = {}

    def of(self, run: _Run) -> Space:
        """The space that a run searched."""
        known = (run.started.workload_hash, canonical_json(run.started.target), run.additions)
        if known not in self._spaces:
            workload = run_workload(run.path, read_config(run.path / CONFIG), run.started)
            self._spaces[known] = run_space(run.path, workload, run.started, run.additions)
        return self._spaces[known]


def _read(journal: Path) -> _Run | None:
    """What a run measured; None if it has not begun."""
    events = read_events(journal)
    check_traces(journal, events)
    started = next((event for event in events if isinstance(event, Started)), None)
    if started is None:
        return None
    traces = {candidate.program: candidate.trace for event in events for candidate in candidates_of(event)}
    samples = [sample for event in events if isinstance(event, Measured) for sample in event.samples]
    programs = {sample.program: (traces[sample.program], sample.latency_secs) for sample in samples}
    return _Run(journal.parent, started, read_space(journal.with_name(CONFIG)).additions, programs)
