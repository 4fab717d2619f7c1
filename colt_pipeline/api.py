"""Tune a kernel from Python, as ``python -m colt_pipeline.tune workload=own`` does from the command line.

    from colt_pipeline import tune_module

    tuned = tune_module(module, samples=64)  # an IRModule with one PrimFunc, or a PrimFunc
    print(tuned.latency_secs, tuned.schedule.mod)
    tuned.export("kernel")

It is an ordinary run: its files are in ``results/``, the same call after an interruption continues it, and after its
end returns the same result at once.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton

from colt_pipeline import stack
from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError, UnfinishedError
from colt_pipeline.job import Job
from colt_pipeline.records import MeasurementKind
from colt_pipeline.tune import finish

stack.require()  # before TVM is imported

import tvm  # noqa: E402
from tvm.s_tir import Schedule  # noqa: E402
from tvm.s_tir.schedule import Trace  # noqa: E402

_composing = Lock()
"""Hydra's state belongs to the process."""
_IMPLIED = {"kind", "tag", "keys", "host"}
"""What TVM adds to a target, and the host of a GPU, which only starts kernels."""


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
        """The scheduled module."""
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
        overrides: keys of the configuration, as on the command line: ``model_set="2"``, ``minutes=10``,
            ``results="DIR"``, ``record="replay"``, ``**{"measure.confirm": 0}``.

    Raises:
        ConfigError: the kernel, the target or an override is refused; the message says why, and what to do.
        UnfinishedError: none of the measured programs ran.
        ColtError: as any run.
    """
    if isinstance(module, tvm.tirx.PrimFunc):
        module = tvm.IRModule({_symbol(module) or "main": module})
    with tempfile.TemporaryDirectory(prefix="colt-") as directory:
        source = Path(directory) / f"{_stem(module, name)}.json"
        source.write_text(tvm.ir.save_json(module))  # the run keeps a copy
        own: dict[str, Any] = {"workload": "own", "workload.source": source, "samples": samples}
        if samples is None:
            del own["samples"]
        given = {**own, **_of_target(target), **overrides}
        with _composing, _hydra_set_aside():
            config = composed([f"{key}={_written(key, value)}" for key, value in given.items()])
        return _tuned(config)


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


def _stem(module: tvm.IRModule, name: str | None) -> str:
    """The name of a file for the kernel."""
    functions = list(module.functions.values())
    if name is None and len(functions) == 1:
        name = _symbol(functions[0])
    return re.sub(r"[^\w-]+", "_", name or "")[:100] or "module"


def _of_target(target: tvm.target.Target | Mapping[str, Any] | str | None) -> dict[str, Any]:
    """The keys of the configuration for one of TVM's targets."""
    if target is None:
        return {}
    if target == "cuda":
        return {"target": "gpu"}
    try:
        made = tvm.target.Target(dict(target) if isinstance(target, Mapping) else target)
    except ValueError as error:
        raise ConfigError(f"target={target} is not a target of TVM: {str(error).splitlines()[0]}") from error
    kind = str(made.kind.name)
    if kind not in ("llvm", "cuda"):
        raise ConfigError(f"target={target} is of kind {kind}; choose one of kind llvm or cuda")
    usual = tvm.target.Target(kind).attrs
    given = {str(k): v for k, v in made.attrs.items() if not (k in usual and usual[k] == v)}
    given = {k: v for k, v in given.items() if k not in _IMPLIED and not k.startswith("feature.")}
    if kind == "cuda":  # the device itself knows the other attributes
        return {"target": "gpu", **({"target.arch": str(given["arch"])} if "arch" in given else {})}
    keys = {"num-cores": "target.cores", "mcpu": "target.mcpu"}
    if unknown := sorted(given.keys() - keys):
        raise ConfigError(
            f"target={target} sets {', '.join(unknown)}, which this search does not know; give only num-cores and mcpu"
        )
    return {"target": "cpu", **{keys[name]: value for name, value in given.items()}}


def _written(key: str, value: Any) -> str:
    """A value as an override of Hydra; strings are quoted, so that nothing in them is syntax but ``${...}``."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() | Path():
            return "'" + re.sub(r"(\\*)('|$)", _escaped, str(value)) + "'"
        case list() | tuple():
            return f"[{','.join(_written(key, each) for each in value)}]"
        case Mapping():
            if names := [name for name in map(str, value) if not re.fullmatch(r"[\w.-]+", name)]:
                raise ConfigError(f"{key}: {names[0]} cannot be a key; use letters, digits and _ . -")
            return "{" + ",".join(f"{name}:{_written(key, each)}" for name, each in value.items()) + "}"
    raise ConfigError(f"{key}={value!r} is of type {type(value).__name__}, which a configuration cannot hold")


def _escaped(end: re.Match[str]) -> str:
    backslashes, quote = end.groups()
    return backslashes * 2 + (f"\\{quote}" if quote else "")


@contextmanager
def _hydra_set_aside() -> Iterator[None]:
    """Let a caller's own use of Hydra be as if there were none here."""
    before = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        Singleton.set_state(before)
