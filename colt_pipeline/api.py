"""Tune from Python, as ``colt_pipeline.tune workload=own`` and ``colt_pipeline.tune_model`` do on the command line.

    from colt_pipeline import tune_module, tune_model

    tuned = tune_module(module, samples=64)  # an IRModule with one PrimFunc, or a PrimFunc
    print(tuned.latency_secs, tuned.schedule.mod)
    tuned.export("kernel")

    fast = tune_model(torch_module, (example,), samples=256)
    out = fast(example)  # tensors of PyTorch in and out

It is an ordinary run: its files are in ``results/``, the same call after an interruption continues it, and after its
end returns the same result at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colt_pipeline import stack
from colt_pipeline.assemble import assemble
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError, UnfinishedError
from colt_pipeline.job import Job
from colt_pipeline.records import MeasurementKind
from colt_pipeline.tune import finish

stack.require()  # before TVM is imported

import tvm  # noqa: E402
from tvm.s_tir import Schedule  # noqa: E402
from tvm.s_tir.schedule import Trace  # noqa: E402

from colt_pipeline.from_python import configuration, kernel_file, target_keys  # noqa: E402
from colt_pipeline.model_api import TunedModel, tune_model  # noqa: E402

__all__ = ["Tuned", "TunedModel", "tune_model", "tune_module"]


@dataclass(frozen=True)
class Tuned:
    """What a run came to."""

    schedule: Schedule
    """The fastest program, postprocessors applied."""
    latency_secs: float
    """Its latency: as confirmed, or else as the search measured it."""
    is_confirmed: bool
    """Whether the best programs were measured again after the search, see ``measure.confirm``."""
    measurement: MeasurementKind
    """``measured`` or ``estimated``."""
    baseline_secs: float
    """Latency of the unoptimized program."""
    run_directory: Path

    @property
    def module(self) -> tvm.IRModule:
        """The scheduled module.

        With ``space.vector_math`` it was measured as compiled by ``tvm.compile(module, target=target,
        tir_pipeline=colt_pipeline.measurement.vector_math.pipeline())``.
        """
        return self.schedule.mod

    @property
    def trace(self) -> Trace:
        """All instructions of the schedule, including those of the postprocessors."""
        return self.schedule.trace.simplified(remove_postproc=False)

    def export(self, path: Path | str, database: Path | str | None = None, mcpu: str | None = None) -> Path:
        """Write the kernel as a library with all that runs, checks and explains it; see ``colt_pipeline.export``.

        Args:
            path: a directory; an earlier export there is replaced.
            database: also add to the MetaSchedule database in this directory.
            mcpu: compile for another CPU than the one it was tuned on, by LLVM's name.

        Returns:
            The directory.

        Raises:
            ColtError: it cannot be exported; the message says why.
        """
        from colt_pipeline.exports.write import export_run

        export_run(self.run_directory, Path(path), None if database is None else Path(database), mcpu)
        return Path(path)


def tune_module(
    module: tvm.IRModule | tvm.tirx.PrimFunc,
    target: tvm.target.Target | Mapping[str, Any] | str | None = None,
    samples: int | None = 64,
    name: str | None = None,
    **overrides: Any,
) -> Tuned:
    """Search for a fast schedule of a kernel, or continue, or replay.

    Progress is printed to stderr. Ctrl-C loses nothing: the same call goes on.

    Args:
        module: the kernel, one PrimFunc; see ``workload.function`` and ``workload.bind.NAME`` if it is not that simple.
        target: None = this machine's CPU. Of TVM's targets, those of kind ``llvm`` with ``num-cores`` and ``mcpu``, and
            those of kind ``cuda`` with ``arch``.
        samples: how many programs are measured; None = as many as fit into ``minutes``, or 48.
        name: what the run is called, followed by a digest of the kernel; None = as its function's ``global_symbol``.
        overrides: keys of the configuration, as on the command line: ``model_set="2"``, ``space="tvm"``,
            ``minutes=10``, ``results="DIR"``, ``record="replay"``, ``**{"measure.confirm": 0}``.

    Raises:
        ConfigError: the kernel, the target or an override is refused; the message says why, and what to do.
        UnfinishedError: none of the measured programs ran.
        ColtError: as any run.
    """
    if not isinstance(module, tvm.IRModule | tvm.tirx.PrimFunc):
        raise ConfigError(f"module is of type {type(module).__name__}; give an IRModule or a PrimFunc")
    if isinstance(module, tvm.tirx.PrimFunc):
        module = tvm.IRModule({_symbol(module) or "main": module})
    with tempfile.TemporaryDirectory(prefix="colt-") as directory:
        source = kernel_file(Path(directory), _name(module) if name is None else name, module)  # the run keeps a copy
        own: dict[str, Any] = {"workload": "own", "workload.source": source, "samples": samples}
        if samples is None:
            del own["samples"]
        given = {**own, **target_keys(target), **overrides}
        return _tuned(configuration(given))


def _tuned(config: Config) -> Tuned:
    with assemble(config) as job:
        finish(job)
        return _result(job)


def _result(job: Job) -> Tuned:
    state, confirmed = job.state, job.confirmed
    assert state.started is not None
    if state.best is None or state.best.latency_secs is None:
        errors = sorted({sample.error for sample in state.samples if sample.error})
        raise UnfinishedError(
            f"none of the {len(state.samples)} measured programs of {job.config.run} ran ({', '.join(errors)}); more "
            f"samples may help, and {job.evaluator.ledger.path} says why"
        )
    key, secs = state.best.program, state.best.latency_secs
    if confirmed:
        key, secs = confirmed[0].program, confirmed[0].latency_secs
    return Tuned(
        schedule=job.world.program(state.programs[key]).schedule.copy(),
        latency_secs=secs,
        is_confirmed=bool(confirmed),
        measurement=state.started.measurement,
        baseline_secs=state.started.baseline_secs,
        run_directory=job.rundir.path.absolute(),
    )


def _symbol(function: tvm.tirx.PrimFunc) -> str:
    return str((function.attrs or {}).get("global_symbol", ""))


def _name(module: tvm.IRModule) -> str:
    """What to call the kernel if nobody says."""
    functions = list(module.functions.values())
    return _symbol(functions[0]) if len(functions) == 1 else ""
