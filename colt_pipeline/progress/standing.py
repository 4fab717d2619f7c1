"""How far runs are, by their files alone: so it does not matter which process, on which machine, is at work on them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import JournalError
from colt_pipeline.records import MeasurementKind
from colt_pipeline.runs.events import Measured, Started, Stepped, event_from_json
from colt_pipeline.runs.jsonl import read_from
from colt_pipeline.runs.layout import CALLS, JOURNAL, SUMMARY, WHOLE_MODEL, run_directory


@dataclass(frozen=True)
class Standing:
    """How far one run is, or one kernel of a whole model."""

    name: str
    samples: int = 0
    budget: int | None = None
    """Samples at its end; None for a kernel, whose share is not known before."""
    speedup: float | None = None
    measurement: MeasurementKind = "measured"
    calls: Counter[str] = field(default_factory=Counter)
    """Regular calls by model."""
    alterations: Counter[str] = field(default_factory=Counter)
    """Course alterations by model."""
    begun: bool = False
    finished: bool = False
    """At its end, or at a limit of its budget."""

    @property
    def left(self) -> int:
        """Samples that are still to come."""
        return 0 if self.finished or self.budget is None else max(0, self.budget - self.samples)


class Followed(Protocol):
    """A run that is followed."""

    def read(self) -> list[Standing]:
        """The run as it now stands, then its parts, if it has any."""
        ...


class FollowedSearch:
    """One search; no line of its journal is read twice, and none once it has ended, for journals can be large."""

    def __init__(self, directory: Path, name: str, budget: int | None) -> None:
        self._directory = directory
        self._name = name
        self._budget = budget
        self._offset = 0
        self._ended: Standing | None = None
        self._started: Started | None = None
        self._samples = 0
        self._best_secs: float | None = None
        self._calls: Counter[str] = Counter()
        self._alterations: Counter[str] = Counter()

    def read(self) -> list[Standing]:
        """One element; see `Followed`."""
        # What was at its end may go on: a limit of its budget had ended it.
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
                calls=self._calls,
                alterations=self._alterations,
                begun=started is not None,
            )
        ]

    def _read_outputs(self) -> Standing | None:
        """None where some are missing, for then the run goes on, or cannot be read, for then the run says so."""
        try:
            summary = json.loads((self._directory / SUMMARY).read_text())
            with (self._directory / CALLS).open(newline="") as file:
                models = list(csv.DictReader(file))
        except OSError:
            return None
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
        )

    def _read_journal(self) -> None:
        try:
            records, self._offset = read_from(self._directory / JOURNAL, self._offset)
            for record in records:
                self._count(record)
        except (JournalError, KeyError, TypeError):
            return  # broken, or of another version: the run itself says so, and does not go on

    def _count(self, record: Mapping[str, Any]) -> None:
        event = event_from_json(record)
        if isinstance(event, Started):
            self._started = event
        elif isinstance(event, Measured):
            self._samples += len(event.samples)
            latencies = [self._best_secs, *(sample.latency_secs for sample in event.samples)]
            self._best_secs = min((secs for secs in latencies if secs is not None), default=None)
        elif isinstance(event, Stepped):
            for call in event.calls:
                (self._calls if call.role == "regular" else self._alterations)[call.model] += 1


class FollowedModel:
    """A whole model. Its kernels have runs of their own in its directory, and are known once these have begun."""

    def __init__(self, directory: Path, name: str, budget: int) -> None:
        self._directory = directory
        self._name = name
        self._budget = budget
        self._kernels: dict[Path, FollowedSearch] = {}

    def read(self) -> list[Standing]:
        """The model; until it is finished, then its kernels that are tuned, as far as they are known."""
        try:
            whole = json.loads((self._directory / WHOLE_MODEL).read_text())
        except OSError:  # as of a search
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
            begun=any(kernel.begun for kernel in kernels),
            finished=bool(whole),
        )
        return [model] if model.finished else [model, *(kernel for kernel in kernels if kernel.samples)]


def followed_search(config: Config) -> FollowedSearch:
    """The search of this configuration."""
    return FollowedSearch(run_directory(config.results, config.experiment, config.run), config.run, config.samples)


def followed_model(config: Config) -> FollowedModel:
    """The whole model of this configuration."""
    return FollowedModel(run_directory(config.results, config.experiment, config.run), config.run, config.samples)
