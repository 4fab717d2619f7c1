"""What each addition to TVM's design space brings, on kernels that did not serve to build it.

Per switch of ``conf/space/extended.yaml`` one kernel (KERNELS says why), tuned with this project's search and with
random proposals in two spaces: with the addition, and without it and those that need it (column ``off``). The others
are on, but for `sound`, which concerns TVM's designs and is judged among them. Runs of one kernel advance together,
batch by batch, so that drift of the machine affects all alike, and share the measurements of equal programs; the best
programs of each are confirmed. Programs with vector math and without are built in different ways, so their measurements
are apart. An interrupted command continues; rows are on disk as soon as they are known.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.job import read_summary
from stages.benchmarks import Row, command_line, names, positive, write_csv, write_rows
from stages.benchmarks.programs import UNSEEN
from stages.benchmarks.tuned import finish, keys, own

KERNELS: dict[str, str] = {
    "vector_math": "softmax_512x1024",  # half a million calls of exp, and little else
    "row_fusion": "attention_16x384x64",  # BERT-large; its scores do not fit into a core's cache
    "register_tiles": "matmul_256x768x768",  # enough reuse that registers are the limit
    "packing": "batched_matmul_nt_16x256x64x256",  # the transposed operand is read 256 times, by columns
    "padding": "depthwise_5x5_240x28x28",  # a condition for each of 25 reads
    "sound": "attention_4x128x64",  # chains of this kind have designs that are wrong or compile for minutes
}
"""Switch -> the kernel of UNSEEN that shows it."""
_NEEDED_BY = {"register_tiles": ("packing", "padding")}
"""Switch -> those that are off with it."""
SEARCHES = ("colt", "random_proposer")
_SPACES = ("without", "with")
_OF_TVM = ("sound",)
"""Switches without which the space is TVM's own."""


def rows(
    out: Path,
    runs: Path,
    switches: Sequence[str],
    searches: Sequence[str],
    samples: int,
    seeds: int,
    overrides: Sequence[str],
) -> list[Row]:
    """One row per switch and search: latencies in both spaces, and what the switch brings.

    Raises:
        ConfigError: an unknown switch.
        UnfinishedError: a run failed.
    """
    if unknown := [switch for switch in switches if switch not in KERNELS]:
        raise ConfigError(f"--switches={unknown[0]} is unknown; choose from {', '.join(KERNELS)}")
    made: list[Row] = []
    for switch in switches:
        configs = {
            (search, space, seed): _run(runs, switch, search, space, samples, seed, overrides)
            for seed in range(seeds)
            for search in searches
            for space in _SPACES
        }
        finish(list(configs.values()))
        for search in searches:
            of_search = {space: [configs[search, space, seed] for seed in range(seeds)] for space in _SPACES}
            made.append(row(switch, search, samples, {space: _summaries(each) for space, each in of_search.items()}))
        write_csv(made, out / "additions.csv")
    return made


def _run(runs: Path, switch: str, search: str, space: str, samples: int, seed: int, overrides: Sequence[str]) -> Config:
    """One run; that with everything serves all switches with the same kernel."""
    kernel, of_tvm = KERNELS[switch], switch in _OF_TVM
    name = f"{space}_{switch}" if space == "without" or of_tvm else space
    given: dict[str, Any] = {"search": search, "space": "tvm" if of_tvm else "extended"}
    if of_tvm:
        given[f"space.{switch}"] = space == "with"
    elif space == "without":
        given |= dict.fromkeys((f"space.{each}" for each in _off(switch)), False)
    given |= {"samples": samples, "seed": seed, "run": f"{kernel}/{search}-{name}-n{samples}-s{seed}"}
    return own(runs, kernel, UNSEEN[kernel](), given | keys(overrides))


def _off(switch: str) -> tuple[str, ...]:
    return (switch, *_NEEDED_BY.get(switch, ()))


def _summaries(configs: Sequence[Config]) -> list[dict[str, Any]]:
    return [summary for config in configs if (summary := read_summary(config)) is not None]


def row(switch: str, search: str, samples: int, summaries: Mapping[str, Sequence[Mapping[str, Any]]]) -> Row:
    """A row from the summaries of the runs in each space; of several seeds the geometric mean counts."""
    secs = {space: _secs(each) for space, each in summaries.items()}
    made: Row = {
        "switch": switch,
        "off": ", ".join(_off(switch)),
        "kernel": KERNELS[switch],
        "search": search,
        "samples": samples,
    }
    made["seeds"] = len(summaries["with"])
    made |= {f"{space}_ms": latency and round(1e3 * latency, 4) for space, latency in secs.items()}
    base, best = secs["without"], secs["with"]
    made["without/with"] = round(base / best, 3) if base and best else None
    return made | {f"{space}_failed": _failed(each) for space, each in summaries.items()}


def _secs(summaries: Sequence[Mapping[str, Any]]) -> float | None:
    """The best latency, confirmed if it was; None if all samples of a run failed."""
    found = [summary.get("confirmed_secs", summary["best_secs"]) for summary in summaries]
    return statistics.geometric_mean(found) if all(found) else None


def _failed(summaries: Sequence[Mapping[str, Any]]) -> float:
    """The share of samples without a latency."""
    failed = sum(sum(summary["sample_errors"].values()) for summary in summaries)
    return float(round(failed / sum(summary["samples"] for summary in summaries), 3))


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.additions --out results/benchmark``."""
    parser = command_line(__doc__)
    add = parser.add_argument
    add("--runs", type=Path, default=Path("build/additions"), help="directory for the runs")
    add("--switches", type=names, default=tuple(KERNELS), help="comma-separated; default: all")
    add("--searches", type=names, default=SEARCHES, help="comma-separated; default: both")
    add("--samples", type=positive, default=64, help="programs that each run measures")
    add("--seeds", type=positive, default=1, help="runs of each kind")
    add("overrides", nargs="*", help="of all runs, such as measure.build_timeout_secs=20")
    given = parser.parse_args(argv)
    chosen = (given.out, given.runs, given.switches, given.searches, given.samples, given.seeds, given.overrides)
    return write_rows(lambda: rows(*chosen), given.out / "additions.csv")


if __name__ == "__main__":
    sys.exit(main())
