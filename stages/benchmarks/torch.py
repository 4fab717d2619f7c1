"""The best schedules of finished runs beside PyTorch, eager and compiled, and ONNX Runtime, on this machine's CPU.

With --tune each kernel is tuned first: the catalogue's, and five that no rule of the design space was developed on. All
sides get the same inputs and number of threads, and are checked against NumPy. They are timed in one process per kernel
in turn, with pauses and warm calls in between (rounds.in_turn). Of each side the fastest layout counts. Compiled
PyTorch and ONNX Runtime have their weights as constants, which they may pack ahead; eager PyTorch and our kernels take
them as inputs. Limits of the machine are measured in the same sitting. Rows are on disk as soon as they are known.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from colt_pipeline.analysis.labels import backend_label
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.config.spaces import space_name
from colt_pipeline.errors import ConfigError, DeviceError
from colt_pipeline.from_python import configuration
from colt_pipeline.measurement.backend import Backend, local
from colt_pipeline.runs.layout import CONFIG, SUMMARY
from colt_pipeline.runs.rundir import read_config, read_json, read_space
from colt_pipeline.workloads import PAPER
from colt_pipeline.workloads.catalogue import WORKLOADS
from colt_pipeline.workloads.workload import Workload
from stages.benchmarks import Row, command_line, limits, names, positive, write_csv, write_rows
from stages.benchmarks.frameworks.sitting import OURS, SIDES, Comparison, compared, workload_of
from stages.benchmarks.programs import OWN
from stages.benchmarks.recorded import best_run
from stages.benchmarks.rounds import own_process
from stages.benchmarks.tuned import finish, keys, own

KERNELS = (*WORKLOADS, *OWN)
_PACKAGES = ("torch", "onnx", "onnxruntime")
_WITHOUT_WEIGHTS = ("flux_attention", "llama3_8b_attention_core", "batched_matmul_nt", "bert_large_attention")


def rows(
    out: Path, runs: Path, kernels: Sequence[str], rounds: int, tune: bool, samples: int, overrides: Sequence[str]
) -> list[Row]:
    """One row per kernel, then geometric means; the table is written after each kernel, its chart at the end.

    Raises:
        ConfigError: an unknown kernel, a missing package or compiler, or no finished run.
        DeviceError: a result is wrong, or a process crashed.
        UnfinishedError: a kernel could not be tuned.
    """
    _check(kernels)
    workloads = {kernel: workload_of(kernel) for kernel in kernels}
    if tune:
        finish([_run(runs, workload, samples, overrides) for workload in workloads.values()])
    backend = local(composed([]))
    best = {kernel: run for kernel, workload in workloads.items() if (run := best_run(runs, workload, backend))}
    if missing := [kernel for kernel in workloads if kernel not in best]:
        raise ConfigError(
            f"{runs} holds no finished run of {', '.join(missing)} on {backend.device.slug}; add --tune, or name "
            "another directory with --runs"
        )
    facts: list[Row] = []
    found: dict[str, Comparison] = {}
    measured: list[limits.Limits] = []
    with own_process() as process:
        for kernel, run in best.items():
            measured.append(process.submit(limits.measured, backend.target, backend.device.lock).result())
            found[kernel] = _compared(kernel, run, runs, backend, rounds)
            facts.append(_facts(run, backend))
            made = table(workloads, found, limits.middle(measured), facts)
            write_csv(made, out / "torch.csv")
            print(f"{kernel}: {made[len(found) - 1]['best/ours']}", file=sys.stderr, flush=True)
    _draw(made, out)
    return made


def _check(kernels: Sequence[str]) -> None:
    if unknown := [kernel for kernel in kernels if kernel not in KERNELS]:
        raise ConfigError(f"--kernels={unknown[0]} is unknown; choose from {', '.join(KERNELS)}")
    if missing := [package for package in _PACKAGES if find_spec(package) is None]:
        raise ConfigError(f"{', '.join(missing)} not installed; pip install -c constraints.txt -e '.[torch]'")
    if shutil.which("g++") is None:
        raise ConfigError("torch.compile needs g++, which is not installed")


def _run(runs: Path, workload: Workload, samples: int, overrides: Sequence[str]) -> Config:
    """The run that tunes a kernel, with this project's search in the extended design space."""
    given: dict[str, Any] = {"search": "colt", "space": "extended", "samples": samples}
    given |= keys(overrides)
    if workload.is_own:
        return own(runs, workload.name, workload, given)
    return configuration({"workload": workload.name, "results": runs, **given})


