"""Whether a long search slows down: its CPU time per sample and per step, and its memory, tenth by tenth.

Nothing is measured: latencies are derived from a hash of the program, which takes no time and is unrelated to speed.
Everything else is the real search: tree, prompts, stand-in LLMs, transformations, rollouts, features, cost model,
journal and ledgers. Because it is CPU time, waiting for the disk or for other processes does not count.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil

from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.runs.events import Stepped
from colt_pipeline.search.loop import search
from stages.benchmarks import Row, command_line, names, positive, write_rows
from stages.benchmarks.hashes import HashMeasurer

_PARTS = 10


@dataclass(frozen=True)
class Lap:
    """One event of a search."""

    samples: int
    """Number of samples before it."""
    search_secs: float
    """CPU time without training."""
    training_secs: float
    """CPU time of training."""
    memory_bytes: int
    """Resident memory after it."""
    is_step: bool = True
    """Whether it is a step of the search."""


def rows(workloads: Sequence[str], model_set: str, samples: int, overrides: Sequence[str]) -> list[Row]:
    """One row per tenth of each search's samples, and a final one comparing the last tenth with the first.

    Raises:
        ConfigError: too few samples to divide into tenths, or the search found no more.
    """
    if samples < 10 * _PARTS:
        raise ConfigError(f"growth compares parts of a search: it needs --samples of at least {10 * _PARTS}")
    # TVM's space, because this project's has fewer programs of some workloads.
    chosen = [f"model_set={model_set}", f"samples={samples}", "space=tvm", "device=local", "search.warmup_samples=16"]
    found: list[Row] = []
    for workload in workloads:
        with tempfile.TemporaryDirectory() as scratch:
            laps = list(_laps(composed([f"workload={workload}", f"results={scratch}", *chosen, *overrides])))
        taken = laps[-1].samples
        if taken < samples:
            raise ConfigError(
                f"{workload}: the search ended after {taken} of {samples} samples, because its space holds no more; "
                f"give another of --workloads, or --samples {taken}"
            )
        found += [{"workload": workload, **row} for row in table(laps, samples)]
    return found


def _laps(config: Config) -> Iterator[Lap]:
    """The events of a fresh search, preceded by a lap for the start."""
    process, measurer = psutil.Process(), HashMeasurer()
    with assemble(config, lambda _: measurer) as job:
        job.world.stopwatch.clock = time.process_time
        yield Lap(0, 0.0, 0.0, process.memory_info().rss, is_step=False)
        samples, measuring, training, begin = 0, 0.0, 0.0, time.process_time()
        for event in search(job.world, job.journal, job.state):
            trained = job.world.stopwatch.seconds["train"]
            own = time.process_time() - begin - (measurer.secs - measuring) - (trained - training)
            is_step = isinstance(event, Stepped)
            yield Lap(samples, own, trained - training, process.memory_info().rss, is_step)
            samples, measuring, training, begin = len(job.state.samples), measurer.secs, trained, time.process_time()


def table(laps: Sequence[Lap], samples: int) -> list[Row]:
    """Milliseconds per sample without and with training, and per step; resident MiB in total and since the start."""
    found: list[Row] = []
    costs = []
    for part in range(_PARTS):
        first, last = part * samples // _PARTS, (part + 1) * samples // _PARTS
        within = [lap for lap in laps if first <= lap.samples < last]
        search_ms = 1e3 * sum(lap.search_secs for lap in within) / (last - first)
        both_ms = search_ms + 1e3 * sum(lap.training_secs for lap in within) / (last - first)
        steps = sum(lap.is_step for lap in within)
        step_ms = both_ms * (last - first) / max(steps, 1)  # the evolutionary search has none
        costs.append((search_ms, both_ms, step_ms))
        memory, since = within[-1].memory_bytes, within[-1].memory_bytes - laps[0].memory_bytes
        found.append(
            {
                "samples": f"{first + 1} to {last}",
                "search_ms": round(search_ms, 2),
                "with_training_ms": round(both_ms, 2),
                "steps": steps,
                "step_ms": round(step_ms, 2),
                "memory_mib": round(memory / 2**20, 1),
                "since_start_mib": round(since / 2**20, 1),
                "latencies": "computed from a hash (stand-in)",
            }
        )
    ratios = [round(late / early, 3) for early, late in zip(costs[0], costs[-1], strict=True)]
    compared = ("search_ms", "with_training_ms", "step_ms")
    return [*found, {"samples": "last / first", **dict(zip(compared, ratios, strict=True))}]


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.growth --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--workloads", type=names, default=("llama3_8b_attention",), help="comma-separated")
    parser.add_argument("--model-set", default="8")
    parser.add_argument("--samples", type=positive, default=1000, help="samples per search")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as search=paper")
    given = parser.parse_intermixed_args(argv)
    return write_rows(
        lambda: rows(given.workloads, given.model_set, given.samples, given.overrides), given.out / "growth.csv"
    )


if __name__ == "__main__":
    sys.exit(main())
