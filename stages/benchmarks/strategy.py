"""This project's search and TVM's own, both as strategies of ``ms.tune_tir``, on kernels that no recording has seen.

Both get the same number of trials in batches of the same size, and the same LocalBuilder and LocalRunner of TVM's, with
their defaults; of ours one trial is the unoptimized program. Both search TVM's design space. TVM's evolutionary search
has its default options and its cost model, ours the defaults of this project, with stand-ins for the models. One
follows the other. Then the best schedules of the two databases, by TVM's own ``compile_tir``, and the unoptimized
program are measured in turn in one process, and each result is checked.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tvm
from tvm import te
from tvm.s_tir import meta_schedule as ms

from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import MeasureConfig
from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.measurement.backend import local
from colt_pipeline.measurement.bench import Bench
from colt_pipeline.space import intrinsics
from colt_pipeline.strategy import Colt
from colt_pipeline.workloads.own import of_program
from stages.benchmarks import Row, command_line, names, positive, write_rows
from stages.benchmarks.rounds import medians

_BATCH = 8
"""The batch of this project's search."""


def batched_gelu(batch: int = 4, rows: int = 64, inner: int = 256, columns: int = 256) -> tvm.tirx.PrimFunc:
    """A batched matrix product with bias and GELU (by tanh)."""
    a, b = te.placeholder((batch, rows, inner), name="A"), te.placeholder((batch, inner, columns), name="B")
    bias, k = te.placeholder((columns,), name="bias"), te.reduce_axis((0, inner), name="k")
    shape = (batch, rows, columns)
    c = te.compute(shape, lambda n, i, j: te.sum(a[n, i, k] * b[n, k, j], axis=k), name="product")
    d = te.compute(shape, lambda n, i, j: c[n, i, j] + bias[j], name="biased")
    scale = math.sqrt(2 / math.pi)
    tanh = te.compute(shape, lambda *i: te.tanh(scale * (d(*i) + 0.044715 * d(*i) * d(*i) * d(*i))), name="tanh")
    return te.create_prim_func([a, b, bias, te.compute(shape, lambda *i: 0.5 * d(*i) * (1.0 + tanh(*i)), name="gelu")])


def pointwise(channels: int = 128, filters: int = 128, size: int = 28) -> tvm.tirx.PrimFunc:
    """A 1x1 convolution in NCHW with ReLU."""
    x, w = te.placeholder((1, channels, size, size), name="X"), te.placeholder((filters, channels), name="W")
    k, shape = te.reduce_axis((0, channels), name="k"), (1, filters, size, size)
    c = te.compute(shape, lambda n, f, i, j: te.sum(x[n, k, i, j] * w[f, k], axis=k), name="conv")
    return te.create_prim_func([x, w, te.compute(shape, lambda *i: te.max(c(*i), 0.0), name="relu")])


def normalized(rows: int = 32, inner: int = 512, columns: int = 512) -> tvm.tirx.PrimFunc:
    """RMSNorm, then a matrix product with float16 weights that accumulates in float32."""
    x, g = te.placeholder((rows, inner), name="X"), te.placeholder((inner,), name="G")
    w = te.placeholder((inner, columns), "float16", name="W")
    r, k = te.reduce_axis((0, inner), name="r"), te.reduce_axis((0, inner), name="k")
    squares = te.compute((rows,), lambda i: te.sum(x[i, r] * x[i, r], axis=r), name="squares")
    norm = te.compute(
        (rows, inner), lambda i, j: x[i, j] * g[j] / te.sqrt(squares[i] / float(inner) + 1e-5), name="norm"
    )
    wide = te.compute((inner, columns), lambda i, j: w[i, j].astype("float32"), name="wide")
    out = te.compute((rows, columns), lambda i, j: te.sum(norm[i, k] * wide[k, j], axis=k), name="out")
    return te.create_prim_func([x, g, w, out])


KERNELS: dict[str, Callable[[], tvm.tirx.PrimFunc]] = {
    "batched_gelu": batched_gelu,
    "pointwise_conv_relu": pointwise,
    "rmsnorm_matmul_f16": normalized,
}


