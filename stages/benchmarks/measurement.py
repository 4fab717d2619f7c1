"""The same candidates measured by this project and by TVM.

The candidates are those that the recorded searches measured. Every method times each one five times after a warm-up
run; this project also checks the results against the reference, TVM does not. `own f_build` spares TVM's builder the
import of all tensor intrinsics. This project gets its candidates in batches, as in a search; TVM gets them in such
batches or all at once, which favours it, because its builder starts new processes for each batch. One row shows this
project's default settings, which stop once the spread is small or a candidate is clearly slower than the best.
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tvm
from tvm.s_tir import meta_schedule as ms

from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.measurement.backend import local
from colt_pipeline.measurement.lock import device_lock
from colt_pipeline.measurement.timing import spread
from colt_pipeline.runs.events import Measured, Planted, Stepped, event_from_json
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.runs.layout import CONFIG, JOURNAL
from colt_pipeline.runs.rundir import read_space
from colt_pipeline.space import Space
from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.workload import Workload
from stages.benchmarks import Row, command_line, names, positive, write_rows

_REPEATS = 5
_FEW = 16
"""Candidates for unmodified TVM, which takes 15 s or more for each."""
Trials = list[Sequence[float] | None]
"""Run times in seconds per candidate; None if it was lost."""


def rows(runs: Path, experiment: str, workloads: Sequence[str], candidates: int) -> list[Row]:
    """One row per method: candidates lost, seconds, trials per second and their ratios to TVM's, median spread.

    Raises:
        ConfigError: the runs measured too few programs.
    """
    # TVM's builder knows no vector math, so neither side has it.
    shared = [f"experiment={experiment}", "space.vector_math=false"]
    configs = [composed([f"workload={name}", *shared]) for name in workloads]
    return [row for config in configs for row in _of_workload(config, runs, candidates)]


def _of_workload(config: Config, runs: Path, candidates: int) -> list[Row]:
    workload = build(**vars(config.workload))
    backend = local(config)
    modules = _candidates(runs / config.experiment / workload.name, workload, backend.target, candidates)
    batch = config.search.batch_size
    same = replace(config.measure, min_repeats=_REPEATS, max_repeats=_REPEATS, min_repeat_secs=0.0, slower=0.0)
    # The slowest comes last, so that its effects on the machine do not disturb the others.
    methods: dict[str, Callable[[], Trials]] = {
        "this project": lambda: _ours(workload, replace(config, measure=same), modules, batch),
        "TVM, own f_build, one batch": lambda: _tvm(backend.target, modules, len(modules), _build),
        "this project, default settings": lambda: _ours(workload, config, modules, batch),
        "TVM, own f_build": lambda: _tvm(backend.target, modules, batch, _build),
        f"TVM as it comes, first {_FEW}, one batch": lambda: _tvm(backend.target, modules[:_FEW], _FEW, None),
    }
    found = []
    # By default TVM uses one thread per physical core, whatever the target says; its workers inherit this variable.
    os.environ["TVM_NUM_THREADS"] = str(backend.target["num-cores"])
    with device_lock(backend.device.lock):
        for method, measure in methods.items():
            start = time.perf_counter()
            trials = measure()
            seconds = time.perf_counter() - start
            good = [t for t in trials if t is not None]
            spreads = [spread(t) for t in good if len(t) > 1]
            row: Row = {"workload": workload.name, "method": method}
            row |= {"candidates": len(trials), "lost": len(trials) - len(good)}
            row |= {"seconds": round(seconds, 2), "trials_per_sec": round(len(good) / seconds, 4)}
            row["running_secs"] = round(sum(map(sum, good)), 2)
            row["median_spread"] = round(statistics.median(spreads), 5) if spreads else ""
            print(row, file=sys.stderr, flush=True)
            found.append(row)
    speed = {row["method"]: float(str(row["trials_per_sec"])) for row in found}
    for row in found:
        for other in (m for m in methods if m.startswith("TVM")):
            ratio = speed[str(row["method"])] / speed[other] if speed[other] else math.inf
            row[f"times {other}"] = round(ratio, 2)
    return found


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


def _ours(workload: Workload, config: Config, modules: list[tvm.IRModule], batch: int) -> Trials:
    measurer = local(config).make_measurer(workload)
    trials: Trials = []
    best: float | None = None
    try:
        for start in range(0, len(modules), batch):
            for m in measurer.measure(modules[start : start + batch], best):
                trials.append(m.run_secs if m.error is None else None)
                best = min((t for t in (best, m.latency_secs) if t is not None), default=None)
    finally:
        measurer.close()
    return trials


def _build(module: tvm.IRModule, target: tvm.target.Target, _: object) -> tvm.runtime.Module:
    """What TVM's default build function does, without importing the intrinsics."""
    return tvm.compile(module, target=target).mod


def _tvm(
    target: dict[str, object], modules: list[tvm.IRModule], batch: int, f_build: Callable[..., object] | None
) -> Trials:
    """Measure with TVM's LocalBuilder and LocalRunner and their defaults."""
    arguments = ms.arg_info.ArgInfo.from_entry_func(modules[0], remove_preproc=True)
    builder = ms.builder.LocalBuilder(f_build=f_build)
    settings = ms.runner.EvaluatorConfig(number=1, repeat=_REPEATS, min_repeat_ms=0)
    runner = ms.runner.LocalRunner(evaluator_config=settings)
    trials: Trials = []
    for start in range(0, len(modules), batch):
        inputs = [ms.builder.BuilderInput(m, tvm.target.Target(target)) for m in modules[start : start + batch]]
        for built in builder.build(inputs):
            if built.error_msg is not None:
                trials.append(None)  # only its dead worker knew what it left in the temporary directory
                continue
            (future,) = runner.run([ms.runner.RunnerInput(built.artifact_path, "cpu", arguments)])
            result = future.result()
            shutil.rmtree(Path(str(built.artifact_path)).parent)
            trials.append(None if result.error_msg is not None else [float(t) for t in result.run_secs])
    return trials


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.measurement --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--runs", type=Path, default=Path("results/runs"), help="directory of finished runs")
    parser.add_argument("--experiment", default="cpu", help="group of runs")
    parser.add_argument("--workloads", type=names, default=("llama3_8b_attention",), help="comma-separated")
    parser.add_argument("--candidates", type=positive, default=64, help="number of programs to measure")
    given = parser.parse_args(argv)
    return write_rows(
        lambda: rows(given.runs, given.experiment, given.workloads, given.candidates), given.out / "measurement.csv"
    )


if __name__ == "__main__":
    sys.exit(main())
