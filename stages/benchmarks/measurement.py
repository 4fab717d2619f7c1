"""The same candidates measured by this project and by TVM: how fast, and how often the best of them is found.

The candidates are those that the recorded searches measured, in batches, as a search makes them. This project measures
them as a race (``measure=racing``) and one after the other (``measure=default``), checks their results, and confirms
the best few at the end, as a run does. TVM has its LocalBuilder and LocalRunner with the numbers of runs of
``measure=default`` and checks nothing; `own f_build` spares its builder the import of all tensor intrinsics, and all
candidates in one batch favour it, because its builder starts new processes for each batch.

Every method measures all candidates several times, in turn with the others. What it picks is the candidate that its own
times call the best: the confirmed one, or, as in TVM's database, the least mean. Which one is the best is found
afterwards: all that come close are timed in turn, many times, in one process.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms

from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.measurement.backend import local
from colt_pipeline.measurement.confirm import ROUNDS
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.runs.events import Measured, Planted, Stepped, event_from_json
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.runs.layout import CONFIG, JOURNAL
from colt_pipeline.runs.rundir import read_space
from colt_pipeline.space import Space
from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.data import unwritten
from colt_pipeline.workloads.workload import Workload
from stages.benchmarks import Row, command_line, names, positive, write_rows

_CLOSE = 1.5
"""Candidates that no method found within this factor of the best cannot be the best."""
_TURNS = 20
_RUNS = 3
"""Timed runs per turn, after one that is not timed."""
_AS_GOOD = 1.02
"""A pick within this factor of the best is as good: two candidates may differ by less than a timing can tell."""
_RACING, _DEFAULT = "this project, racing", "this project, one after the other"
_TVM, _TVM_AT_ONCE = "TVM, own f_build", "TVM, own f_build, one batch"


@dataclass(frozen=True)
class _Pass:
    """All candidates measured once by one method."""

    latencies: list[float | None]
    """Seconds; None if a candidate was lost."""
    runs: int
    """Timed runs, without cold ones."""
    pick: int
    """The candidate that is the best."""
    measuring_secs: float
    """Including the start of processes and their preparation of inputs."""
    confirming_secs: float

    @property
    def seconds(self) -> float:
        return self.measuring_secs + self.confirming_secs


def rows(runs: Path, experiment: str, workloads: Sequence[str], candidates: int, passes: int) -> list[Row]:
    """One row per workload and method, and per method over all workloads.

    Raises:
        ConfigError: the runs measured too few programs.
    """
    # TVM's builder knows no vector math, so neither side has it.
    shared = [f"experiment={experiment}", "space.vector_math=false"]
    found: list[Row] = []
    for name in workloads:
        configs = {measure: composed([f"workload={name}", f"measure={measure}", *shared]) for measure in _SETTINGS}
        found += _of_workload(configs, runs, candidates, passes)
    return found + [_overall(method, found) for method in dict.fromkeys(str(row["method"]) for row in found)]


_SETTINGS = ("racing", "default")


def _of_workload(configs: dict[str, Config], runs: Path, candidates: int, passes: int) -> list[Row]:
    config = configs["default"]
    workload = build(**vars(config.workload))
    backend = local(config)
    modules = _candidates(runs / config.experiment / workload.name, workload, backend.target, candidates)
    batch, repeats, secs = config.search.batch_size, config.measure.min_repeats, config.measure.min_repeat_secs
    methods: dict[str, Callable[[], _Pass]] = {
        _RACING: lambda: _ours(workload, configs["racing"], modules, batch),
        _DEFAULT: lambda: _ours(workload, config, modules, batch),
        _TVM_AT_ONCE: lambda: _tvm(backend.target, modules, len(modules), repeats, secs),
        _TVM: lambda: _tvm(backend.target, modules, batch, repeats, secs),
    }
    # By default TVM uses one thread per physical core, whatever the target says; its workers inherit this variable.
    os.environ["TVM_NUM_THREADS"] = str(backend.target["num-cores"])
    found: dict[str, list[_Pass]] = {method: [] for method in methods}
    with device_lock(backend.device.lock):
        for number in range(passes):
            for method, measure in methods.items():
                found[method].append(each := measure())
                print(
                    f"{workload.name}, pass {number + 1} of {passes}, {method}: {each.seconds:.1f} s", file=sys.stderr
                )
        truth = _truth(workload, backend.target, modules, [each for all_ in found.values() for each in all_])
    return [_row(workload.name, method, found, truth) for method in methods]


def _row(workload: str, method: str, found: dict[str, list[_Pass]], truth: dict[int, float]) -> Row:
    passes, best = found[method], min(truth.values())
    regrets = [truth[each.pick] / best for each in passes]

    def speed(method: str) -> float:
        good = [sum(secs is not None for secs in each.latencies) / each.seconds for each in found[method]]
        return statistics.median(good)

    row: Row = {"workload": workload, "method": method, "passes": len(passes)}
    row["lost"] = max(sum(secs is None for secs in each.latencies) for each in passes)
    for part in ("measuring_secs", "confirming_secs"):
        row[part] = round(statistics.median(getattr(each, part) for each in passes), 2)
    row["runs"] = round(statistics.median(each.runs for each in passes))
    row["trials_per_sec"] = round(speed(method), 4)
    row["times_tvm"] = round(speed(method) / speed(_TVM), 2)
    row["picked_best"] = sum(truth[each.pick] == best for each in passes)
    row["picked_as_good"] = sum(regret <= _AS_GOOD for regret in regrets)
    row["mean_regret"] = round(statistics.fmean(regrets), 4)
    row["worst_regret"] = round(max(regrets), 4)
    return row


def _overall(method: str, found: Sequence[Row]) -> Row:
    """Sums over the workloads; of speeds the geometric mean, of regrets the mean and the worst."""
    own = [
        {name: float(str(value)) for name, value in row.items() if name not in ("workload", "method")}
        for row in found
        if row["method"] == method
    ]
    row: Row = {"workload": "all", "method": method}
    for name in own[0]:
        values = [each[name] for each in own]
        if name in ("trials_per_sec", "times_tvm"):
            row[name] = round(statistics.geometric_mean(values), 2)
        elif name == "mean_regret":
            row[name] = round(statistics.fmean(values), 4)
        elif name == "worst_regret":
            row[name] = max(values)
        else:
            row[name] = round(sum(values), 2) if name.endswith("_secs") else int(sum(values))
    return row


def _candidates(runs: Path, workload: Workload, target: dict[str, Any], number: int) -> list[tvm.IRModule]:
    """The first distinct programs measured by the runs below `runs`, in the order of their names.

    Raises:
        ConfigError: there are too few, because `dvc repro` has not replayed the runs here.
    """
    found: dict[str, tvm.IRModule] = {}
    for journal in sorted(runs.glob(f"*/{JOURNAL}")):
        space = Space(workload.module, target, read_space(journal.with_name(CONFIG)).additions)
        traces: dict[str, str] = {}
        for event in map(event_from_json, read_lines(journal)):
            children = event.children if isinstance(event, Planted) else ()
            if isinstance(event, Stepped) and event.child is not None:
                children = (event.child,)
            traces |= {child.program: child.trace for child in children}
            for sample in event.samples if isinstance(event, Measured) else ():
                if len(found) < number and sample.error is None:
                    found[sample.program] = space.load(sample.program, traces[sample.program]).schedule.mod
    if len(found) < number:
        raise ConfigError(f"{runs} holds only {len(found)} of {number} measured programs; run `dvc repro` first")
    return list(found.values())


def _ours(workload: Workload, config: Config, modules: list[tvm.IRModule], batch: int) -> _Pass:
    """Like a run, batch by batch, and then a confirmation of the best."""
    begin = time.perf_counter()
    with closing(local(config).make_measurer(workload)) as measurer:
        best, found = math.inf, []
        for start in range(0, len(modules), batch):
            found += list(measurer.measure(modules[start : start + batch], best))
            best = min(secs for secs in (best, *(m.latency_secs for m in found)) if secs is not None)
        measured = time.perf_counter()
        latencies = [m.latency_secs for m in found]
        whole = {n: secs for n, secs in enumerate(latencies) if secs is not None and found[n].stop != "slower"}
        few = sorted(whole, key=lambda n: whole[n])[: config.measure.confirm]
        again: dict[int, list[float]] = {n: [] for n in few}
        for number in range(ROUNDS):
            first = number % len(few)
            turn = [*few[first:], *few[:first]]
            for n, m in zip(turn, measurer.measure([modules[n] for n in turn], None), strict=True):
                if m.latency_secs is not None:
                    again[n].append(m.latency_secs)
        end = time.perf_counter()
    pick = min((n for n in few if len(again[n]) == ROUNDS), key=lambda n: statistics.median(again[n]))
    runs = sum(len(m.run_secs) for m in found)
    return _Pass(latencies, runs, pick, measured - begin, end - measured)


def _build(module: tvm.IRModule, target: tvm.target.Target, _: object) -> tvm.runtime.Module:
    """What TVM's default build function does, without importing the intrinsics."""
    return tvm.compile(module, target=target).mod


