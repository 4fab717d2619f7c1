"""Programs compile to machine code for several CUDA architectures, whether or not there is a GPU."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import tvm
from joblib import Parallel, delayed
from tvm.support.nvcc import compile_cuda

from colt_pipeline.config.compose import composed
from colt_pipeline.errors import ConfigError, DeviceError, SpaceError
from colt_pipeline.measurement.bench import TVM_ERRORS, last_line
from colt_pipeline.measurement.cuda import Compiler, compilable_cuda_target, compiler
from colt_pipeline.space import Program, Space
from colt_pipeline.stack import usable_cores
from colt_pipeline.workloads.catalogue import build
from stages.benchmarks import Row
from stages.benchmarks.gpu.plan import Plan

ARCHS = ("sm_75", "sm_86", "sm_90")
"""Turing (the paper's RTX 2080 Ti), Ampere and Hopper."""
_SAMPLES = 4
"""Of a workload's space, compiled beside its unoptimized program."""
_ATTEMPTS = 4
_FORMATS: dict[Compiler, str] = {"nvcc": "fatbin", "NVRTC": "cubin"}
"""What TVM asks for: machine code for one architecture."""


def rows(plan: Plan) -> list[Row]:
    """One row per workload and architecture; none in a dry run where there is no CUDA compiler."""
    try:
        return compile_table(plan.workloads, plan.space)
    except DeviceError as error:
        if not plan.dry:
            raise
        print(f"nothing was compiled: {error}", file=sys.stderr)
        return []


def compile_table(workloads: Sequence[str], space: str, archs: Sequence[str] = ARCHS) -> list[Row]:
    """Compile each workload's unoptimized program and samples of a space, workload by workload, side by side.

    Raises:
        DeviceError: there is no CUDA compiler.
    """
    jobs = [delayed(compile_row)(workload, arch, space) for workload in workloads for arch in archs]
    return list(Parallel(min(usable_cores(), len(jobs)))(jobs))


def compile_row(workload: str, arch: str, space: str = Plan.space, samples: int = _SAMPLES) -> Row:
    """How many of the programs compile, how long the compiler takes for each, and the first failure."""
    row: Row = {"workload": workload, "arch": arch, "programs": 0, "compiled": 0, "compiler": compiler()}
    row |= {"secs_per_program": None, "failure": ""}
    try:
        target = compilable_cuda_target(arch)
    except ConfigError as error:
        return row | {"failure": str(error)}
    config = composed([f"workload={workload}", "target=gpu", f"space={space}"])
    designs = Space(build(config.workload.name, config.workload.shape).module, target, config.space.additions)
    secs, failures = [], []
    for module in (designs.baseline, *_sampled(designs, samples)):
        begin = time.perf_counter()
        try:
            _machine_code(module, tvm.target.Target(target))
        except TVM_ERRORS as error:
            failures.append(last_line(error))
        secs.append(time.perf_counter() - begin)
    row |= {"programs": len(secs), "compiled": len(secs) - len(failures)}
    return row | {"secs_per_program": round(sum(secs) / len(secs), 2), "failure": next(iter(failures), "")}


def _sampled(space: Space, count: int) -> list[tvm.IRModule]:
    """Up to `count` distinct programs; where most draws are invalid (attention), one call finds fewer, or none."""
    found, rng = dict[str, Program](), np.random.default_rng(0)
    for _ in range(_ATTEMPTS):
        if len(found) < count:
            with suppress(SpaceError):
                found |= {program.key: program for program in space.initial(count, rng)}
    return [program.schedule.mod for program in found.values()][:count]


def _machine_code(module: tvm.IRModule, target: tvm.target.Target) -> bytes:
    """What TVM's own build of `module` calls the compiler for; without a driver, TVM would stop at the CUDA source."""
    name = compiler()
    with target, _source_only():
        source = tvm.compile(module, target=target).mod.imports[0].inspect_source()
        return bytes(compile_cuda(source, target_format=_FORMATS[name], compiler=name.lower()))


@contextmanager
def _source_only() -> Iterator[None]:
    """Let TVM stop at the CUDA source, which it otherwise does only without a driver."""
    variable = "TVM_COMPILE_FORCE_FALLBACK"
    before = os.environ.get(variable)
    os.environ[variable] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
