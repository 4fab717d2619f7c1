"""Tune a workload: ``python -m colt_pipeline.tune -m model_set=2,4,8 target=cpu``.

One job is one search run; Hydra's ``-m`` makes many. A run that was interrupted goes on when the same command is given
again.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from colt_pipeline.assemble import Job, assemble
from colt_pipeline.config.checks import load
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import BudgetError, ColtError
from colt_pipeline.records import EMBEDDED, LIMIT
from colt_pipeline.runs.events import Measured
from colt_pipeline.search import outcome
from colt_pipeline.search.loop import advance, search
from colt_pipeline.tools.forecast import announce

_finished: list[dict[str, Any]] = []
"""Summaries of the runs of this process, for the table at the end."""


_signals: list[int] = []
"""Signals that ask for an end. An exception alone may get lost: Python ignores it where an object is being deleted."""


def _interrupt(number: int, _: object) -> None:
    _signals.append(number)
    raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise KeyboardInterrupt, at the latest after the next event of a search."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(config: Config) -> dict[str, Any]:
    """Search (or resume, or replay), write the outputs, return the summary with what was asked and measured live.

    Raises:
        ColtError: the run cannot go on; it stays resumable.
    """
    if config.search.cost_model == "xgb" and config.samples <= config.search.warmup_samples:
        print(
            f"note: with search.warmup_samples={config.search.warmup_samples} and samples={config.samples} the cost "
            "model predicts noise throughout, as TVM's does; lower search.warmup_samples to let it learn",
            file=sys.stderr,
        )
    with assemble(config) as job:
        print(f"{config.run}  {job.source}", file=sys.stderr, flush=True)
        start = time.perf_counter()
        resumed_at = sum(len(e.samples) for e in job.journal.events if isinstance(e, Measured))
        stopped = None
        try:
            for _ in batches(job):
                _progress(job, time.perf_counter() - start, resumed_at)
        except BudgetError as error:
            print(f"{config.run}  {error}", file=sys.stderr, flush=True)
            stopped = LIMIT
        if config.record.mode == "replay" and (unused := job.cassette.unused(job.state.occurrences)):
            print(f"note: {unused} answers of {job.cassette.path} were not used by this run", file=sys.stderr)
        return {**write_outputs(job, stopped), "asked": job.asked, "measured": job.evaluator.measured}


def batches(job: Job, folded: bool = False) -> Generator[Measured, None, None]:
    """Search (or resume, or replay) to the end; yields after each measured batch.

    Meanwhile the search stands still, and so does its clock: the lap ``total`` of its watch. `folded`: the state is
    already where the journal ends.

    Raises:
        ColtError: the run cannot go on; it stays resumable.
        KeyboardInterrupt: see `interruptible`.
    """
    events = (advance if folded else search)(job.world, job.journal, job.state)
    while True:
        with job.world.watch.lap("total"):
            event = next(events, None)
        if _signals:
            raise KeyboardInterrupt
        if event is None:
            return
        if isinstance(event, Measured):
            yield event


def _progress(job: Job, elapsed_secs: float, resumed_at: int) -> None:
    """One line per measured batch: samples, best speedup, calls per model, time left."""
    state, config = job.state, job.config
    done = len(state.samples)
    left = elapsed_secs / (done - resumed_at) * (config.samples - done)
    calls = " ".join(f"{name}:{s.regular_calls}+{s.course_alterations}" for name, s in state.stats.items())
    assert state.started is not None
    speedup = "-" if state.speedup is None else f"{state.speedup:.2f}x{mark(state.started.measurement)}"
    who = "calls of stand-ins for" if EMBEDDED in {m.provider for m in job.world.models} else "calls"
    llm = f"{who} {calls}" if calls else "no LLM"
    spent = job.budget.spent
    llm += f"  spent {spent.calls} requests, {spent.tokens} tokens" if spent.calls else ""
    llm += f", {spent.usd:.4f} USD" if spent.usd else ""
    print(
        f"{config.run}  {done}/{config.samples} samples  best {speedup}  {llm}  ETA {left:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def write_outputs(job: Job, stopped: str | None = None) -> dict[str, Any]:
    """Write the run directory's outputs from the state of a search that is at its end; returns the summary.

    `stopped`: why it ends here although it could go on.

    Raises:
        RunDirError: the directory is unwritable or the disk full.
    """
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
    }
    largest = world.largest.name if world.models else config.largest
    costs = job.costs
    summary = {**facts, **outcome.summary(state, world.models, largest, job.workload.flop, costs)}
    account = job.spent
    summary |= {"stopped": stopped or summary["stopped"], "requests": account.calls}
    summary |= {"spent_tokens": account.tokens, "spent_usd": account.usd}
    rundir.write_csv("curve.csv", outcome.CURVE_COLUMNS, outcome.curve(state))
    rundir.write_csv("calls.csv", outcome.CALL_COLUMNS, outcome.calls(state, world.models, largest, costs))
    if state.best is not None:
        best = world.program(state.programs[state.best.program])
        title = f"# {state.best.latency_secs:.6g} s, {summary['measurement']} ({summary['device']})"
        rundir.write_text("best.txt", "\n".join([title, *best.history, "", best.code]) + "\n")
        of_best = {"workload_hash": job.workload.hash, "target": job.target, "measurement": summary["measurement"]}
        rundir.write_json("best.json", {**of_best, "trace": json.loads(best.trace_json)})
    if job.asked or job.evaluator.measured:
        laps = {name: round(seconds, 3) for name, seconds in sorted(world.watch.seconds.items())}
        # Wall-clock times, so that runs side by side can be told from one another.
        on_device = [[round(begin, 3), round(end, 3)] for begin, end in job.evaluator.intervals]
        rundir.write_json("timing.json", {**laps, "on_device": on_device})
    # Last: a directory with a summary is a finished run.
    rundir.write_json("summary.json", summary)
    return summary


def mark(measurement: str) -> str:
    """What follows a number that was not measured."""
    return "" if measurement == "measured" else f" ({measurement})"


def _table(rows: list[dict[str, Any]]) -> str:
    """The summary table: one line per run; "live" counts the answers and programs that were not replayed."""
    cells = [
        ("run", "samples", "errors", "baseline", "best", "speedup", "calls", "altered", "faults", "live", "stopped")
    ]
    for s in rows:
        ending = mark(s["measurement"])
        best = "-" if s["best_secs"] is None else f"{s['best_secs'] * 1e3:.3f} ms{ending}"
        speedup = "-" if s["speedup"] is None else f"{s['speedup']:.2f}x{ending}"
        counts = (s["regular_calls"], s["course_alterations"], sum(s["rejections"].values()))
        live = f"{s['asked']}+{s['measured']}"
        errors = " ".join(f"{kind}:{number}" for kind, number in s["sample_errors"].items()) or "-"
        measured = (str(s["samples"]), errors, f"{s['baseline_secs'] * 1e3:.1f} ms{ending}", best, speedup)
        cells.append((s["run"], *measured, *map(str, counts), live, str(s["stopped"])))
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    backends = ", ".join(sorted({s["llm_backend"] for s in rows}))
    stand_in = " (stand-ins for the named models)" if EMBEDDED in backends else ""
    latencies = ", ".join(sorted({f"{s['measurement']} ({s['device']})" for s in rows}))
    lines.append(f"LLM backend: {backends}{stand_in}; latencies: {latencies}")
    checked = {s["rtol"] for s in rows if s["measurement"] == "measured"}
    if checked:
        allowed = ", ".join(f"{rtol:g}" for rtol in sorted(checked))
        lines.append(f"every measured program was checked against the NumPy reference: relative error <= {allowed}")
    return "\n".join(lines)


def attempt(work: Callable[[Config], None], raw: DictConfig) -> None:
    """One of Hydra's jobs; a failure is one message, and exit status 1 (of a sweep: at its end)."""
    try:
        work(load(raw))
    except ColtError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        if HydraConfig.get().mode == RunMode.RUN:
            sys.exit(1)
        # A sweep goes on with its other jobs, in whichever process they run, and fails at its end.
        raise CompactHydraException(f"error: {error}") from None


def command(jobs: Callable[[], None]) -> None:
    """Run Hydra's jobs; exit status 1 if one failed, 130 after Ctrl-C or SIGTERM."""
    logging.captureWarnings(True)
    try:
        with interruptible():
            jobs()
    except KeyboardInterrupt:
        print("interrupted; the same command resumes where it stopped", file=sys.stderr)
        sys.exit(130)


@hydra.main(config_path="../conf", config_name="config", version_base="1.3")
def _job(raw: DictConfig) -> None:
    attempt(lambda config: _finished.append(run(config)), raw)


def main() -> None:
    """Say what live calls will take, run Hydra's jobs, print the table of those of this process; see `command`."""
    # hydra/launcher=ray: Ray would report its use to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    announce(sys.argv[1:])
    try:
        command(_job)
    finally:
        if _finished:
            print(_table(_finished))


if __name__ == "__main__":
    main()