def _tvm(
    target: dict[str, object], modules: list[tvm.IRModule], batch: int, repeats: int, min_repeat_secs: float
) -> _Pass:
    """TVM's LocalBuilder and LocalRunner, with this many timed runs."""
    begin = time.perf_counter()
    arguments = ms.arg_info.ArgInfo.from_entry_func(modules[0], remove_preproc=True)
    builder = ms.builder.LocalBuilder(f_build=_build)
    settings = ms.runner.EvaluatorConfig(number=1, repeat=repeats, min_repeat_ms=round(1000 * min_repeat_secs))
    runner = ms.runner.LocalRunner(evaluator_config=settings)
    means: list[float | None] = []
    for start in range(0, len(modules), batch):
        inputs = [ms.builder.BuilderInput(m, tvm.target.Target(target)) for m in modules[start : start + batch]]
        for built in builder.build(inputs):
            if built.error_msg is not None:
                means.append(None)  # only its dead worker knew what it left in the temporary directory
                continue
            (future,) = runner.run([ms.runner.RunnerInput(built.artifact_path, "cpu", arguments)])
            result = future.result()
            shutil.rmtree(Path(str(built.artifact_path)).parent)
            means.append(None if result.error_msg is not None else statistics.fmean(map(float, result.run_secs)))
    valid = {n: secs for n, secs in enumerate(means) if secs is not None}
    pick = min(valid, key=lambda n: valid[n])
    return _Pass(means, repeats * len(valid), pick, time.perf_counter() - begin, 0.0)


