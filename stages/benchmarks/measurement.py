"""The same candidates through this project's measurement and through TVM's, side by side.

Each candidate is timed five times after warm-up by every method; this project also checks the result against the
reference, TVM does not. `own f_build` spares TVM's builder the import of all tensor intrinsics. One row is this
project's default setting, which stops when the spread is small or a candidate is clearly slower than the best.
"""

from __future__ import annotations

import math
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tvm
from tvm.s_tir import meta_schedule as ms

from colt_pipeline.config import Config
from colt_pipeline.evaluation.connect import local
from colt_pipeline.evaluation.lock import device_lock
from colt_pipeline.evaluation.timing import spread
from colt_pipeline.space import Space
from colt_pipeline.workloads import Workload, build
from stages.benchmarks import Options, Row, composed

_REPEATS = 5
Trials = list[Sequence[float] | None]
"""Run times in seconds per candidate; None: lost."""


def rows(options: Options) -> list[Row]:
    """One row per method: candidates lost, seconds, trials per second and their ratios to TVM's, median spread."""
    return [row for workload in options.workloads for row in _of_workload(options, workload)]


def _of_workload(options: Options, name: str) -> list[Row]:
    config = composed([f"workload={name}"])
    workload = build(config.workload.name, config.workload.shape)
    backend = local(config)
    programs = Space(workload.module, backend.target).initial(options.candidates, np.random.default_rng(0))
    modules = [p.schedule.mod for p in programs]
    same = replace(config.measure, min_repeats=_REPEATS, max_repeats=_REPEATS, min_repeat_secs=0.0, slower=0.0)
    methods: dict[str, Callable[[], Trials]] = {
        "this project": lambda: _ours(workload, replace(config, measure=same), modules),
        "TVM, own f_build": lambda: _tvm(backend.target, modules, _build),
        "this project, default settings": lambda: _ours(workload, config, modules),
        "TVM as it comes": lambda: _tvm(backend.target, modules, None),
    }
    found = []
    with device_lock(backend.device.slug):
        for method, measure in methods.items():
            start = time.perf_counter()
            trials = measure()
            seconds = time.perf_counter() - start
            good = [t for t in trials if t is not None]
            spreads = [spread(t) for t in good if len(t) > 1]
            row: Row = {"workload": name, "method": method, "candidates": len(trials), "lost": len(trials) - len(good)}
            row |= {"seconds": round(seconds, 2), "trials_per_sec": round(len(good) / seconds, 4)}
            row["median_spread"] = round(statistics.median(spreads), 5) if spreads else ""
            print(row, flush=True)
            found.append(row)
    speed = {row["method"]: float(str(row["trials_per_sec"])) for row in found}
    for row in found:
        for other, key in (("TVM, own f_build", "times_own_f_build"), ("TVM as it comes", "times_as_it_comes")):
            own = speed[str(row["method"])]
            row[key] = round(own / speed[other], 2) if speed[other] else math.inf
    return found


def _ours(workload: Workload, config: Config, modules: list[tvm.IRModule]) -> Trials:
    measurer = local(config).connect(workload)
    try:
        return [m.run_secs if m.error is None else None for m in measurer.measure(modules, None)]
    finally:
        measurer.close()


def _build(module: tvm.IRModule, target: tvm.target.Target, _: object) -> tvm.runtime.Module:
    """What TVM's default build function does, without importing the intrinsics."""
    return tvm.compile(module, target=target).mod


def _tvm(target: dict[str, object], modules: list[tvm.IRModule], f_build: Callable[..., object] | None) -> Trials:
    """TVM's LocalBuilder and LocalRunner with their defaults, all candidates in one batch."""
    arguments = ms.arg_info.ArgInfo.from_entry_func(modules[0], remove_preproc=True)
    builder = ms.builder.LocalBuilder(f_build=f_build)
    settings = ms.runner.EvaluatorConfig(number=1, repeat=_REPEATS, min_repeat_ms=0)
    runner = ms.runner.LocalRunner(evaluator_config=settings)
    built = builder.build([ms.builder.BuilderInput(m, tvm.target.Target(target)) for m in modules])
    ready = [i for i, result in enumerate(built) if result.error_msg is None]
    inputs = [ms.runner.RunnerInput(built[i].artifact_path, "cpu", arguments) for i in ready]
    results = [future.result() for future in runner.run(inputs)]
    trials: Trials = [None] * len(modules)
    for i, result in zip(ready, results, strict=True):
        shutil.rmtree(Path(str(built[i].artifact_path)).parent)
        if result.error_msg is None:
            trials[i] = [float(t) for t in result.run_secs]
    return trials
