"""Searches compared at equal samples: the runs of one workload and seed go forward together, batch by batch.

Each search in turn is advanced to the end of its next measured batch, so whatever the machine does hits all of them
alike; programs that several of them propose are measured once. The runs are ordinary ones: they resume, and they replay
from their recordings with the override ``record=replay``, then as many groups side by side as there are cores.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from colt_pipeline.app import mark
from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import BudgetError, ColtError, ConfigError
from colt_pipeline.job import Job, batches, write_outputs
from colt_pipeline.measurement.measurer import Measurer
from colt_pipeline.records import LIMIT
from colt_pipeline.runs.rundir import RunDir
from colt_pipeline.stack import usable_cores
from colt_pipeline.workloads.workload import Workload
from stages.benchmarks import Row

T = TypeVar("T")
Connect = Callable[[Workload], Measurer]

SEARCHES: dict[str, tuple[str, ...]] = {
    "colt": ("search=colt",),
    "paper": ("search=paper",),
    "official_code": ("search=official_code",),
    "evolutionary": ("search=evolutionary",),
    "mcts_no_llm": ("search=mcts_no_llm",),
    "random_proposer": ("search=random_proposer",),
    "router_uniform": ("search=router_uniform",),
    "no_course_alteration": ("search=no_course_alteration",),
    "single_small": ("search=colt", "search.name=single_small", "model_set=small"),
    "single_large": ("search=colt", "search.name=single_large", "model_set=large"),
}
"""Label -> Hydra overrides: what is compared unless the command line says otherwise."""
VARIANTS: dict[str, tuple[str, ...]] = {
    f"lambda_{value}": ("search=colt", f"search.name=lambda_{value}", f"search.lambda_={value}")
    for value in (0.0, 0.2, 0.5, 0.8)
}
"""The same, of what is compared only when asked for: one of them is colt itself."""

_FACTS = (
    *("workload", "seed", "search", "model_set", "samples", "stopped", "regular_calls", "course_alterations"),
    *("measurement", "baseline_secs", "best_secs", "speedup"),
)


@dataclass(frozen=True)
class Options:
    """What is compared."""

    results: Path
    experiment: str
    workloads: tuple[str, ...]
    model_set: str
    candidates: int
    searches: tuple[str, ...]
    """Rows of the tables above, or names of conf/search."""
    seeds: tuple[int, ...]
    overrides: tuple[str, ...] = ()
    """For Hydra."""


class UnfinishedError(ColtError):
    """Some runs failed; the others are finished."""


def rows(options: Options, connect: Connect | None = None) -> list[Row]:
    """One row per run, from its summary; `connect` replaces the measurer (tests do so).

    Raises:
        ConfigError: no such search or configuration.
        UnfinishedError: some runs failed, each with a message of its own; all others are finished.
    """
    groups = [
        {label: _config(options, label, workload, seed) for label in options.searches}
        for workload in options.workloads
        for seed in options.seeds
    ]
    configs = [config for group in groups for config in group.values()]
    _all_different(configs)
    clock = _Clock(sum(config.samples for config in configs if not _finished(config)))
    if any(config.record.mode != "replay" for config in configs):
        failed = [name for group in groups for name in _together(group, clock, connect)]
    else:
        # Nothing is measured, so nothing is disturbed. Not by fork: TVM has threads.
        with ProcessPoolExecutor(usable_cores(), get_context("spawn")) as processes:
            failed = [name for names in processes.map(_replayed, groups) for name in names]
    if failed:
        raise UnfinishedError(f"{len(failed)} of {len(configs)} runs failed; the same command tries only them again")
    return [_row(config) for config in configs]


def rounds(runs: Mapping[str, Iterator[T]]) -> Iterator[dict[str, T]]:
    """Advance all iterators by one element, again and again, until all are at their end.

    Yields:
        Per round, what each gave, in the order of its turns. A round begins one run later than the one before it.
    """
    names = list(runs)
    while names:
        given = {}
        for name in tuple(names):
            try:
                given[name] = next(runs[name])
            except StopIteration:
                names.remove(name)
        if given:
            yield given
        names = [*names[1:], *names[:1]]


class _Clock:
    """How long the samples that are left will take, all runs together."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._measured = 0
        self._start = time.monotonic()

    def count(self, off: int, measured: int) -> None:
        """`off` samples less are left, `measured` of them because they were measured (or replayed) now."""
        self._left -= off
        self._measured += measured

    def __str__(self) -> str:
        elapsed = time.monotonic() - self._start
        left = f"{elapsed / self._measured * self._left:.0f} s" if self._measured else "unknown"
        return f"elapsed {elapsed:.0f} s  ETA {left}"


