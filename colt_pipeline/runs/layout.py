"""Where the files of runs and recordings lie, and what they are called.

``RESULTS/runs/EXPERIMENT/RUN``                  a run directory, see `rundir`
``RESULTS/recordings/DEVICE/EXPERIMENT/RUN``     what a run took from outside: answers, TVM's batches, latencies
``RESULTS/recordings/DEVICE/shared``             what this machine has measured, whatever the run
``RESULTS/noise/DEVICE``                         one schedule per workload, measured again and again
"""

from __future__ import annotations

from itertools import count
from pathlib import Path

CONFIG = "config.yaml"
JOURNAL = "events.jsonl"
CURVE = "curve.csv"
CALLS = "calls.csv"
TURNS = "turns.csv"
BEST_TEXT = "best.txt"
BEST = "best.json"
TIMING = "timing.json"
SUMMARY = "summary.json"
"""Written last: a run directory that holds it is finished."""
WHOLE_MODEL_MEASUREMENTS = "model.jsonl"
WHOLE_MODEL = "model.json"
"""The same of a whole model's run, which holds the runs of its kernels."""

ANSWERS = "llm.jsonl"
CANDIDATES = "candidates.jsonl"
MEASUREMENTS = "measurements.jsonl"
SPENDING = "spend.jsonl"

SHARED = "shared"


def runs_in(results: Path | str) -> Path:
    """Where all run directories lie, by experiment."""
    return Path(results) / "runs"


def run_directory(results: Path | str, experiment: str, run: str) -> Path:
    """The directory of one run."""
    return runs_in(results) / experiment / run


def recordings_in(results: Path | str) -> Path:
    """Where all recordings lie, by device."""
    return Path(results) / "recordings"


def noise_in(results: Path | str) -> Path:
    """Where the noise of all devices lies, by device."""
    return Path(results) / "noise"


def set_aside(recording: Path) -> None:
    """Keep what was recorded before under other names, so that everything is asked and measured again."""
    for name in (ANSWERS, CANDIDATES, MEASUREMENTS, SPENDING):
        path = recording / name
        if path.exists():
            free = next(n for n in count(1) if not (recording / f"{name}.{n}").exists())
            path.rename(recording / f"{name}.{free}")
