"""A kernel with constant inputs, exported: the library packs them ahead, and the scripts and the database say how."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.exports.conftest import directory
from tests.exports.programs import build, run, run_built
from tests.exports.test_scripts import imported
from tests.support import Recorded

if TYPE_CHECKING:  # it imports TVM
    from colt_pipeline.job import Job

pytestmark = pytest.mark.tvm

PACKED = (
    *("workload=deepseek_r1_moe", "workload.shape={batch: 1, tokens: 8, inner: 32, outer: 64}", "space=extended"),
    *(
        "workload.constant=[1]",
        "search=paper",
        "search.sample=program",
        "search.warmup_samples=4",
        "search.batch_size=2",
        "model_set=2",
    ),
    *("samples=4", "run=packed"),
)
NAME = "deepseek_r1_moe_packed_1"


@pytest.fixture(scope="module")
def job(recorded: Recorded) -> Job:
    """The kernel's run."""
    return recorded(*PACKED)


@pytest.fixture(scope="module")
def export(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export, with the C++ program where there is a compiler. Tests copy it and never change it."""
    from colt_pipeline.exports.write import export_run

    out = tmp_path_factory.mktemp("export") / "packed"
    export_run(directory(job), out)
    return out


def test_the_library_packs_ahead(export: Path, tmp_path: Path) -> None:
    done = run(export)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("matmul: right, relative error")
    assert f"{NAME}_pack" in (export / "run.py").read_text()
    wrong = Path(shutil.copytree(export, tmp_path / "wrong"))
    expected = np.load(wrong / "data" / "2_matmul.npy")
    np.save(wrong / "data" / "2_matmul.npy", expected + expected.max())
    assert run(wrong).returncode == 1


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_the_same_in_cpp(export: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(export, tmp_path / "built"))
    build(copy)
    done = run_built(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2_matmul: right, relative error" in done.stdout


def test_scripts_and_database_give_the_identical_program(
    job: Job, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TVM's JSON of a trace makes an integer of the True in the mark of the packing block; nothing reads its value."""
    import tvm_ffi
    from tvm.s_tir import meta_schedule as ms

    from colt_pipeline.exports.winner import read_winner
    from colt_pipeline.workloads.packing import split

    winner = read_winner(directory(job))
    scheduled = winner.program.schedule.mod
    assert winner.parts.packed, "the extended space packs constants"
    assert tvm_ffi.structural_equal(imported(export / "scheduled.py", monkeypatch).Module, scheduled)
    assert tvm_ffi.structural_equal(imported(export / "schedule.py", monkeypatch).scheduled(), scheduled)
    files = (str(export / "database" / name) for name in ("workload.json", "tuning_record.json"))
    database = ms.database.JSONDatabase(*files)
    (record,) = database.get_all_tuning_records()
    found = ms.tir_integration.compile_tir(database, record.workload.mod, record.target).mod
    assert tvm_ffi.structural_equal(split(found).module, winner.parts.module)


def test_the_readme_says_how_to_pack_and_both_latencies(job: Job, export: Path, tmp_path: Path) -> None:
    from colt_pipeline.exports.winner import read_winner
    from colt_pipeline.exports.write import export_run

    text = (export / "README.md").read_text()
    ((_, form),) = read_winner(directory(job)).parts.packed
    assert (
        f"- B: float32[32, 64], input (random); packed ahead: the kernel takes it as float32{list(form.shape)}" in text
    )
    assert f"    {NAME}_pack(B, {form.name})\n" in text
    assert "| | warm, with B packed ahead |" in text and "with cold caches" not in text

    results = Path(shutil.copytree(job.config.results, tmp_path / "results"))
    (ledger,) = (results / "recordings").glob("*/adhoc/packed/measurements.jsonl")
    assert job.state.best is not None
    line = {"cold_secs": [0.5, 0.7, 0.6], "program": job.state.best.program[:20], "round": 1, "run_secs": [0.25]}
    with ledger.open("a") as file:
        file.write(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n")
    export_run(results / "runs" / "adhoc" / "packed", tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| latency | 250 ms |" in text and "| with cold caches | 600 ms |" in text
