"""What packing weights ahead gains for two projections: each is tuned with its weights as they are, and packed.

Both runs of a kernel are ordinary ones in one design space: ours, whose register tiles read a weight in long runs or
pack it in each call, and TVM's. Their best programs are confirmed, warm and with cold
caches: back to back a weight may stay in the caches, in a model of several layers it comes from memory.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colt_pipeline.analysis.labels import backend_label
from colt_pipeline.config.schema import Config
from colt_pipeline.config.spaces import space_name
from colt_pipeline.errors import ConfigError
from colt_pipeline.from_python import configuration
from colt_pipeline.runs.layout import SUMMARY, run_directory
from colt_pipeline.runs.rundir import read_json
from stages.benchmarks import Row, command_line, names, positive, write_csv, write_rows
from stages.benchmarks.tuned import finish, keys

KERNELS = ("llama3_8b_attention", "deepseek_r1_moe")
SPACES = ("extended", "tvm")
WEIGHT = 1
"""Position of a projection's weight."""


def rows(out: Path, runs: Path, kernels: Sequence[str], samples: int, overrides: Sequence[str]) -> list[Row]:
    """One row per design space and kernel; the table is written after each.

    Raises:
        ConfigError: an unknown kernel.
        UnfinishedError: a run failed.
    """
    if unknown := [kernel for kernel in kernels if kernel not in KERNELS]:
        raise ConfigError(f"--kernels={unknown[0]} is unknown; choose from {', '.join(KERNELS)}")
    made: list[Row] = []
    for space in SPACES:
        for kernel in kernels:
            both = [_run(runs, kernel, space, constant, samples, overrides) for constant in ([], [WEIGHT])]
            finish(both)
            made.append(row(kernel, *(_summary(config) for config in both)))
            write_csv(made, out / "packing.csv")
    return made


def _run(runs: Path, kernel: str, space: str, constant: list[int], samples: int, overrides: Sequence[str]) -> Config:
    given: dict[str, Any] = {"workload": kernel, "++workload.constant": constant, "results": runs, "samples": samples}
    return configuration({**given, "space": space, "measure.cold_runs": 3, "device": "local", **keys(overrides)})


def _summary(config: Config) -> dict[str, Any]:
    return read_json(run_directory(config.results, config.experiment, config.run) / SUMMARY)


def row(kernel: str, plain: Mapping[str, Any], packed: Mapping[str, Any]) -> Row:
    """The confirmed latencies of a kernel's two runs, and what packing gains."""
    made: Row = {"workload": kernel}
    for name, key in (("warm", "confirmed_secs"), ("cold", "confirmed_cold_secs")):
        made |= {f"{name}_ms": _ms(plain[key]), f"{name}_packed_ms": _ms(packed[key])}
        made |= {f"{name}_gain": round(plain[key] / packed[key], 3)}
    made |= {"samples": plain["samples"], "space": space_name(plain.get("space", ())), "search": plain["search"]}
    return made | {"llm": backend_label(plain["llm_backend"]), "device": plain["device"]}


def _ms(secs: float) -> float:
    return float(f"{1e3 * secs:.4g}")


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.packing --out results/benchmark``."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--runs", type=Path, default=Path("build/packing"), help="directory for the runs, which are resumed")
    add("--kernels", type=names, default=KERNELS, help="comma-separated; default: all")
    add("--samples", type=positive, default=64, help="programs measured per run")
    add("overrides", nargs="*", help="of the runs, such as seed=1")
    given = parser.parse_args(argv)
    chosen = (given.out, given.runs, given.kernels, given.samples, given.overrides)
    return write_rows(lambda: rows(*chosen), given.out / "packing.csv")


if __name__ == "__main__":
    sys.exit(main())