def _replayed(group: Mapping[str, Config]) -> list[str]:
    return _together(group, _Clock(sum(config.samples for config in group.values())), None)


def _together(group: Mapping[str, Config], clock: _Clock, connect: Connect | None) -> list[str]:
    """Run what is not finished of one workload and seed; returns the names of the runs that failed."""
    failed: list[str] = []
    with ExitStack() as cleanup:
        runs = {
            label: cleanup.enter_context(closing(_run(config, clock, failed, connect)))
            for label, config in group.items()
        }
        for jobs in rounds(runs):
            config = next(iter(jobs.values())).config
            shown = "  ".join(f"{label} {_standing(jobs[label])}" for label in group if label in jobs)
            print(f"{config.workload.name} seed {config.seed}  {shown}  {clock}", file=sys.stderr, flush=True)
    return failed


def _run(config: Config, clock: _Clock, failed: list[str], connect: Connect | None) -> Generator[Job, None, None]:
    """One run to its end unless it is finished; yields its job after each batch. A failure is said, and noted."""
    seen = 0
    try:
        if _finished(config):
            seen = config.samples  # none is left
            RunDir(_summary(config).parent, config.identity())  # finished, but is it this run?
            return
        with assemble(config, connect) as job:
            stopped = None
            try:
                for batch in batches(job):
                    clock.count(len(job.state.samples) - seen, len(batch.samples))
                    seen = len(job.state.samples)
                    yield job
            except BudgetError as error:
                print(f"{config.run}  {error}", file=sys.stderr, flush=True)
                stopped = LIMIT
            write_outputs(job, stopped)
    except ColtError as error:
        failed.append(config.run)
        print(f"error: {config.run}: {error}", file=sys.stderr, flush=True)
    clock.count(config.samples - seen, 0)


def _standing(job: Job) -> str:
    """Samples and best speedup of a run, marked if it is no measured one."""
    assert job.state.started is not None
    speedup = "-" if job.state.speedup is None else f"{job.state.speedup:.2f}x{mark(job.state.started.measurement)}"
    return f"{len(job.state.samples)}/{job.config.samples} {speedup}"


def _config(options: Options, label: str, workload: str, seed: int) -> Config:
    chosen = [f"experiment={options.experiment}", f"workload={workload}", f"seed={seed}"]
    chosen += [f"model_set={options.model_set}", f"results={options.results}"]
    chosen += [f"samples={options.candidates}"] if options.candidates else []
    # The row comes after the command line's choices, for it may fix one of them; overrides have the last word.
    return composed([*chosen, *(SEARCHES | VARIANTS).get(label, (f"search={label}",)), *options.overrides])


def _all_different(configs: Sequence[Config]) -> None:
    """Two rows that give the same run are no comparison, and would fight for its directory."""
    (name, number), *_ = Counter(config.run for config in configs).most_common(1)
    if number > 1:
        raise ConfigError(f"{number} of the runs have the name {name}; give each search its own search.name")


def _summary(config: Config) -> Path:
    """It is written last, so it tells a finished run."""
    return Path(config.results) / "runs" / config.experiment / config.run / "summary.json"


def _finished(config: Config) -> bool:
    """Not only up to a limit of its budget."""
    path = _summary(config)
    return path.exists() and json.loads(path.read_text())["stopped"] != LIMIT


def _row(config: Config) -> Row:
    summary: Row = json.loads(_summary(config).read_text())
    return {name: summary[name] for name in _FACTS}
