"""What a step of a search takes in each design space: all but waiting for LLMs and measuring kernels.

Searches of their own, because none is recorded in the extended space. Latencies are derived from a hash of the program,
and stand-ins answer. The time of drafts and of training, which happen once per batch, is spread over all steps.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Sequence

from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.config.spaces import EXTENDED, TVM
from colt_pipeline.runs.events import Drafted, Stepped
from colt_pipeline.workloads import PAPER
from stages.benchmarks import Row, command_line, names, positive, write_rows
from stages.benchmarks.hashes import HashMeasurer
from stages.benchmarks.laps import timed


def rows(workloads: Sequence[str], spaces: Sequence[str], samples: int, overrides: Sequence[str]) -> list[Row]:
    """One row per workload and space: number of steps, and milliseconds per step."""
    found: list[Row] = []
    for workload in workloads:
        for space in spaces:
            chosen = [f"workload={workload}", f"space={space}", f"samples={samples}", "device=local", *overrides]
            with tempfile.TemporaryDirectory() as scratch:
                row = table(*_seconds(composed([*chosen, f"results={scratch}"])))
            found.append({"workload": workload, "space": space, **row})
    return found


def table(steps: Sequence[float], drafting_secs: float, training_secs: float) -> Row:
    """The row of a search from the seconds of its steps without training, and those of all drafts and trainings."""
    step_ms = 1e3 * statistics.median(steps)
    drafting_ms, training_ms = 1e3 * drafting_secs / len(steps), 1e3 * training_secs / len(steps)
    slowest = statistics.quantiles(steps, n=10)[-1] if len(steps) > 1 else steps[0]
    return {
        "steps": len(steps),
        "step_ms": round(step_ms, 1),
        "drafting_ms": round(drafting_ms, 1),
        "training_ms": round(training_ms, 1),
        "together_ms": round(step_ms + drafting_ms + training_ms, 1),
        "slowest_tenth_ms": round(1e3 * slowest, 1),
        "latencies": "computed from a hash (stand-in)",
    }


def _seconds(config: Config) -> tuple[list[float], float, float]:
    """Of each step without training, of all drafts without it, and of all trainings, in a fresh search."""
    steps: list[float] = []
    drafting = 0.0
    with assemble(config, HashMeasurer) as job:
        for event, secs, _ in timed(job, ("llm", "train")):
            if isinstance(event, Stepped):
                steps.append(secs)
            elif isinstance(event, Drafted):
                drafting += secs
        return steps, drafting, job.world.stopwatch.seconds["train"]


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.steps --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--workloads", type=names, default=PAPER, help="comma-separated; default: the paper's five")
    parser.add_argument("--spaces", type=names, default=(TVM, EXTENDED), help="comma-separated")
    parser.add_argument("--samples", type=positive, default=48, help="samples per search")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides, such as search=paper")
    given = parser.parse_intermixed_args(argv)
    return write_rows(
        lambda: rows(given.workloads, given.spaces, given.samples, given.overrides), given.out / "steps.csv"
    )


if __name__ == "__main__":
    sys.exit(main())