def rows(kernels: Sequence[str], trials: int, rounds: int, seed: int) -> list[Row]:
    """One row per kernel: the unoptimized program, our best, TVM's best, their ratio, and how long each tuning took.

    Raises:
        ConfigError: an unknown kernel.
        DeviceError: a best schedule does not run here, or its result is wrong.
    """
    if unknown := [name for name in kernels if name not in KERNELS]:
        raise ConfigError(f"--kernels={unknown[0]} is unknown; choose from {', '.join(KERNELS)}")
    config = composed(["space=tvm"])
    backend = local(config)
    # By default TVM uses one thread per physical core, whatever the target says; its workers inherit this variable.
    os.environ["TVM_NUM_THREADS"] = str(backend.target["num-cores"])
    target = tvm.target.Target(backend.target)
    found = []
    for name in kernels:
        program = KERNELS[name]()
        module = tvm.IRModule({"main": program.with_attr("global_symbol", "main")})
        best, secs = {"unoptimized": module}, {}
        for strategy in ("colt", "evolutionary"):
            begin = time.perf_counter()
            with tempfile.TemporaryDirectory() as scratch:
                database = _tuned(program, target, Path(scratch), strategy, trials, seed)
            secs[strategy] = time.perf_counter() - begin
            schedule = ms.tir_integration.compile_tir(database, module, target)
            if schedule is None:
                raise DeviceError(f"{strategy} found no schedule of {name} that runs here")
            best[strategy] = schedule.mod
        bench = Bench(of_program(name, program, {}))
        subjects = {which: _timed(name, bench, each, target, config.measure) for which, each in best.items()}
        latencies = medians(subjects, rounds, backend.device.lock)
        row: Row = {"kernel": name, "trials": trials}
        row |= {f"{which}_ms": round(1e3 * latency, 4) for which, latency in latencies.items()}
        row["evolutionary/colt"] = round(latencies["evolutionary"] / latencies["colt"], 3)
        row |= {f"{strategy}_tuning_secs": round(each, 1) for strategy, each in secs.items()}
        print(row, file=sys.stderr, flush=True)
        found.append(row)
    return found


def _tuned(
    program: tvm.tirx.PrimFunc, target: tvm.target.Target, scratch: Path, strategy: str, trials: int, seed: int
) -> ms.Database:
    """The database after tuning with a strategy, TVM's or ours."""
    logging.getLogger("tvm.s_tir.meta_schedule").setLevel(logging.WARNING)  # TVM resets it at each call
    ours: dict[str, Any] = {
        "strategy": Colt(results=str(scratch / "results"), seed=seed, space="tvm"),
        "cost_model": "random",
    }
    return ms.tune_tir(
        program,
        target,
        work_dir=str(scratch / "work"),
        max_trials_global=trials,
        num_trials_per_iter=_BATCH,
        # Without the initializer, each of its processes would parse the intrinsics of all targets for 15 s or more.
        builder=ms.builder.LocalBuilder(initializer=intrinsics.register),
        runner=ms.runner.LocalRunner(),
        seed=seed,
        **(ours if strategy == "colt" else {"strategy": strategy}),
    )


def _timed(
    name: str, bench: Bench, module: tvm.IRModule, target: tvm.target.Target, settings: MeasureConfig
) -> Callable[[], float]:
    """Measures a schedule, by the rules of a search, in this process."""
    library = tvm.compile(module, target=target)

    def secs() -> float:
        measured = bench.measure(library.mod, tvm.cpu(), settings, None)
        if measured.latency_secs is None:
            raise DeviceError(f"a schedule of {name} failed: {measured.error} ({measured.detail})")
        return measured.latency_secs

    return secs


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.strategy --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--kernels", type=names, default=tuple(KERNELS), help="comma-separated; default: all")
    parser.add_argument("--trials", type=positive, default=32, help="programs that each strategy measures")
    parser.add_argument("--rounds", type=positive, default=11, help="measurements of each best schedule")
    parser.add_argument("--seed", type=positive, default=1, help="of both strategies")
    given = parser.parse_args(argv)
    return write_rows(lambda: rows(given.kernels, given.trials, given.rounds, given.seed), given.out / "strategy.csv")


if __name__ == "__main__":
    sys.exit(main())
