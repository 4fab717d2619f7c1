"""Compare searches at equal sample counts: ``python -m colt_pipeline.compare experiment=search``.

The runs are the same as with ``python -m colt_pipeline.tune``, but those of one workload and seed advance together:
each in turn runs to the end of its next measured batch, so that changes of the machine affect all of them alike, and
programs proposed by several of them are measured once. They are ordinary runs: they can be resumed and, with
``record=replay``, replayed, as many in parallel as there are cores.
"""

from __future__ import annotations

import math
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

from colt_pipeline.app import INTERRUPTED, escaping, interruptible, shown_speedup, summary_table, with_message
from colt_pipeline.config.arguments import sweep_command_line
from colt_pipeline.config.compose import runs
from colt_pipeline.config.schema import Config
from colt_pipeline.config.spaces import check_one_space
from colt_pipeline.errors import ColtError, ConfigError, UnfinishedError
from colt_pipeline.job import Job, batches_and_outputs, confirmation, read_summary
from colt_pipeline.llm.unusable import note_unusable_models
from colt_pipeline.progress.standing import followed_search
from colt_pipeline.progress.terminal import table_is_shown
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
    """Finish all runs; `make_measurer` replaces the device's, for tests.

    Returns:
        The names of the runs that failed, for reasons already printed; all others have finished.

    Raises:
        ConfigError: two of the runs are the same, searches differ in their design spaces or in what a sample is, or a
            run with a limit in minutes makes calls at the same time.
        UnfinishedError: a replaying process died.
    """
    check_one_space(configs)
    _check_one_unit(configs)
    _all_different(configs)
    if all(config.record.mode == "replay" for config in configs):
        # Nothing is measured, so nothing is disturbed.
        try:
            names = Parallel(usable_cores())(delayed(_replayed)(config, os.getpid()) for config in configs)
        except TerminatedWorkerError:
            raise UnfinishedError(
                "a replaying process was killed, perhaps for lack of memory; the same command continues"
            ) from None
        return [name for failed in names for name in failed]
    _all_timed(configs)
    undone = [config for config in configs if not _done(config)]
    limits = [config.minutes for config in undone if config.minutes is not None]
    most_secs = 60 * sum(limits) if len(limits) == len(undone) else None
    clock = _Clock(sum(config.samples for config in undone), most_secs)
    return [name for group in groups(configs) for name in _together(group, clock, make_measurer)]


def groups(configs: Sequence[Config]) -> list[list[Config]]:
    """The runs grouped by workload, target and seed, which makes them comparable, in the order of their first runs."""
    found: defaultdict[tuple[str, str, int], list[Config]] = defaultdict(list)
    for config in configs:
        found[config.workload.name, config.target.name, config.seed].append(config)
    return list(found.values())


