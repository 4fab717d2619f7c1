"""A run in progress: its objects, its batches, what it prints and what it writes."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from colt_pipeline.app import raise_if_interrupted, shown_speedup
from colt_pipeline.config.schema import AS_MANY_AS_FIT, Config
from colt_pipeline.config.spaces import summarized
from colt_pipeline.errors import BudgetError
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.measurement.confirm import Confirmed, candidates, confirm, confirmed
from colt_pipeline.progress.terminal import table_is_shown
from colt_pipeline.records import EMBEDDED, LIMIT
from colt_pipeline.runs.budget import Budget, Spent, spent
from colt_pipeline.runs.clock import Clock
from colt_pipeline.runs.costs import Cost, Prices, costs, listed_prices, read_account, recorded_prices
from colt_pipeline.runs.events import Event, Measured
from colt_pipeline.runs.journal import Journal
from colt_pipeline.runs.layout import BEST, BEST_TEXT, CALLS, CURVE, SPENDING, SUMMARY, TIMING, TURNS, run_directory
from colt_pipeline.runs.rundir import RunDir
from colt_pipeline.runs.summary import SHOWN
from colt_pipeline.runs.summary import read_summary as read_finished
from colt_pipeline.search import outcome
from colt_pipeline.search.loop import advance, fold
from colt_pipeline.search.state import State
from colt_pipeline.search.world import World

if TYPE_CHECKING:  # these import TVM, which takes seconds; commands import this module before they know that they run
    from colt_pipeline.measurement.evaluator import Evaluator
    from colt_pipeline.prediction.evolution import Evolution
    from colt_pipeline.space import Program
    from colt_pipeline.workloads.workload import Workload


@dataclass(frozen=True)
class Job:
    """Everything one run needs."""

    config: Config
    workload: Workload
    rundir: RunDir
    journal: Journal
    state: State
    world: World[Program]
    cassette: Cassette
    budget: Budget
    clock: Clock | None
    """None without a limit in minutes."""
    prices: Prices
    """Prices from the configuration; those of the recording, if any, take precedence."""
    evolution: Evolution | None
    evaluator: Evaluator
    target: dict[str, Any]
    source: str
    """Where latencies come from, in words for the user."""

    @property
    def asked(self) -> int:
        """Number of LLM answers and batches of TVM's strategy that were obtained live."""
        return self.cassette.asked + (self.evolution.asked if self.evolution else 0)

    @property
    def costs(self) -> dict[str, Cost]:
        """Model -> what its answers cost."""
        prices = recorded_prices(self.cassette.path.parent, self.prices)
        return costs(self.journal.events, self.cassette.reply, prices)

    @property
    def spent(self) -> Spent:
        """The cost of the recording's live calls, including failed ones."""
        return spent(read_account(self.cassette.path.parent / SPENDING))

    @property
    def confirmed(self) -> list[Confirmed]:
        """What was measured again after the search, best first; empty without a confirmation."""
        return confirmed(self.evaluator.ledger, list(dict.fromkeys(sample.program for sample in self.state.samples)))

    def cold_secs(self, program: str) -> float | None:
        """A program's latency with cold caches, if that was measured."""
        again = self.evaluator.ledger.rounds(program)
        known = [secs for measurement in again for secs in measurement.cold_secs]
        return statistics.median(known) if known else None

    def wait_for_calls(self) -> None:
        """Wait for calls whose answers the search has not taken: they are paid for, and disturb measurements."""
        if self.world.in_flight is not None:
            self.world.in_flight.wait_for_all()

    def confirm(self) -> None:
        """Measure the best programs again, or what is missing of that; a replay and estimates leave it as it is."""
        assert self.state.started is not None
        if not self.evaluator.live or self.state.started.measurement != "measured":
            return
        self.wait_for_calls()
        best = candidates(self.state.samples, self.evaluator.ledger, self.config.measure.confirm)
        programs = [self.world.program(self.state.programs[key]) for key in best]
        with self.world.stopwatch.lap("confirm"):
            for _ in confirm(self.evaluator, programs):
                raise_if_interrupted()


