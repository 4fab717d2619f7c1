"""The exported database: TVM alone reads it, and adding to another one never spoils it."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from colt_pipeline.errors import ExportError
from tests.exports.conftest import MODEL, directory

if TYPE_CHECKING:  # it imports TVM
    from colt_pipeline.job import Job

pytestmark = pytest.mark.tvm

RECORDS = "tuning_record.json"

STOCK = f"""
import sys
import numpy as np
import tvm, tvm_ffi
from tvm import relax
from tvm.s_tir import meta_schedule as ms
sys.path.insert(0, ".")
from scheduled import Module as scheduled

database = ms.database.JSONDatabase("database/workload.json", "database/tuning_record.json")
(record,) = database.get_all_tuning_records()
found = ms.tir_integration.compile_tir(database, record.workload.mod, record.target).mod
print("compile_tir", tvm_ffi.structural_equal(found, scheduled))

model = tvm.script.from_source('''{MODEL}''')
passes = [relax.transform.LegalizeOps, relax.transform.AnnotateTIROpPattern, relax.transform.FoldConstant]
passes += [relax.transform.FuseOps, relax.transform.FuseTIR]
with record.target, database, tvm.transform.PassContext(opt_level=3):
    fused = tvm.transform.Sequential([make() for make in passes])(model)
    applied = relax.transform.MetaScheduleApplyDatabase()(fused)
(name,) = [n for n in applied.get_global_vars() if n.name_hint != "main"]
print("apply", tvm_ffi.structural_equal(applied[name].body, scheduled["main"].body, map_free_vars=True),
      not tvm_ffi.structural_equal(fused[name].body, scheduled["main"].body, map_free_vars=True))

executable = ms.relax_integration.compile_relax(database, model, record.target, None)
x, w = (np.random.default_rng(n).standard_normal(s).astype("float32") for n, s in enumerate(((16, 64), (64, 32))))
run = relax.VirtualMachine(executable, tvm.cpu())["main"]
out = run(tvm.runtime.tensor(x), tvm.runtime.tensor(w)).numpy()
print("compile_relax", np.allclose(out, np.maximum(x @ w, 0), atol=1e-4))
print("alone", not any(name.split(".")[0] == "colt_pipeline" for name in sys.modules))
"""


def test_tvm_alone_finds_the_identical_schedule(export: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "TVM_FFI_DISABLE_TORCH_C_DLPACK": "1"}
    command = [sys.executable, "-W", "ignore", "-c", STOCK]
    done = subprocess.run(command, cwd=export, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    expected = ["compile_tir True", "apply True True", "compile_relax True", "alone True"]
    assert [line for line in done.stdout.splitlines() if line.split()[0] in " ".join(expected)] == expected


def contents(database: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in database.iterdir()}


def test_a_record_holds_the_run_times_and_the_target(job: Job, export: Path) -> None:
    from tvm.s_tir import meta_schedule as ms

    database = ms.database.JSONDatabase(*(str(export / "database" / name) for name in ("workload.json", RECORDS)))
    (record,) = database.get_all_tuning_records()
    assert job.state.best is not None
    assert [float(secs) for secs in record.run_secs] == [job.state.best.latency_secs]
    assert record.target.attrs["mcpu"] == job.target["mcpu"]


def test_a_database_grows_by_schedules_that_it_lacks(job: Job, export: Path, tmp_path: Path) -> None:
    from tvm.s_tir import meta_schedule as ms

    from colt_pipeline.exports.database import adding
    from colt_pipeline.exports.winner import read_winner

    other = tmp_path / "deep" / "database"
    winner = read_winner(directory(job))
    with adding(other, [winner]) as added:
        assert added
    once = contents(other)
    assert once == contents(export / "database")
    with adding(other, [winner]) as added:
        assert not added
    assert contents(other) == once

    # Another schedule of the same kernel, where the last line has lost its end.
    slower = max(job.state.samples, key=lambda sample: sample.latency_secs or 0)
    trace = job.state.programs[slower.program].trace
    program = job.world.space.load(slower.program, trace)
    for path in other.iterdir():
        path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    with adding(other, [dataclasses.replace(winner, program=program)]) as added:
        assert added
    database = ms.database.JSONDatabase(str(other / "workload.json"), str(other / RECORDS))
    assert len(database.get_all_tuning_records()) == 2
    assert len((other / "workload.json").read_text().splitlines()) == 1


def test_an_interruption_leaves_a_database_as_it_was(job: Job, tmp_path: Path) -> None:
    from colt_pipeline.exports.database import adding
    from colt_pipeline.exports.winner import read_winner

    winner = read_winner(directory(job))
    with pytest.raises(KeyboardInterrupt), adding(tmp_path, [winner]):
        raise KeyboardInterrupt
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(
    ("workloads", "records", "message"),
    [
        ("garbage\n", "", "TVM cannot read the database"),
        ('["1","!!"]\n', "", "TVM cannot read the database"),
        ("", "[3,[[[],[]],[1.0],{},[]]]\n", "TVM cannot read the database"),
        ("", None, "no tuning_record.json"),
    ],
)
def test_a_broken_database_is_a_message_and_stays(
    job: Job, tmp_path: Path, workloads: str, records: str | None, message: str
) -> None:
    from colt_pipeline.exports.database import adding
    from colt_pipeline.exports.winner import read_winner

    (tmp_path / "workload.json").write_text(workloads)
    if records is not None:
        (tmp_path / RECORDS).write_text(records)
    before = contents(tmp_path)
    with pytest.raises(ExportError, match=message), adding(tmp_path, [read_winner(directory(job))]):
        pass
    assert contents(tmp_path) == before


def test_two_exports_take_turns_at_a_database(job: Job, export: Path, tmp_path: Path) -> None:
    from colt_pipeline.exports.database import adding
    from colt_pipeline.exports.winner import read_winner

    other, winner = tmp_path / "database", read_winner(directory(job))
    shutil.copytree(export / "database", other)
    with adding(other, [winner]):
        with pytest.raises(ExportError, match="another export"), adding(other, [winner]):
            pass