def _truth(
    workload: Workload, target: dict[str, Any], modules: list[tvm.IRModule], passes: Sequence[_Pass]
) -> dict[int, float]:
    """Candidate -> median seconds over many turns, for all that some method found close to the best or picked."""
    close = {each.pick for each in passes}
    for each in passes:
        known = {n: secs for n, secs in enumerate(each.latencies) if secs is not None}
        close |= {n for n, secs in known.items() if secs <= _CLOSE * min(known.values())}
    arrays = dict(zip(workload.inputs_at, workload.inputs(), strict=True))
    parameters = workload.parameters
    arrays |= {i: unwritten(parameters[i].shape, parameters[i].dtype) for i in workload.outputs}
    arguments = [tvm.runtime.tensor(array, tvm.cpu()) for _, array in sorted(arrays.items())]
    kernels = {n: tvm.compile(modules[n], target=tvm.target.Target(target)).mod.get_function("main") for n in close}
    found: dict[int, list[float]] = {n: [] for n in close}
    order = sorted(close)
    for _ in range(_TURNS):
        for n in order:
            kernels[n](*arguments)
            for _ in range(_RUNS):
                begin = time.perf_counter()
                kernels[n](*arguments)
                found[n].append(time.perf_counter() - begin)
        order = [*order[1:], *order[:1]]
    return {n: statistics.median(times) for n, times in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.measurement --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="directory of finished runs")
    parser.add_argument("--experiment", default="cpu", help="group of runs")
    parser.add_argument("--workloads", type=names, default=("llama3_8b_attention",), help="comma-separated")
    parser.add_argument("--candidates", type=positive, default=64, help="number of programs to measure")
    parser.add_argument("--passes", type=positive, default=3, help="how often each method measures all of them")
    given = parser.parse_args(argv)
    return write_rows(
        lambda: rows(given.runs, given.experiment, given.workloads, given.candidates, given.passes),
        given.out / "measurement.csv",
    )


if __name__ == "__main__":
    sys.exit(main())