def batches(job: Job) -> Generator[Measured, None, None]:
    """Search (or resume, or replay) to the end, yielding after each measured batch.

    Between batches the search is paused, and so is its clock, the lap ``total`` of its stopwatch.

    Raises:
        BudgetError: a limit was reached.
        ColtError: the run cannot continue; it can be resumed.
        KeyboardInterrupt: see `app.interruptible`.
    """
    with job.world.stopwatch.lap("total"):
        fold(job.world, job.journal, job.state)
    _check_clock(job)
    for batch in further_batches(job):
        if job.clock is not None:
            job.clock.tick(len(job.state.samples), job.world.stopwatch.seconds["total"])
        yield batch
        _check_clock(job)


def _check_clock(job: Job) -> None:
    """Check that there is time for a further batch. A journal that goes on is replayed to its end."""
    goes_on = len(job.journal.events) < len(job.journal.recorded)
    ended = job.state.finished is not None or job.state.spent >= job.config.samples
    if job.clock is not None and not ended and not goes_on:
        job.clock.check(len(job.state.samples))


def further_batches(job: Job) -> Generator[Measured, None, None]:
    """Like `batches`, for a job whose state is already at the end of its journal, and without a limit in minutes."""
    return _measured(job, advance(job.world, job.journal, job.state))


def batches_and_outputs(job: Job) -> Generator[Measured, None, None]:
    """Like `batches`, then confirm the best programs and write the outputs, also if a limit ended the run."""
    stopped = None
    try:
        yield from batches(job)
    except BudgetError as error:
        print(f"{job.config.run}  {error}", file=sys.stderr, flush=True)
        stopped = LIMIT
        job.journal.check_end()
    job.confirm()
    write_outputs(job, stopped)


def _measured(job: Job, events: Iterator[Event]) -> Generator[Measured, None, None]:
    while True:
        with job.world.stopwatch.lap("total"):
            event = next(events, None)
        raise_if_interrupted()
        if event is None:
            return
        if isinstance(event, Measured):
            yield event


