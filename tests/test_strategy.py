"""TVM's own tuning with this project's search as its strategy."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax, te
from tvm.ir.utils import derived_object
from tvm.s_tir import Schedule
from tvm.s_tir import meta_schedule as ms
from tvm.s_tir.meta_schedule.builder import BuilderInput, BuilderResult, PyBuilder
from tvm.s_tir.meta_schedule.runner import PyRunner, PyRunnerFuture, RunnerInput, RunnerResult

from colt_pipeline.config.compose import composed
from colt_pipeline.errors import ConfigError, DeviceError, DeviceMismatchError
from colt_pipeline.records import Measurement
from colt_pipeline.runs.layout import CONFIG
from colt_pipeline.runs.rundir import read_config
from colt_pipeline.space import intrinsics
from colt_pipeline.strategy import Builder, Colt, Runner, tuning
from colt_pipeline.strategy.configured import _check_cpu
from colt_pipeline.workloads.program_json import without_spans
from stages.benchmarks.hashes import HashMeasurer
from tests.small_runs import play

pytestmark = pytest.mark.tvm

CPU = tvm.target.Target({"kind": "llvm", "mcpu": tvm.target.codegen.llvm_get_system_cpu(), "num-cores": 1})
TRIALS = 12
OPTIONS = {"search": "paper", "model_set": "4"}
_LOGGER = "tvm.s_tir.meta_schedule"
Journal = list[dict[str, Any]]


def product(rows: int = 16) -> tvm.tirx.PrimFunc:
    """A matrix product, followed by a ReLU."""
    a, b, k = (
        te.placeholder((rows, 64), name="A"),
        te.placeholder((64, 32), name="B"),
        te.reduce_axis((0, 64), name="k"),
    )
    c = te.compute((rows, 32), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k), name="C")
    return te.create_prim_func([a, b, te.compute(c.shape, lambda i, j: te.max(c[i, j], 0.0), name="D")])


def main_of(program: tvm.tirx.PrimFunc) -> tvm.IRModule:
    return tvm.IRModule({"main": program.with_attr("global_symbol", "main")})


KEPT: dict[str, tvm.IRModule] = {}


@derived_object
class Kept(PyBuilder):  # type: ignore[misc]
    """Builds nothing, but keeps each program for `Hashed`."""

    def build(self, build_inputs: Sequence[BuilderInput]) -> list[BuilderResult]:
        paths = [f"{tempfile.mkdtemp()}/kept" for _ in build_inputs]  # TVM removes these directories
        KEPT.update(zip(paths, (each.mod for each in build_inputs), strict=True))
        return [BuilderResult(path, None) for path in paths]


Say = Callable[[int, Measurement], RunnerResult]
"""How many results came before, and the next -> what the runner says."""


def seconds(number: int, measurement: Measurement) -> RunnerResult:
    return RunnerResult([tvm.tirx.FloatImm("float64", t) for t in measurement.run_secs], None)


def interrupted(number: int, measurement: Measurement) -> RunnerResult:
    """In the second batch."""
    if number == 6:
        raise KeyboardInterrupt
    return seconds(number, measurement)


@derived_object
class Hashed(PyRunner):  # type: ignore[misc]
    """Another runner than this project's: latencies from a hash of the program."""

    def __init__(self, say: Say = seconds) -> None:
        super().__init__()
        self.say = say
        self.count = 0

    def run(self, runner_inputs: Sequence[RunnerInput]) -> list[Any]:
        modules = [KEPT.pop(str(each.artifact_path)) for each in runner_inputs]
        measured = list(HashMeasurer().measure(modules, None))
        self.count += len(measured)
        return [Known(self.say(self.count - len(measured) + n, m)) for n, m in enumerate(measured)]


@derived_object
class Known(PyRunnerFuture):  # type: ignore[misc]
    def __init__(self, result: RunnerResult) -> None:
        super().__init__()
        self._result = result

    def done(self) -> bool:
        return True

    def result(self) -> RunnerResult:
        return self._result


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TVM_NUM_THREADS", "1")
    yield
    forget_loggers()


def forget_loggers() -> None:
    """TVM configures its loggers at each call, and stumbles over handlers without a name, which are pytest's."""
    for handler in list(logging.getLogger(_LOGGER).handlers):
        logging.getLogger(_LOGGER).removeHandler(handler)
        if isinstance(handler, logging.FileHandler):
            handler.close()


def tune(program: tvm.tirx.PrimFunc, work: str = "work", **given: Any) -> ms.Database:
    """`ms.tune_tir` with this strategy, hashes for latencies and few trials."""
    options = {
        "builder": Kept(),
        "runner": Hashed(),
        "strategy": Colt(**OPTIONS),
        "target": CPU,
        "cost_model": "random",
    }
    options |= {"max_trials_global": TRIALS, "num_trials_per_iter": 4, "num_tuning_cores": 1, **given}
    forget_loggers()
    return ms.tune_tir(program, work_dir=work, **options)