def _compared(kernel: str, run: Path, runs: Path, backend: Backend, rounds: int) -> Comparison:
    """A comparison in a fresh process, which may crash or change its settings."""
    arguments = (kernel, run, runs / "scratch", int(backend.target["num-cores"]), backend.device.lock, rounds)
    with own_process() as process:
        try:
            return process.submit(_of_kernel, *arguments).result()
        except BrokenProcessPool as error:
            raise DeviceError(
                f"the process that compares {kernel} crashed; what was compared before is written, and --kernels "
                "chooses the others"
            ) from error


def _of_kernel(kernel: str, *arguments: Any) -> Comparison:
    return compared(workload_of(kernel), *arguments)


def _facts(run: Path, backend: Backend) -> Row:
    """What a row says besides times."""
    config, space = read_config(run / CONFIG), read_space(run / CONFIG)
    facts: Row = {"search": config["search"]["name"], "space": space_name(space.additions)}
    facts |= {"llm": backend_label(read_json(run / SUMMARY)["llm_backend"]), "samples": config["samples"]}
    return {**facts, "threads": backend.target["num-cores"], "device": backend.device.facts["cpu"]}


def table(
    workloads: Mapping[str, Workload],
    found: Mapping[str, Comparison],
    machine: limits.Limits,
    facts: Sequence[Row],
) -> list[Row]:
    """The rows of the kernels that are compared so far, and their geometric means."""
    made = [
        _row(workloads[kernel], comparison, machine) | fact
        for (kernel, comparison), fact in zip(found.items(), facts, strict=True)
    ]
    paper = [row for row in made if row["kernel"] in PAPER]
    means = [_mean("geometric mean", made), *([_mean("geometric mean of the paper's five", paper)] if paper else [])]
    return [*made, *means]


def _row(workload: Workload, comparison: Comparison, machine: limits.Limits) -> Row:
    best = {side: versions[0] for side, versions in comparison.items()}
    others = {side: timed for side, timed in best.items() if side != OURS}
    fastest = min(others, key=lambda side: others[side].secs)
    secs = best[OURS].secs
    roofline_secs, bound = machine.roofline(workload.flop, workload.compulsory_bytes)
    row: Row = {"kernel": workload.name}
    row |= {f"{side}_ms": round(1e3 * timed.secs, 4) for side, timed in best.items()}
    row |= {"best": fastest, "best/ours": round(others[fastest].secs / secs, 3)}
    row |= {"roofline_share": float(f"{roofline_secs / secs:.4g}"), "bound": bound}
    row |= {f"{side}_layout": timed.label for side, timed in others.items()}
    for side in others:
        row[f"{side}_all_ms"] = ", ".join(f"{each.label} {1e3 * each.secs:.4g}" for each in comparison[side])
    row |= {f"{side}_error": float(f"{timed.error:.2g}") for side, timed in best.items()}
    row["weights"] = "none" if workload.name in _WITHOUT_WEIGHTS else "constants in compiled and onnxruntime"
    row |= {"peak_gflops": round(machine.flop_per_sec / 1e9, 1)}
    return row | {"memory_gb_per_sec": round(machine.memory_bytes_per_sec / 1e9, 2)}


def _mean(name: str, made: Sequence[Row]) -> Row:
    """Geometric means of ratios and shares."""
    row: Row = {"kernel": name}
    for column in ("best/ours", "roofline_share"):
        row[column] = round(statistics.geometric_mean(float(str(each[column])) for each in made), 3)
    return row


def _draw(made: Sequence[Row], out: Path) -> None:
    from stages.benchmarks.frameworks.chart import draw  # takes seconds to import

    draw(made, SIDES[1:], out / "torch")


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.torch --tune --out results/benchmark``."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--runs", type=Path, default=Path("build/torch"), help="directory with finished runs below")
    add("--kernels", type=names, default=KERNELS, help="comma-separated; default: all")
    add("--rounds", type=positive, default=15, help="measurements of each")
    add("--tune", action="store_true", help="tune what has not been tuned below --runs, or resume that")
    add("--samples", type=positive, default=64, help="programs that --tune measures per kernel")
    add("overrides", nargs="*", help="of the runs of --tune, such as seed=1")
    given = parser.parse_args(argv)
    chosen = (given.out, given.runs, given.kernels, given.rounds, given.tune, given.samples, given.overrides)
    return write_rows(lambda: rows(*chosen), given.out / "torch.csv")


if __name__ == "__main__":
    sys.exit(main())