def rounds(turns: Mapping[str, Iterator[T]]) -> Iterator[dict[str, T]]:
    """Repeatedly advance all iterators by one element, until all are exhausted.

    Yields:
        Per round, what each returned, in the order of turns. Each round starts one iterator later than the last.
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
    """Estimates how long the remaining samples of all runs will take."""

    def __init__(self, left: int, most_secs: float | None = None) -> None:
        """Start.

        Args:
            left: samples of all runs.
            most_secs: how long all runs may take, if they have a limit.
        """
        self._left = left
        self._most_secs = math.inf if most_secs is None else most_secs
        self._measured = 0
        self._start = time.monotonic()

    def count(self, off: int, measured: int) -> None:
        """Reduce the remaining samples by `off`, of which `measured` were measured (or replayed) just now."""
        self._left -= off
        self._measured += measured

    def __str__(self) -> str:
        elapsed = time.monotonic() - self._start
        most = max(0.0, self._most_secs - elapsed)
        left = f"{min(elapsed / self._measured * self._left, most):.0f} s" if self._measured else "unknown"
        return f"elapsed {elapsed:.0f} s  ETA {left}"


def _replayed(config: Config, parent: int) -> list[str]:
    """Like `_together`, for one run; `parent` is the requesting process (this one if there is only one core)."""
    if os.getpid() != parent:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends this process
    with escaping():  # not as a decorator, which joblib could not send to the process
        return _together([config], _Clock(config.samples), None)


def _together(group: Sequence[Config], clock: _Clock, make_measurer: MakeMeasurer | None) -> list[str]:
    """Run the unfinished runs of a group; return the names of those that failed."""
    failed: list[str] = []
    with ExitStack() as cleanup:
        turns = {
            config.run: cleanup.enter_context(closing(_run(config, clock, failed, make_measurer))) for config in group
        }
        for jobs in rounds(turns):
            if table_is_shown():
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
    """Finish one run, yielding its job after each batch; a failure is printed and added to `failed`."""
    seen = 0
    try:
        if _done(config):
            seen = config.samples  # none remains
            # It has finished, but is it this run?
            RunDir(run_directory(config.results, config.experiment, config.run), config.identity())
            return
        from colt_pipeline.assemble import assemble  # imports TVM, which --help does not need

        with assemble(config, make_measurer) as job:
            for batch in batches_and_outputs(job):
                clock.count(job.state.spent - seen, len(batch.samples))
                seen = job.state.spent
                yield job
            if (words := confirmation(job)) is not None:
                print(f"{config.run}  {words}", file=sys.stderr, flush=True)
            note_unusable_models(config.run, job.journal.events, job.cassette.reply)
    except ColtError as error:
        failed.append(config.run)
        print(f"error: {config.run}: {error}", file=sys.stderr, flush=True)
    clock.count(config.samples - seen, 0)


def _name(config: Config) -> str:
    """What distinguishes a run from others in its group."""
    return f"{config.search.name}({config.model_set})" if config.search.asks_models else config.search.name


def _standing(job: Job) -> str:
    """Samples and best speedup of a run, marked unless its latencies are measured."""
    assert job.state.started is not None
    speedup = shown_speedup(job.state.speedup, job.state.started.measurement)
    return f"{job.state.spent}/{job.config.samples} {speedup}"


def _check_one_unit(configs: Sequence[Config]) -> None:
    """Check that a sample of one search is a sample of the others."""
    units = {config.search.name: config.search.sample for config in configs}
    if len(set(units.values())) > 1:
        raise ConfigError(
            "searches are compared at equal numbers of samples, but a sample is not the same in these: "
            f"{', '.join(f'{search}: a {unit}' for search, unit in units.items())}. Say what it is in all of them: "
            "search.sample=program"
        )


def _all_different(configs: Sequence[Config]) -> None:
    """Refuse equal runs, which would compete for one directory."""
    name, number = Counter(config.run for config in configs).most_common(1)[0]
    if number > 1:
        raise ConfigError(
            f"{number} of the runs have the name {name}; give each search its own search.name, and each space its own "
            "space.run_name"
        )


def _all_timed(configs: Sequence[Config]) -> None:
    """Refuse limits in minutes with concurrent calls, which would go on, uncounted, in the other runs' turns."""
    for config in configs:
        if config.minutes is not None and config.llm.concurrency > 1:
            raise ConfigError(
                f"minutes={config.minutes:g} with llm.concurrency={config.llm.concurrency}: calls would go on in the "
                "other runs' turns, so their minutes would not be alike; leave out one of the two"
            )


def _done(config: Config) -> bool:
    """Whether nothing remains: the run has finished, rather than reached a limit of its budget, with all its outputs.

    A replay is never done before it has begun: it checks the journal from the first event.
    """
    if config.record.mode == "replay":
        return False
    directory, summary = run_directory(config.results, config.experiment, config.run), read_summary(config)
    whole = all((directory / name).exists() for name in (CURVE, CALLS, TURNS))
    return whole and summary is not None and summary["stopped"] != LIMIT


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Run what is unfinished and print the table; exit status 1 with a message if a run failed, 130 after Ctrl-C."""
    usage = f"{__doc__}\nTakes the same arguments as python -m colt_pipeline.tune."
    if (line := sweep_command_line(argv, usage)) is None:
        return 0
    configs = runs(line.overrides, line.config_dir)
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
        raise UnfinishedError(f"{len(failed)} of {len(configs)} runs failed; the same command retries only these")
    return 0


if __name__ == "__main__":
    sys.exit(main())
