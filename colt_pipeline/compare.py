"""Compare searches at equal samples: ``python -m colt_pipeline.compare experiment=search``.

The runs are those that ``python -m colt_pipeline.tune`` makes of the same arguments, but those of one workload and seed
go forward together: each in turn is advanced to the end of its next measured batch, so whatever the machine does hits
all of them alike, and programs that several of them propose are measured once. The runs are ordinary ones: they resume,
and with ``record=replay`` they replay, as many side by side as there are cores.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, TypeVar

from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from colt_pipeline.app import INTERRUPTED, interruptible, shown_speedup, summary_table, with_message
from colt_pipeline.config.compose import runs, strict_overrides_of
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ColtError, ConfigError, UnfinishedError
from colt_pipeline.job import Job, batches_and_outputs, read_summary
from colt_pipeline.progress.standing import followed_search
from colt_pipeline.progress.terminal import on_terminal
from colt_pipeline.progress.watch import watched
from colt_pipeline.records import LIMIT
from colt_pipeline.runs.layout import CALLS, CURVE, TURNS, run_directory
from colt_pipeline.runs.rundir import RunDir
from colt_pipeline.stack import usable_cores
from colt_pipeline.tools.forecast import announce

if TYPE_CHECKING:
    from colt_pipeline.measurement.measurer import MakeMeasurer

T = TypeVar("T")


def compare(configs: Sequence[Config], make_measurer: MakeMeasurer | None = None) -> list[str]:
    """Bring all runs to their end; `make_measurer` replaces the device's (tests do so).

    Returns:
        The names of the runs that failed, each of which has said why; all others are finished.

    Raises:
        ConfigError: two of them are the same run.
        UnfinishedError: a process that replayed has died.
    """
    _all_different(configs)
    if all(config.record.mode == "replay" for config in configs):
        # Nothing is measured, so nothing is disturbed.
        try:
            names = Parallel(usable_cores())(delayed(_replayed)(config, os.getpid()) for config in configs)
        except TerminatedWorkerError:
            raise UnfinishedError(
                "a process that replayed was killed, perhaps for want of memory; the same command goes on"
            ) from None
        return [name for failed in names for name in failed]
    clock = _Clock(sum(config.samples for config in configs if not _finished(config)))
    return [name for group in groups(configs) for name in _together(group, clock, make_measurer)]


def groups(configs: Sequence[Config]) -> list[list[Config]]:
    """The runs by what makes them comparable: workload, target and seed, in the order of their first runs."""
    found: defaultdict[tuple[str, str, int], list[Config]] = defaultdict(list)
    for config in configs:
        found[config.workload.name, config.target.name, config.seed].append(config)
    return list(found.values())


def rounds(turns: Mapping[str, Iterator[T]]) -> Iterator[dict[str, T]]:
    """Advance all iterators by one element, again and again, until all are at their end.

    Yields:
        Per round, what each gave, in the order of its turns. A round begins one iterator later than the one before it.
    """
    names = list(turns)
    while names:
        given = {}
        for name in tuple(names):
            try:
                given[name] = next(turns[name])
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


def _replayed(config: Config, parent: int) -> list[str]:
    """As `_together`, of one run; `parent`: the process that asked for it, this one where there is one core."""
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    return _together([config], _Clock(config.samples), None)


def _together(group: Sequence[Config], clock: _Clock, make_measurer: MakeMeasurer | None) -> list[str]:
    """Run what is not finished of one group; returns the names of the runs that failed."""
    failed: list[str] = []
    with ExitStack() as cleanup:
        turns = {
            config.run: cleanup.enter_context(closing(_run(config, clock, failed, make_measurer))) for config in group
        }
        for jobs in rounds(turns):
            if on_terminal():
                continue  # a table has it
            shown = "  ".join(
                f"{_name(config)} {_standing(jobs[config.run])}" for config in group if config.run in jobs
            )
            first = group[0]
            print(f"{first.workload.name} seed {first.seed}  {shown}  {clock}", file=sys.stderr, flush=True)
    return failed


def _run(
    config: Config, clock: _Clock, failed: list[str], make_measurer: MakeMeasurer | None
) -> Generator[Job, None, None]:
    """One run to its end unless it is finished; yields its job after each batch. A failure is said, and noted."""
    seen = 0
    try:
        if _finished(config):
            seen = config.samples  # none is left
            # It is finished, but is it this run?
            RunDir(run_directory(config.results, config.experiment, config.run), config.identity())
            return
        from colt_pipeline.assemble import assemble  # it imports TVM: not for --help, or where all is finished

        with assemble(config, make_measurer) as job:
            for batch in batches_and_outputs(job):
                clock.count(len(job.state.samples) - seen, len(batch.samples))
                seen = len(job.state.samples)
                yield job
    except ColtError as error:
        failed.append(config.run)
        print(f"error: {config.run}: {error}", file=sys.stderr, flush=True)
    clock.count(config.samples - seen, 0)


def _name(config: Config) -> str:
    """What tells a run from the others of its group."""
    return f"{config.search.name}({config.model_set})" if config.search.asks_models else config.search.name


def _standing(job: Job) -> str:
    """Samples and best speedup of a run, marked if its latencies are not measured."""
    assert job.state.started is not None
    speedup = shown_speedup(job.state.speedup, job.state.started.measurement)
    return f"{len(job.state.samples)}/{job.config.samples} {speedup}"


def _all_different(configs: Sequence[Config]) -> None:
    """Two equal runs cannot be compared, and would fight for one directory."""
    name, number = Counter(config.run for config in configs).most_common(1)[0]
    if number > 1:
        raise ConfigError(f"{number} of the runs have the name {name}; give each search its own search.name")


def _finished(config: Config) -> bool:
    """Whether the run is at its end, not only at a limit of its budget, and has written all that others read."""
    directory, summary = run_directory(config.results, config.experiment, config.run), read_summary(config)
    whole = all((directory / name).exists() for name in (CURVE, CALLS, TURNS))
    return whole and summary is not None and summary["stopped"] != LIMIT


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Run what is not finished, print the table; exit status 1 with a message if a run failed, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\nIt takes the arguments of python -m colt_pipeline.tune.")
        return 0
    configs = runs(strict_overrides_of(arguments))
    announce(configs)
    try:
        with watched(configs, followed_search), interruptible():
            failed = compare(configs)
    except KeyboardInterrupt:
        print("interrupted; the same command resumes where it stopped", file=sys.stderr)
        return INTERRUPTED
    finished = (read_summary(config) for config in configs if config.run not in failed)
    if summaries := [summary for summary in finished if summary is not None]:
        print(summary_table(summaries))
    if failed:
        raise UnfinishedError(f"{len(failed)} of {len(configs)} runs failed; the same command tries only them again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
