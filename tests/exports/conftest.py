"""A task of a small Relax model, tuned as a kernel of one's own and exported once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from colt_pipeline.runs.layout import run_directory
from tests.support import Recorded

if TYPE_CHECKING:  # it imports TVM
    from colt_pipeline.job import Job

MODEL = """
@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor((16, 64), "float32"), w: R.Tensor((64, 32), "float32")) -> R.Tensor((16, 32), "float32"):
        with R.dataflow():
            y = R.matmul(x, w)
            z = R.nn.relu(y)
            R.output(z)
        return z
"""
"""Two operators, which TVM fuses into one kernel."""
SHORT = ("search=paper", "search.sample=program", "search.warmup_samples=4", "model_set=2", "samples=8", "run=tiny")


def fused() -> Any:
    """The model as TVM tunes it."""
    import tvm
    from tvm import relax

    passes = [relax.transform.LegalizeOps, relax.transform.AnnotateTIROpPattern, relax.transform.FoldConstant]
    passes += [relax.transform.FuseOps, relax.transform.FuseTIR]
    with tvm.target.Target({"kind": "llvm"}):
        return tvm.transform.Sequential([make() for make in passes])(tvm.script.from_source(MODEL))


def directory(job: Job) -> Path:
    return run_directory(job.config.results, job.config.experiment, job.config.run)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel as a file."""
    import tvm
    from tvm.s_tir.meta_schedule.relax_integration import extract_tasks

    (task,) = extract_tasks(fused(), tvm.target.Target({"kind": "llvm", "num-cores": 2}))
    path = tmp_path_factory.mktemp("source") / "layer.json"
    path.write_text(tvm.ir.save_json(task.dispatched[0]))
    return path


@pytest.fixture(scope="session")
def job(recorded: Recorded, source: Path) -> Job:
    """The kernel's run."""
    return recorded("workload=own", f"workload.source={source}", *SHORT)


@pytest.fixture(scope="session")
def export(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export. Tests copy it and never change it."""
    from colt_pipeline.exports.write import export_run

    out = tmp_path_factory.mktemp("export") / "layer"
    export_run(directory(job), out)
    return out
