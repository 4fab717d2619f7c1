"""The progress of runs, read from their files alone, so that they may run in any process on any machine."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import JournalError, RunDirError
from colt_pipeline.records import MeasurementKind
from colt_pipeline.runs.clock import secs_so_far
from colt_pipeline.runs.events import Chosen, Deferred, Measured, Started, Stepped, event_from_json, spent
from colt_pipeline.runs.jsonl import read_from
from colt_pipeline.runs.layout import CALLS, JOURNAL, SUMMARY, WHOLE_MODEL, clocks_of, run_directory
from colt_pipeline.runs.rundir import read_json
from colt_pipeline.runs.summary import read_summary


@dataclass(frozen=True)
class Standing:
    """The progress of one run, or of one kernel of a whole model."""

    name: str
    samples: int = 0
    budget: int | None = None
    """Samples when finished; None for a kernel, whose share is not known in advance."""
    speedup: float | None = None
    measurement: MeasurementKind = "measured"
    calls: Counter[str] = field(default_factory=Counter)
    """Model -> regular calls."""
    alterations: Counter[str] = field(default_factory=Counter)
    """Model -> course alterations."""
    awaited: int = 0
    """Steps whose answers are awaited, of concurrent calls."""
    begun: bool = False
    finished: bool = False
    """Whether it has finished or reached a limit of its budget."""
    limit_secs: float | None = None
    """How long it may take; None without a limit in minutes."""
    used_secs: float = 0.0
    """What it has taken of that, as of its last batch."""

    @property
    def left(self) -> int:
        """Remaining samples."""
        return 0 if self.finished or self.budget is None else max(0, self.budget - self.samples)

    @property
    def most_secs_left(self) -> float | None:
        """What its limit in minutes leaves; None without one."""
        if self.limit_secs is None:
            return None
        return 0.0 if self.finished else max(0.0, self.limit_secs - self.used_secs)

    @property
    def share_done(self) -> float:
        """Between 0 and 1, by samples or, if that is more, by time."""
        by_samples = 1 - self.left / self.budget if self.budget else 0.0
        by_time = self.used_secs / self.limit_secs if self.limit_secs else 0.0
        return 1.0 if self.finished else min(1.0, max(by_samples, by_time))


class Followed(Protocol):
    """A run whose progress is followed."""

    def read(self) -> list[Standing]:
        """The current progress of the run, followed by that of its parts, if any."""
        ...


class FollowedSearch:
    """One search; because journals can be large, no line is read twice, and none after the run has ended."""

    def __init__(
        self,
        directory: Path,
        name: str,
        budget: int | None,
        minutes: float | None = None,
        used_secs: Callable[[], float] = lambda: 0.0,
        counts_calls: bool = False,
    ) -> None:
        """Follow a run.

        Args:
            directory: the run's.
            name: what to call it.
            budget: samples when finished, if known.
            minutes: its limit.
            used_secs: reads its clock.
            counts_calls: whether its samples are regular calls, see ``search.sample``.
        """
        self._directory = directory
        self._name = name
        self._budget = budget
        self._limit_secs = None if minutes is None else minutes * 60
        self._clock = used_secs
        self._counts_calls = counts_calls
        self._offset = 0
        self._ended: Standing | None = None
        self._started: Started | None = None
        self._samples = 0
        self._best_secs: float | None = None
        self._calls: Counter[str] = Counter()
        self._alterations: Counter[str] = Counter()
        self._awaited = 0
        self._deferred = 0
        """Steps that are deferred now."""

    def read(self) -> list[Standing]:
        """See `Followed`; a search has no parts."""
        # A run that had ended may resume, if a limit of its budget had ended it.
        if self._ended is None or not (self._directory / SUMMARY).exists():
            self._ended = self._read_outputs()
        if self._ended is not None:
            return [self._ended]
        self._read_journal()
        started, best_secs = self._started, self._best_secs
        return [
            Standing(
                name=self._name,
                samples=self._samples,
                budget=self._budget,
                speedup=started.baseline_secs / best_secs if started and best_secs else None,
                measurement=started.measurement if started else "measured",
                calls=self._calls.copy(),
                alterations=self._alterations.copy(),
                awaited=self._awaited,
                begun=started is not None,
                limit_secs=self._limit_secs,
                used_secs=self._used_secs(),
            )
        ]

    def _read_outputs(self) -> Standing | None:
        """None if outputs are missing, because the run continues, or unreadable, which the run itself reports."""
        try:
            summary = read_summary(self._directory / SUMMARY)
            with (self._directory / CALLS).open(newline="") as file:
                models = list(csv.DictReader(file))
            return Standing(
                name=self._name,
                samples=summary["samples"],
                budget=self._budget,
                speedup=summary["speedup"],
                measurement=summary["measurement"],
                calls=Counter({row["model"]: int(row["regular_calls"]) for row in models}),
                alterations=Counter({row["model"]: int(row["course_alterations"]) for row in models}),
                begun=True,
                finished=True,
                limit_secs=self._limit_secs,
            )
        except (RunDirError, OSError, ValueError, KeyError, TypeError):
            return None

    def _used_secs(self) -> float:
        if self._limit_secs is None:
            return 0.0
        try:
            return self._clock()
        except (JournalError, ValueError):
            return 0.0  # as for a journal

    def _read_journal(self) -> None:
        try:
            records, self._offset = read_from(self._directory / JOURNAL, self._offset)
            for record in records:
                self._count(record)
        except (JournalError, ValueError):
            return  # corrupt or of another version, which the run itself reports before it stops

    def _count(self, record: Mapping[str, Any]) -> None:
        event = event_from_json(record)
        self._samples += spent([event], self._counts_calls)
        if isinstance(event, Started):
            self._started = event
        elif isinstance(event, Measured):
            latencies = [self._best_secs, *(sample.latency_secs for sample in event.samples)]
            self._best_secs = min((secs for secs in latencies if secs is not None), default=None)
        elif isinstance(event, Chosen):
            self._awaited += 1
        elif isinstance(event, Deferred):
            self._deferred += 1
            self._calls[event.call.model] += 1
        elif isinstance(event, Stepped):
            if event.calls:
                self._awaited = max(0, self._awaited - 1)
            deferred = len(event.calls) == 2 and self._deferred > 0  # its first call was counted when it was deferred
            self._deferred -= deferred
            for call in event.calls[deferred:]:
                (self._calls if call.role == "regular" else self._alterations)[call.model] += 1


class FollowedModel:
    """A whole model. Its kernels have their own runs in its directory and are known once these have begun."""

    def __init__(self, directory: Path, name: str, budget: int) -> None:
        self._directory = directory
        self._name = name
        self._budget = budget
        self._kernels: dict[Path, FollowedSearch] = {}

    def read(self) -> list[Standing]:
        """The model and, until it has finished, its tuned kernels as far as they are known."""
        try:
            whole = read_json(self._directory / WHOLE_MODEL)
        except RunDirError:  # as for a search
            whole = {}
        for journal in sorted(self._directory.glob(f"*/{JOURNAL}")):
            kernel = journal.parent
            self._kernels.setdefault(kernel, FollowedSearch(kernel, kernel.name, None))
        kernels = [standing for kernel in self._kernels.values() for standing in kernel.read()]
        model = Standing(
            name=self._name,
            samples=sum(kernel.samples for kernel in kernels),
            budget=self._budget,
            speedup=whole.get("speedup"),
            measurement=whole.get("measurement", "measured"),
            calls=sum((kernel.calls for kernel in kernels), Counter()),
            alterations=sum((kernel.alterations for kernel in kernels), Counter()),
            awaited=sum(kernel.awaited for kernel in kernels),
            begun=any(kernel.begun for kernel in kernels),
            finished=bool(whole),
        )
        return [model] if model.finished else [model, *(kernel for kernel in kernels if kernel.samples)]


def followed_search(config: Config) -> FollowedSearch:
    """The search of this configuration."""
    directory = run_directory(config.results, config.experiment, config.run)

    def used_secs() -> float:
        clocks = clocks_of(config.results, config.experiment, config.run)
        return max(map(secs_so_far, clocks), default=0.0)

    counts_calls = config.search.sample == "call"
    return FollowedSearch(directory, config.run, config.samples, config.minutes, used_secs, counts_calls)


def followed_model(config: Config) -> FollowedModel:
    """The whole model of this configuration."""
    return FollowedModel(run_directory(config.results, config.experiment, config.run), config.run, config.samples)
