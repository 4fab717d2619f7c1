"""Two concurrent searches on one machine: when each of them held the device, by their own clocks."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.errors import DeviceError
from colt_pipeline.runs.layout import TIMING
from stages.benchmarks import Row, command_line, positive, write_rows


def rows(workload: str, model_set: str, samples: int) -> list[Row]:
    """One row per use of the device, in chronological order: run, begin and end in seconds, seconds since the last end.

    Raises:
        DeviceError: a search failed, or two uses overlap.
    """
    with tempfile.TemporaryDirectory() as scratch:
        names = ("first", "second")
        chosen = [f"workload={workload}", f"model_set={model_set}", f"samples={samples}"]
        searches = [_start(Path(scratch), name, [*chosen, f"seed={seed}"]) for seed, name in enumerate(names)]
        said = [search.communicate()[1] for search in searches]
        for search, errors in zip(searches, said, strict=True):
            if search.returncode:
                raise DeviceError(f"a search failed: {errors.strip().splitlines()[-1:]}")
        uses = [
            (begin, end, name)
            for name in names
            for begin, end in json.loads(next(Path(scratch).rglob(f"{name}/{TIMING}")).read_text())["on_device"]
        ]
    uses.sort()
    start, before, found = uses[0][0], uses[0][0], []
    for begin, end, name in uses:
        if begin < before:
            raise DeviceError(f"{name} used the device at {begin - start:.3f} s, before {before - start:.3f} s")
        times = {"begin_secs": begin - start, "end_secs": end - start, "since_last_secs": begin - before}
        found.append({"run": name, **{key: round(value, 3) for key, value in times.items()}})
        before = end
    return found


def _start(results: Path, name: str, chosen: Sequence[str]) -> subprocess.Popen[str]:
    places = [f"results={results}", f"run={name}", f"hydra.run.dir={results}/logs/{name}"]
    fixed = ["device=local", "search.warmup_samples=8"]
    command = [sys.executable, "-m", "colt_pipeline.tune", *chosen, *fixed, *places]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.benchmarks.queue --out results/benchmark``."""
    parser = command_line(__doc__)
    parser.add_argument("--workload", default="llama3_8b_attention")
    parser.add_argument("--model-set", default="8")
    parser.add_argument("--samples", type=positive, default=24, help="programs measured per search")
    given = parser.parse_args(argv)
    return write_rows(lambda: rows(given.workload, given.model_set, given.samples), given.out / "queue.csv")


if __name__ == "__main__":
    sys.exit(main())