def progress(job: Job, elapsed_secs: float, resumed_at: int) -> None:
    """One line per measured batch: samples, best speedup, calls per model, time left."""
    if table_is_shown():
        return  # a table has it
    state, config = job.state, job.config
    done, of = state.spent, "" if config.samples == AS_MANY_AS_FIT else f"/{config.samples}"
    left = elapsed_secs / max(1, done - resumed_at) * (config.samples - done)
    if job.clock is not None:
        left = min(left, job.clock.secs_left)
    calls = " ".join(f"{name}:{s.regular_calls}+{s.course_alterations}" for name, s in state.stats.items())
    assert state.started is not None
    speedup = shown_speedup(state.speedup, state.started.measurement)
    who = "calls of stand-ins for" if EMBEDDED in {m.provider for m in job.world.models} else "calls"
    llm = f"{who} {calls}" if calls else "no LLM"
    llm += f"  {len(state.awaited)} awaited" if state.awaited else ""
    spent = job.budget.spent
    llm += f"  spent {spent.calls} requests, {spent.tokens} tokens" if spent.calls else ""
    llm += f", {spent.usd:.4f} USD" if spent.usd else ""
    unit = "calls" if state.counts_calls else "samples"
    print(
        f"{config.run}  {done}{of} {unit}  best {speedup}  {llm}  ETA {left:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def write_outputs(job: Job, stopped: str | None = None) -> dict[str, Any]:
    """Write the run directory's outputs and return the summary.

    Args:
        job: a run whose search has ended.
        stopped: why it ended although it could continue, if so.

    Raises:
        RunDirError: the directory is unwritable or the disk is full.
    """
    job.wait_for_calls()
    config, state, world, rundir = job.config, job.state, job.world, job.rundir
    facts = {
        "experiment": config.experiment,
        "run": config.run,
        "workload": config.workload.name,
        "target": config.target.name,
        "search": config.search.name,
        "model_set": config.model_set,
        "largest": config.largest,
        "seed": config.seed,
        "budget_samples": config.samples,
        "warmup_samples": config.search.warmup_samples,
        "rtol": job.workload.rtol,
        **summarized(config.space),
    }
    largest = world.largest.name if world.models else config.largest
    costs = job.costs
    summary = {**facts, **outcome.summary(state, world.models, largest, job.workload.flop, costs)}
    account = job.spent
    summary |= {"stopped": stopped or summary["stopped"], "requests": account.calls}
    summary |= {"spent_tokens": account.tokens, "spent_usd": account.usd, "timed_secs": job.evaluator.timed_secs}
    if best_again := job.confirmed:
        summary |= {f"confirmed_{name}": value for name, value in _of_confirmation(best_again).items()}
        if (cold_secs := job.cold_secs(best_again[0].program)) is not None:
            summary["confirmed_cold_secs"] = cold_secs
    rundir.write_csv(CURVE, outcome.CURVE_COLUMNS, outcome.curve(state))
    calls = outcome.calls(state, world.models, largest, costs, listed_prices(config))
    rundir.write_csv(CALLS, outcome.CALL_COLUMNS, calls)
    turns = outcome.turns(job.journal.events, state.counts_calls)
    rundir.write_csv(TURNS, outcome.turn_columns(turns), turns)
    if state.best is not None:
        best = world.program(state.programs[state.best.program])
        title = f"# {state.best.latency_secs:.6g} s, {summary['measurement']} ({summary['device']})"
        rundir.write_text(BEST_TEXT, "\n".join([title, *best.history, "", best.code]) + "\n")
        of_best = {"workload_hash": job.workload.hash, "target": job.target, "measurement": summary["measurement"]}
        rundir.write_json(BEST, {**of_best, "trace": json.loads(best.trace_json)})
    if job.asked or job.evaluator.measured:
        laps = {name: round(seconds, 3) for name, seconds in sorted(world.stopwatch.seconds.items())}
        # Wall-clock times, so that concurrent runs can be distinguished.
        on_device = [[round(begin, 3), round(end, 3)] for begin, end in job.evaluator.intervals]
        rundir.write_json(TIMING, {**laps, "on_device": on_device})
    # Last, because a summary marks a finished run.
    rundir.write_json(SUMMARY, summary)
    return summary


def _of_confirmation(programs: Sequence[Confirmed]) -> dict[str, Any]:
    best = programs[0]
    return {"secs": best.latency_secs, "program": best.program, "rounds": best.rounds, "programs": len(programs)}


def confirmation(job: Job) -> str | None:
    """One line about the confirmation for the terminal; None if nothing was confirmed."""
    programs, best = job.confirmed, job.state.best
    if not programs or best is None or best.latency_secs is None:
        return None
    of = f"the best of {len(programs)} programs" if len(programs) > 1 else "the only candidate"
    cold_secs = job.cold_secs(programs[0].program)
    cold = "" if cold_secs is None else f" warm, {cold_secs * 1e3:.4g} ms with cold caches, constants packed ahead"
    return (
        f"confirmed: {programs[0].latency_secs * 1e3:.4g} ms{cold}, {of} in {programs[0].rounds} rounds each "
        f"(the search's own best said {best.latency_secs * 1e3:.4g} ms)"
    )


def read_summary(config: Config) -> dict[str, Any] | None:
    """The summary of a run that has finished or reached a limit of its budget; None before that."""
    path = run_directory(config.results, config.experiment, config.run) / SUMMARY
    return read_finished(path, SHOWN) if path.exists() else None


def written_since(configs: Iterable[Config], begin: float) -> list[dict[str, Any]]:
    """The summaries of the runs that ended after `begin` (seconds since the epoch), in any process."""
    paths = (run_directory(config.results, config.experiment, config.run) / SUMMARY for config in configs)
    return [read_finished(path, SHOWN) for path in paths if path.exists() and path.stat().st_mtime >= begin]