def run_directories() -> list[Path]:
    return sorted(path.parent for path in Path("results/runs").rglob("events.jsonl"))


def events(directory: Path) -> Journal:
    return [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]


def samples(journal: Journal) -> list[dict[str, Any]]:
    return [sample for event in journal for sample in event.get("samples", ())]


def ledger(directory: Path) -> list[dict[str, Any]]:
    (path,) = Path("results/recordings").glob(f"*/{directory.relative_to('results/runs')}/measurements.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def computes(module: tvm.IRModule) -> bool:
    """Whether a schedule of `product()` computes what it should."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((16, 64), "float32"), rng.standard_normal((64, 32), "float32")
    out = tvm.runtime.tensor(np.full((16, 32), np.nan, "float32"))
    tvm.compile(module, target=CPU).mod["main"](tvm.runtime.tensor(a), tvm.runtime.tensor(b), out)
    return np.allclose(out.numpy(), np.maximum(a @ b, 0), atol=1e-4)


def test_in_this_projects_workers() -> None:
    """A run like any other, a database like any other, and a replay without a device."""
    database = tune(product(), builder=Builder(), runner=Runner())
    (directory,) = run_directories()
    header, unoptimized, *measured = ledger(directory)
    journal = events(directory)
    assert [line["program"] for line in measured] == [s["program"][:20] for s in samples(journal)]
    assert len(measured) == TRIALS - 1 and journal[-1] == {"kind": "finished", "reason": "budget"}
    assert all(line["max_relative_error"] < 1e-4 for line in (unoptimized, *measured))
    assert header["evaluator"]["run_timeout_secs"] == composed([]).measure.run_timeout_secs
    assert list(Path("results/recordings").glob("*/shared/*")), "other runs of this kernel may use the latencies"
    assert json.loads((directory / "timing.json").read_text())["on_device"]
    known = {s["program"]: s["latency_secs"] for s in samples(journal)}
    known[header["workload_hash"]] = journal[0]["baseline_secs"]
    assert replayed(database) == pytest.approx(known)
    best = ms.tir_integration.compile_tir(database, main_of(product()), CPU)
    assert key(best.mod) == min(known, key=lambda program: known[program]) and computes(best.mod)

    shutil.move("results", "before")
    shutil.copytree("before/recordings", "results/recordings")
    again = tune(product(), "replayed", builder=Builder(), runner=Runner(), strategy=Colt(record="replay", **OPTIONS))
    assert (directory / "events.jsonl").read_bytes() == Path(
        "before", *directory.parts[1:], "events.jsonl"
    ).read_bytes()
    assert replayed(again) == pytest.approx(known)


def test_in_the_extended_space() -> None:
    """TVM's database and `compile_tir` make the same programs of its schedules as this project."""
    database = tune(product(), strategy=Colt(**{**OPTIONS, "space": "extended"}))
    (directory,) = run_directories()
    journal = events(directory)
    known = {s["program"]: s["latency_secs"] for s in samples(journal)}
    known[ledger(directory)[0]["workload_hash"]] = journal[0]["baseline_secs"]
    assert replayed(database) == pytest.approx(known)
    best = ms.tir_integration.compile_tir(database, main_of(product()), CPU)
    assert key(best.mod) == min(known, key=lambda program: known[program]) and computes(best.mod)


def key(module: tvm.IRModule) -> str:
    return hashlib.sha256(str(module.script(show_meta=False)).encode()).hexdigest()


def replayed(database: ms.Database) -> dict[str, float]:
    """Key -> seconds of the programs that stock TVM makes of a database's records."""
    found = {}
    for record in database.get_all_tuning_records():
        schedule = Schedule(record.workload.mod, debug_mask="none")
        record.trace.apply_to_schedule(schedule, remove_postproc=False)
        found[key(schedule.mod)] = float(record.run_secs[0])
    assert len(found) == len(database)
    return found


def test_the_search_is_that_of_tune() -> None:
    """With equal latencies, TVM's door and ``tune`` write the same journal."""
    tune(product())
    (directory,) = run_directories()
    Path("main.json").write_text(without_spans(main_of(product())["main"]))
    there = [
        "workload=own",
        "workload.source=main.json",
        "search=paper",
        "search.sample=program",
        "model_set=4",
        "search.batch_size=4",
    ]
    config = composed([*there, f"samples={TRIALS - 1}", "target.cores=1", "results=elsewhere"])
    play(config)
    (other,) = Path("elsewhere/runs").rglob("events.jsonl")
    assert other.read_bytes() == (directory / "events.jsonl").read_bytes()
    assert other.parent.parts[1:] == directory.parts[1:]


def test_names_do_not_depend_on_where_a_program_is_written() -> None:
    source = """@T.prim_func(s_tir=True)
def main(a: T.Buffer((8,), "float32"), b: T.Buffer((8,), "float32")):
    for i in range(8):
        with T.sblock("add"):
            vi = T.axis.spatial(8, i)
            b[vi] = a[vi] + T.float32(1)
"""
    here, there = (tvm.script.from_source(text) for text in (source, source.replace("):\n", "):\n\n\n", 1)))
    assert without_spans(here) == without_spans(there) and "SourceName" not in without_spans(here)
    tvm.ir.assert_structural_equal(tvm.ir.load_json(without_spans(here)), here)


def test_what_another_runner_measured_is_not_shared() -> None:
    """Nobody knows how it measured, so no other run may take its latencies for its own."""
    tune(product())
    (directory,) = run_directories()
    assert ledger(directory)[0]["evaluator"] == {"runner": "tvm"}
    assert not list(Path("results/recordings").glob("*/shared"))


@pytest.mark.parametrize("own", [True, False], ids=["our_runner", "tvms_runner"])
def test_only_our_builder_knows_vector_math(own: bool) -> None:
    ours: dict[str, Any] = {"builder": Builder(), "runner": Runner()} if own else {}
    overrides: dict[str, Any] = {**OPTIONS, "space.vector_math": True}
    tune(product(), strategy=Colt(**overrides), **ours)
    (directory,) = run_directories()
    assert ("vector_math" in read_config(directory / CONFIG)["measure"]) is own
    assert ledger(directory)[0]["evaluator"].get("vector_math", False) is own


def test_a_run_has_one_runner() -> None:
    with pytest.raises(KeyboardInterrupt):
        tune(product(), runner=Hashed(interrupted))
    with pytest.raises(DeviceMismatchError, match="by TVM's runner so far, and now by this project's Runner"):
        tune(product(), builder=Builder(), runner=Runner())


def test_no_command_line_chooses_the_runner() -> None:
    with pytest.raises(ConfigError, match="measure.runner=tvm cannot be chosen"):
        composed(["+measure.runner=tvm"])


def test_an_interrupted_tuning_resumes() -> None:
    """The same call goes on where it stopped, and its database lacks nothing and has nothing twice."""
    tune(product(), "whole", strategy=Colt(results="whole", **OPTIONS))
    with pytest.raises(KeyboardInterrupt) as kept:  # whose traceback keeps the strategy alive, as in a notebook
        tune(product(), runner=Hashed(interrupted))
    (directory,) = run_directories()
    assert len(samples(events(directory))) == 4 and kept
    runner = Hashed()
    database = tune(product(), runner=runner)
    assert runner.count == TRIALS - 5
    assert (directory / "events.jsonl").read_bytes() == Path("whole", *directory.parts[1:], "events.jsonl").read_bytes()
    assert len(replayed(database)) == TRIALS
    assert len(replayed(tune(product(), "another"))) == TRIALS, "a finished run fills another database"


def test_failures_are_recorded_and_the_search_goes_on() -> None:
    said = {3: "LocalRunner: Timeout, killed after 30 seconds", 4: "LocalBuilder: An exception occurred\nno registers"}
    said |= {5: "LocalRunner: An exception occurred\nsegmentation fault"}

    def fails(number: int, measurement: Measurement) -> RunnerResult:
        if number == 6:
            return RunnerResult([0.0], None)
        return RunnerResult(None, said[number]) if number in said else seconds(number, measurement)

    database = tune(product(), runner=Hashed(fails))
    (directory,) = run_directories()
    found = [(line.get("error"), line.get("detail")) for line in ledger(directory)[1:]]
    assert found[3:7] == [
        ("timeout", said[3]),
        ("build_error", "no registers"),
        ("run_error", "segmentation fault"),
        ("run_error", "the runner reports the run times [0.0]"),
    ]
    assert len(found) == TRIALS and not any(error for error, _ in found[7:])
    assert json.loads((directory / "summary.json").read_text())["sample_errors"] == {
        "build_error": 1,
        "run_error": 2,
        "timeout": 1,
    }
    assert len(replayed(database)) >= TRIALS - 4


def test_without_the_unoptimized_program_there_is_no_search() -> None:
    late = "LocalBuilder: Timeout, killed after 30.0 seconds"
    with pytest.raises(DeviceError, match=r"unoptimized main-\w{8}: timeout.*Give builder=Builder\(\)"):
        tune(product(), runner=Hashed(lambda *_: RunnerResult(None, late)))
    assert not run_directories()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ({"kind": "llvm", "num-cores": 1}, "has mcpu and num-cores; it is .*llvm"),
        ({"kind": "cuda", "arch": "sm_90"}, "has mcpu and num-cores; it is .*cuda"),
    ],
)
def test_targets_that_the_search_does_not_know(target: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        _check_cpu(tvm.target.Target(target))
    assert f'"mcpu": "{tvm.target.codegen.llvm_get_system_cpu()}"' in str(refused.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"strategy": Colt(model_set="9")}, "model_set=9 is unknown"),
        ({"strategy": Colt(samples=3)}, "max_trials_global determines it"),
        ({"strategy": Colt(minutes=5)}, "max_trials_global determines it"),
        ({"strategy": Colt(device="rpc")}, "the runner determines the device"),
        ({"max_trials_global": 1}, "1 trials leave none"),
        ({"target": {"kind": "llvm", "num-cores": 1}}, "mcpu and num-cores"),
    ],
)
def test_errors_pass_through_tvm(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tune(product(), **given)


def test_several_tasks() -> None:
    """Each is a run of its own, named after the task; TVM divides the trials."""
    modules = {name: main_of(product(rows)) for name, rows in (("wide", 32), ("narrow", 8))}
    contexts = [
        ms.TuneContext(
            mod=module, target=CPU, space_generator="post-order-apply", search_strategy=Colt(**OPTIONS), task_name=name
        )
        for name, module in modules.items()
    ]
    options = {"builder": Kept(), "runner": Hashed(), "cost_model": "random", "num_trials_per_iter": 4}
    Path("work").mkdir()
    forget_loggers()
    database = ms.tune_tasks(
        tasks=contexts,
        task_weights=[1.0, 1.0],
        work_dir="work",
        max_trials_global=16,
        max_trials_per_task=10,
        **options,
    )
    narrow, wide = run_directories()
    assert narrow.parent.name.startswith("narrow-") and wide.parent.name.startswith("wide-")
    ends = [json.loads((directory / "summary.json").read_text()) for directory in (narrow, wide)]
    assert sum(end["samples"] for end in ends) + 2 == len(database)
    assert {end["stopped"] for end in ends} <= {"budget", "limit"} and "limit" in {end["stopped"] for end in ends}
    assert all(database.has_workload(module) for module in modules.values())


def test_a_model() -> None:
    """A run for each kernel that leaves a choice; the others, a transposition and a ReLU, are measured once."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((16, 64), "float32"))
    weights = relax.Var("w", relax.TensorType((32, 64), "float32"))
    with builder.function("main", [x, weights]):
        builder.emit_func_output(
            builder.emit(relax.op.nn.relu(builder.emit(relax.op.matmul(x, relax.op.permute_dims(weights)))))
        )
    with CPU:
        passes = ("LegalizeOps", "AnnotateTIROpPattern", "FuseOps", "FuseTIR")
        model = tvm.transform.Sequential([getattr(relax.transform, name)() for name in passes])(builder.get())
    forget_loggers()
    database = ms.relax_integration.tune_relax(
        model,
        {},
        CPU,
        "work",
        max_trials_global=20,
        max_trials_per_task=8,
        num_trials_per_iter=4,
        builder=Kept(),
        runner=Hashed(),
        strategy=Colt(**OPTIONS),
        cost_model="random",
    )
    (directory,) = run_directories()
    assert directory.parent.name.startswith("matmul-") and len(database) == 8 + 2
    executable = ms.relax_integration.compile_relax(database, model, CPU, None)
    rng = np.random.default_rng(0)
    a, w = rng.standard_normal((16, 64), "float32"), rng.standard_normal((32, 64), "float32")
    out = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(a), tvm.runtime.tensor(w)).numpy()
    assert np.allclose(out, np.maximum(a @ w.T, 0), atol=1e-4)


def test_a_kernel_that_cannot_be_tuned_is_left_as_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(**_: object) -> None:
        raise ConfigError("it works in place")

    monkeypatch.setattr(tuning, "build", refuse)
    with caplog.at_level(logging.WARNING):
        assert len(tune(product())) == 0
    assert "main is not tuned: it works in place" in caplog.text and not run_directories()


def test_builder_and_runner_belong_together() -> None:
    module = main_of(product())
    (built,) = Builder().build([BuilderInput(module, CPU)])
    assert "builds for strategy=Colt() alone" in built.error_msg
    (future,) = Runner().run([RunnerInput("/somewhere/else", "cpu", [])])
    assert "give builder=Builder() beside" in future.result().error_msg


@pytest.mark.slow
def test_with_tvms_builder_and_runner() -> None:
    builder = ms.builder.LocalBuilder(initializer=intrinsics.register)
    database = tune(product(), builder=builder, runner="local", max_trials_global=5)
    (directory,) = run_directories()
    assert len(replayed(database)) == 5 and "error" not in str(ledger(directory))
