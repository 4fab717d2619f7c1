"""Writes an export: a directory that appears when it is complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colt_pipeline.errors import ConfigError, ExportError
from colt_pipeline.exports.bench_files import Buffer, made, write_bench
from colt_pipeline.exports.database import add_record, adding
from colt_pipeline.exports.directory import check, replacing
from colt_pipeline.exports.library import LIBRARY, for_cpu, identifier, write_library
from colt_pipeline.exports.model_files import LIBRARY as MODEL_LIBRARY
from colt_pipeline.exports.model_files import write_model
from colt_pipeline.exports.model_readme import model_readme
from colt_pipeline.exports.model_run import TunedModel, is_model, read_model_run
from colt_pipeline.exports.model_source import ModelFiles
from colt_pipeline.exports.readme import how_measured, readme_text
from colt_pipeline.exports.scripts import SCHEDULE, SCHEDULED, VECTOR_MATH, schedule_text, scheduled_text
from colt_pipeline.exports.winner import Winner, read_winner
from colt_pipeline.measurement import vector_math

DATABASE = "database"
README = "README.md"
_NONE_GIVEN = ModelFiles()


@dataclass(frozen=True)
class Export:
    """What was written."""

    function: str
    """Name of the kernel in its library, or of the model."""
    latency_secs: float
    how: str
    """How the latency was measured, in words."""
    unlinked: str | None
    """Why there is an object file in place of a library, "" if there is a library, None if there is neither."""
    added: int | None
    """How many of the schedules the other database lacked; None if no other was given."""
    schedules: int = 1
    is_model: bool = False


def export_run(
    run: Path, out: Path, database: Path | None = None, mcpu: str | None = None, given: ModelFiles = _NONE_GIVEN
) -> Export:
    """Export the best program of a run, finished or still going on, or a model with the best programs of its kernels.

    Args:
        run: the directory of the run, or of a whole model's.
        out: what to write: a free name, an empty directory, or an earlier export, which is replaced.
        database: another MetaSchedule database to add the schedule to.
        mcpu: LLVM's name of the CPU to compile for; None = as tuned.
        given: files of the model, in place of those that its run names.

    Raises:
        ColtError: there is nothing to export, it cannot be built, or `out` or `database` holds something else.
    """
    check(out)
    if database is not None and database.resolve().is_relative_to(out.resolve()):
        raise ExportError(f"--database {database} is within --out {out}, which gets a database of its own")
    if is_model(run):
        return _export_model(read_model_run(run, given), out, database, mcpu)
    if given != _NONE_GIVEN:
        raise ConfigError(f"{run} is the run of one kernel, which it holds; leave workload.source and weights out")
    winner = read_winner(run)
    target, function = for_cpu(winner.target, mcpu), identifier(winner.workload.name)
    with _both(out, database, [winner]) as added:
        unlinked = _write(out, winner, target, function)
    return Export(function, winner.timing.latency_secs, how_measured(winner), unlinked, added)


def _export_model(tuned: TunedModel, out: Path, database: Path | None, mcpu: str | None) -> Export:
    target, winners = for_cpu(tuned.target, mcpu), tuned.winners
    programs = {kernel.row["task"]: kernel.winner and kernel.winner.program.key for kernel in tuned.kernels}
    facts = {"model": tuned.name, "programs": programs, "target": target}
    with _both(out, database, winners) as added, replacing(out, facts) as (directory, further):
        written = write_model(directory, tuned, target)
        further += made(MODEL_LIBRARY, written.buffers)
        if tuned.vector_math:
            (directory / VECTOR_MATH).write_bytes(Path(vector_math.__file__).read_bytes())
        (directory / DATABASE).mkdir()
        for winner in winners:
            add_record(directory / DATABASE, winner)
        (directory / README).write_text(model_readme(tuned, target, written))
    how = f"{tuned.summary['tuned_how']}; {tuned.summary['unoptimized_secs'] * 1e3:.4g} ms before"
    name, secs = identifier(tuned.name), tuned.summary["tuned_secs"]
    return Export(name, secs, how, written.unlinked, added, len(winners), is_model=True)


@contextmanager
def _both(out: Path, database: Path | None, winners: Sequence[Winner]) -> Iterator[int | None]:
    """Around what writes `out`: afterwards the schedules are in the other database, too.

    Yields:
        See `Export.added`.
    """
    try:
        with ExitStack() as cleanup:
            yield None if database is None else cleanup.enter_context(adding(database, winners))
    except OSError as error:
        where = f"{out} and {database}" if database else out
        raise ExportError(f"cannot write {where}: {error.strerror}; free space, or name other directories") from error


def _write(out: Path, winner: Winner, target: dict[str, Any], function: str) -> str | None:
    facts = {"workload": winner.workload.name, "function": function, "program": winner.program.key, "target": target}
    unlinked: str | None = None
    buffers: list[Buffer] = []
    with replacing(out, facts) as (directory, further):
        if winner.on_cpu:
            parts = winner.parts
            unlinked = write_library(directory, parts.module, function, target, winner.vector_math)
            threads = int(target["num-cores"])
            buffers = write_bench(directory, winner.workload, function, threads, parts.packed)
            further += made(LIBRARY, buffers)
        if winner.vector_math:
            (directory / VECTOR_MATH).write_bytes(Path(vector_math.__file__).read_bytes())
        (directory / SCHEDULED).write_text(scheduled_text(winner, function))
        (directory / SCHEDULE).write_text(schedule_text(winner, function))
        (directory / DATABASE).mkdir()
        add_record(directory / DATABASE, winner)
        (directory / README).write_text(readme_text(winner, target, function, unlinked, buffers))
    return unlinked
