"""Writes an export: a directory that appears when it is complete."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colt_pipeline.errors import ExportError
from colt_pipeline.exports.bench_files import Buffer, made, write_bench
from colt_pipeline.exports.database import add_record, adding
from colt_pipeline.exports.directory import check, replacing
from colt_pipeline.exports.library import for_cpu, identifier, write_library
from colt_pipeline.exports.readme import how_measured, readme_text
from colt_pipeline.exports.scripts import SCHEDULE, SCHEDULED, VECTOR_MATH, schedule_text, scheduled_text
from colt_pipeline.exports.winner import Winner, read_winner
from colt_pipeline.measurement import vector_math

DATABASE = "database"
README = "README.md"


@dataclass(frozen=True)
class Export:
    """What was written."""

    function: str
    """Name of the kernel in its library."""
    latency_secs: float
    how: str
    """How the latency was measured, in words."""
    unlinked: str | None
    """Why there is an object file in place of a library, "" if there is a library, None if there is neither."""
    added: bool | None
    """Whether the other database lacked this schedule; None if no other was given."""


def export_run(run: Path, out: Path, database: Path | None = None, mcpu: str | None = None) -> Export:
    """Export the best program of a run, finished or still going on.

    Args:
        run: the run's directory.
        out: what to write: a free name, an empty directory, or an earlier export, which is replaced.
        database: another MetaSchedule database to add the schedule to.
        mcpu: LLVM's name of the CPU to compile for; None = as tuned.

    Raises:
        ColtError: there is nothing to export, it cannot be built, or `out` or `database` holds something else.
    """
    check(out)
    if database is not None and database.resolve().is_relative_to(out.resolve()):
        raise ExportError(f"--database {database} is within --out {out}, which gets a database of its own")
    winner = read_winner(run)
    target, function = for_cpu(winner.target, mcpu), identifier(winner.workload.name)
    try:
        with ExitStack() as both:
            added = None if database is None else both.enter_context(adding(database, winner))
            unlinked = _write(out, winner, target, function)
    except OSError as error:
        where = f"{out} and {database}" if database else out
        raise ExportError(f"cannot write {where}: {error.strerror}; free space, or name other directories") from error
    return Export(function, winner.timing.latency_secs, how_measured(winner), unlinked, added)


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
            further += made(buffers)
        if winner.vector_math:
            (directory / VECTOR_MATH).write_bytes(Path(vector_math.__file__).read_bytes())
        (directory / SCHEDULED).write_text(scheduled_text(winner, function))
        (directory / SCHEDULE).write_text(schedule_text(winner, function))
        (directory / DATABASE).mkdir()
        add_record(directory / DATABASE, winner)
        (directory / README).write_text(readme_text(winner, target, function, unlinked, buffers))
    return unlinked
