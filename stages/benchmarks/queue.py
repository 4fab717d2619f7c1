"""Two searches at once on one machine: when each of them had the device, from their own clocks."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from colt_pipeline.errors import DeviceError
from stages.benchmarks import Options, Row


def rows(options: Options) -> list[Row]:
    """One row per use of the device, in order of time: run, begin and end in seconds, and seconds since the last end.

    Raises:
        DeviceError: a search failed, or two uses overlap.
    """
    with tempfile.TemporaryDirectory() as scratch:
        names = ("first", "second")
        searches = [_start(Path(scratch), name, seed, options) for seed, name in enumerate(names)]
        said = [search.communicate()[1] for search in searches]
        for search, errors in zip(searches, said, strict=True):
            if search.returncode:
                raise DeviceError(f"a search failed: {errors.strip().splitlines()[-1:]}")
        uses = [
            (begin, end, name)
            for name in names
            for begin, end in json.loads(next(Path(scratch).rglob(f"{name}/timing.json")).read_text())["on_device"]
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


def _start(results: Path, name: str, seed: int, options: Options) -> subprocess.Popen[str]:
    flags = [f"results={results}", f"run={name}", f"seed={seed}", f"samples={options.candidates}", "device=local"]
    flags += [f"workload={options.workloads[0]}", f"model_set={options.model_set}", "search.warmup_samples=8"]
    flags += [f"hydra.run.dir={results}/logs/{name}"]
    command = [sys.executable, "-m", "colt_pipeline.tune", *flags]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
