"""The best programs that earlier runs found for a kernel, for a new run to start from (``start_from``).

They count only if they were found on the same device for the same target, in the same design space. They are ranked by
what their runs know of them: by the confirmed latency, or else by the search's, which is that of the luckiest. So what
was not confirmed in a run with a confirmation counts as no faster than what was. Programs whose timing was cut short
come last. The new run measures all of them again, so a wrong latency misleads the choice and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colt_pipeline.errors import ConfigError, JournalError, SpaceError
from colt_pipeline.measurement.confirm import confirmed
from colt_pipeline.measurement.ledger import Ledger
from colt_pipeline.runs.events import Measured
from colt_pipeline.runs.journal import candidates_of, read_events
from colt_pipeline.runs.jsonl import read_first
from colt_pipeline.runs.layout import CONFIG, JOURNAL, MEASUREMENTS, recordings_in, runs_in
from colt_pipeline.runs.rundir import read_space
from colt_pipeline.runs.started_from import Taken
from colt_pipeline.traces import check_trace_json

MOST = 4
"""Programs that a run starts from. Most others near the top of a search are variants of these."""


@dataclass(frozen=True)
class Tuned:
    """What was tuned, and where."""

    workload_hash: str
    device: str
    """The device's slug."""
    target: Mapping[str, Any]
    """TVM's target dict."""
    additions: tuple[str, ...]
    """What the design space adds to TVM's."""


@dataclass(frozen=True)
class _Found:
    """A measured program of an earlier run."""

    taken: Taken
    journal: Path
    cut_short: bool
    """Whether its timing ended early because it was clearly slower than another."""
    confirmed: bool
    at_best_secs: float
    """Its latency, or what it cannot be faster than."""

    @property
    def rank(self) -> tuple[bool, float, bool, str]:
        return self.cut_short, self.at_best_secs, not self.confirmed, self.taken.program


def best_of_earlier(results: Path, tuned: Tuned, load: Callable[[str, str], object], count: int) -> list[Taken]:
    """Up to `count` distinct programs that runs in a results directory found, best first.

    Nothing is measured, and nothing there changes. Runs may be in progress.

    Args:
        results: the directory, with runs and their recordings.
        tuned: what the runs must have tuned.
        load: makes a program of key and trace, or raises a SpaceError; then the program is passed over.
        count: how many, at most.

    Raises:
        ConfigError: it is not a results directory, or cannot be read.
        JournalError: a journal or ledger there is corrupt or was written by another version, or a program has a trace
            that no rule or mutator makes.
        RecordingError: a line of a ledger is not a measurement.
        RunDirError: the configuration of a run is missing or broken.
    """
    journals = [journal for journal in _journals(results) if _is_of(journal, tuned)]
    found = [each for journal in journals for each in _measured(results, journal, tuned.device)]
    distinct: dict[str, _Found] = {}
    for each in sorted(found, key=lambda each: (not each.confirmed, each.rank)):  # what is known best of a program
        distinct.setdefault(each.taken.program, each)
    best: list[Taken] = []
    for each in sorted(distinct.values(), key=lambda each: each.rank):
        if len(best) == count:
            break
        if _loads(each, load):
            best.append(each.taken)
    return best


def _journals(results: Path) -> list[Path]:
    runs = runs_in(results)
    try:
        next(runs.iterdir(), None)
    except OSError as error:
        raise ConfigError(
            f"start_from={results}: cannot read {runs}: {error.strerror}. Name a results directory, which contains "
            "runs/ and recordings/, or begin from random programs with start_from=null"
        ) from error
    return sorted(runs.rglob(JOURNAL))


def _is_of(journal: Path, tuned: Tuned) -> bool:
    """Whether a run has tuned just this; of other runs only the first line is read."""
    first = read_first(journal) or {}
    here = {"workload_hash": tuned.workload_hash, "device": tuned.device, "target": tuned.target}
    if any(first.get(name) != value for name, value in here.items()):
        return False
    return read_space(journal.with_name(CONFIG)).additions == tuned.additions


def _measured(results: Path, journal: Path, device: str) -> Iterator[_Found]:
    """The valid programs of a run, but for those that failed when they were measured again."""
    events = read_events(journal)
    traces = {candidate.program: candidate.trace for event in events for candidate in candidates_of(event)}
    samples = [sample for event in events if isinstance(event, Measured) for sample in event.samples]
    latencies = {sample.program: sample.latency_secs for sample in samples if sample.latency_secs is not None}
    run = journal.parent.relative_to(runs_in(results))
    with closing(Ledger(recordings_in(results) / device / run / MEASUREMENTS, {}, "growing")) as ledger:
        again = {each.program: each.latency_secs for each in confirmed(ledger, list(latencies))}
        slowest = max(again.values(), default=0.0)
        for key, secs in latencies.items():
            known = ledger.get(key)
            if key not in again and ledger.rounds(key):
                continue
            yield _Found(
                taken=Taken(key, traces[key], again.get(key, secs), run.as_posix()),
                journal=journal,
                cut_short=key not in again and known is not None and known.stop == "slower",
                confirmed=key in again,
                at_best_secs=again.get(key, max(secs, slowest)),
            )


def _loads(found: _Found, load: Callable[[str, str], object]) -> bool:
    """Whether this version makes the program of the trace; other versions have had other rules, and so has TVM."""
    key, trace = found.taken.program, found.taken.trace
    try:
        check_trace_json(trace)
    except ValueError as error:
        raise JournalError(
            f"{found.journal}: program {key[:12]}: {error}. Nothing of it was run; restore the journal, or name "
            "another directory with start_from=DIR."
        ) from error
    try:
        load(key, trace)
    except SpaceError:
        return False
    return True
