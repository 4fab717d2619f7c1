"""Tune a workload: ``python -m colt_pipeline.tune -m model_set=2,4,8 target=cpu``.

A job is one search run; Hydra's ``-m`` makes several. An interrupted run resumes when the same command is given again.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

import hydra
from omegaconf import DictConfig

from colt_pipeline.app import INTERRUPTED, attempt, command, escaping, message_and_exit, summary_table
from colt_pipeline.config.arguments import with_open_keys
from colt_pipeline.config.compose import CONF
from colt_pipeline.config.schema import Config
from colt_pipeline.job import Job, batches_and_outputs, confirmation, progress, written_since
from colt_pipeline.llm.unusable import note_unusable_models
from colt_pipeline.progress.standing import followed_search
from colt_pipeline.progress.watch import watched
from colt_pipeline.runs.events import spent
from colt_pipeline.tools.forecast import affordable_rounds, announced


def run(config: Config) -> None:
    """Search (or resume, or replay) and write the outputs.

    Raises:
        ColtError: the run cannot continue; it can be resumed.
    """
    from colt_pipeline.assemble import assemble  # imports TVM, which --help does not need

    first = config.search.initial_programs if config.search.sample == "call" else 0  # measured, and no samples
    if config.search.cost_model == "xgb" and config.samples + first <= config.search.warmup_samples:
        print(
            f"note: with search.warmup_samples={config.search.warmup_samples} and samples={config.samples} the cost "
            "model predicts noise throughout, as TVM's does; lower search.warmup_samples to let it learn",
            file=sys.stderr,
        )
    with assemble(config) as job:
        finish(job)


def finish(job: Job) -> None:
    """Run a job to its end, write its outputs, and print its progress."""
    config = job.config
    print(f"{config.run}  {job.source}", file=sys.stderr, flush=True)
    start = time.perf_counter()
    resumed_at = spent(job.journal.events, job.state.counts_calls)
    for _ in batches_and_outputs(job):
        progress(job, time.perf_counter() - start, resumed_at)
    if (words := confirmation(job)) is not None:
        print(f"{config.run}  {words}", file=sys.stderr, flush=True)
    note_unusable_models(config.run, job.journal.events, job.cassette.reply)
    if config.record.mode == "replay" and (unused := job.cassette.unused(job.state.occurrences)):
        print(f"note: {unused} answers of {job.cassette.path} were not used by this run", file=sys.stderr)
    if config.record.mode == "replay" and job.journal.recorded:
        agreed = f"the {len(job.journal.recorded)} events that were in the journal are those of the recording"
        print(f"{config.run}  {agreed}", file=sys.stderr, flush=True)
    if job.asked or job.evaluator.measured:
        live = f"newly recorded: {job.asked} answers and {job.evaluator.measured} programs; run: {job.rundir.path}"
        print(f"{config.run}  {live}", file=sys.stderr, flush=True)


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def _job(raw: DictConfig) -> None:
    attempt(run, raw)


@escaping()
def main() -> None:
    """Announce the cost of live calls, run Hydra's jobs, print the table of results; see `app.command`."""
    # For hydra/launcher=ray: Ray would report usage statistics.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    sys.argv[1:] = with_open_keys(sys.argv[1:])
    begin = time.time()
    with message_and_exit():
        configs = announced(sys.argv[1:])
    try:
        with message_and_exit(), watched(configs, followed_search):
            for round_ in affordable_rounds(configs, sys.argv[1:]):
                sys.argv[1:] = round_
                command(_job)
    except SystemExit as ended:
        if ended.code != INTERRUPTED:  # after an interrupt, do not make the user wait
            _list(configs, begin)
        raise
    _list(configs, begin)


def _list(configs: Sequence[Config], begin: float) -> None:
    """Print the table of the runs that ended since `begin`, read from files because launchers may use processes."""
    with message_and_exit():
        if summaries := written_since(configs, begin):
            print(summary_table(summaries), flush=True)


if __name__ == "__main__":
    main()
