"""A tuned kernel in a MetaSchedule database, as TVM itself writes and reads them."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from tvm.s_tir import meta_schedule as ms

from colt_pipeline.errors import ExportError
from colt_pipeline.exports.winner import Winner
from colt_pipeline.measurement.bench import TVM_ERRORS, last_line
from colt_pipeline.space import trace_text

WORKLOADS = "workload.json"
RECORDS = "tuning_record.json"


def add_record(directory: Path, winner: Winner) -> bool:
    """Add the kernel's schedule, with what the postprocessors did, to the database in `directory`, which may be new.

    Returns:
        Whether it was added: a schedule that the database holds already is not added again.

    Raises:
        ExportError: the files there are no database.
    """
    module, trace = winner.workload.module, winner.program.schedule.trace
    try:
        database = ms.database.JSONDatabase(str(directory / WORKLOADS), str(directory / RECORDS), allow_missing=True)
        workload, target = database.commit_workload(module), tvm.target.Target(winner.target)
        if any(_same(record, workload, target, trace) for record in database.get_all_tuning_records()):
            return False
        arguments = ms.arg_info.ArgInfo.from_entry_func(module, remove_preproc=True)
        run_secs = list(winner.timing.run_secs)
        database.commit_tuning_record(ms.database.TuningRecord(trace, workload, run_secs, target, arguments))
    except TVM_ERRORS as error:
        raise ExportError(f"TVM cannot read the database ({last_line(error)})") from error
    return True


def _same(record: Any, workload: Any, target: Any, trace: Any) -> bool:
    return bool(
        record.workload.same_as(workload)
        and tvm_ffi.structural_equal(record.target, target)
        and trace_text.text(record.trace) == trace_text.text(trace)
    )


@contextmanager
def adding(directory: Path, winners: Sequence[Winner]) -> Iterator[int]:
    """Add kernels to somebody's database when the block ends without an exception.

    A changed copy replaces its files, so that an interruption leaves the database as it was, or at most with a workload
    that has no record yet.

    Yields:
        How many of them it lacked.

    Raises:
        ExportError: the files there are no database, or another export is adding to it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _alone(directory), tempfile.TemporaryDirectory(dir=directory, prefix=".adding-") as name:
        copy = Path(name)
        present = [file for file in (WORKLOADS, RECORDS) if (directory / file).exists()]
        if len(present) == 1:
            missing = RECORDS if present == [WORKLOADS] else WORKLOADS
            raise ExportError(f"{directory} has {present[0]} but no {missing}; restore it, or name another --database")
        for file in present:
            shutil.copy(directory / file, copy / file)
            _end_last_line(copy / file)
        try:
            added = sum(add_record(copy, winner) for winner in winners)
        except ExportError as error:
            raise ExportError(
                f"{directory} is unchanged: {error}; restore its {WORKLOADS} and {RECORDS}, or name another --database"
            ) from error
        yield added
        if added:
            for file in (WORKLOADS, RECORDS):  # records refer to workloads
                (copy / file).replace(directory / file)


def _end_last_line(path: Path) -> None:
    """TVM appends lines, to whatever is there."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        path.write_bytes(data + b"\n")


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ExportError(f"another export is adding to {directory}; wait for it") from error
    finally:
        os.close(handle)
