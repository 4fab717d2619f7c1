"""Where the files of runs and recordings are stored, and what they are called.

``RESULTS/runs/EXPERIMENT/RUN``                  a run directory, see `rundir`
``RESULTS/recordings/DEVICE/EXPERIMENT/RUN``     a run's external inputs: answers, TVM's batches, latencies
``RESULTS/recordings/DEVICE/shared``             measurements on this device shared by all runs
``RESULTS/recordings/checks/EXPERIMENT``         what checking the models of its runs has cost
``RESULTS/noise/DEVICE``                         one schedule per workload, measured repeatedly
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
PROGRAM = "program.json"
INPUTS = "inputs.npz"
"""The user's own kernel, and its inputs if these are the user's own, too."""
SUMMARY = "summary.json"
"""Written last: its presence marks a finished run."""
WHOLE_MODEL_MEASUREMENTS = "model.jsonl"
WHOLE_MODEL = "model.json"
"""The same for the run of a whole model, which contains the runs of its kernels."""
SOURCE = "source.json"
"""Where a user's own model and its weights are, and the digests of these files: they are too large for a run."""

ANSWERS = "llm.jsonl"
CANDIDATES = "candidates.jsonl"
DRAFTS = "drafts.jsonl"
MEASUREMENTS = "measurements.jsonl"
SPENDING = "spend.jsonl"
CLOCK = "clock.jsonl"
START = "start.jsonl"

SHARED = "shared"
CHECKS = "checks"


def runs_in(results: Path | str) -> Path:
    """The directory of all runs, by experiment."""
    return Path(results) / "runs"


def run_directory(results: Path | str, experiment: str, run: str) -> Path:
    """The directory of one run."""
    return runs_in(results) / experiment / run


def recordings_in(results: Path | str) -> Path:
    """The directory of all recordings, by device."""
    return Path(results) / "recordings"


def checks_of(results: Path | str, experiment: str) -> Path:
    """The directory of the account of the calls that check an experiment's models."""
    return recordings_in(results) / CHECKS / experiment


def accounts_of(results: Path | str, experiment: str) -> list[Path]:
    """The directories with the accounts of an experiment, on any device, and of checks of its models."""
    recordings = recordings_in(results)
    devices = sorted(recordings.iterdir()) if recordings.is_dir() else []
    return [device / experiment for device in devices]


def recordings_of(results: Path | str, experiment: str, run: str) -> list[Path]:
    """The ledgers of one run, by device. Names are looked up, never matched: they may contain brackets and stars."""
    return _of_devices(results, experiment, run, MEASUREMENTS)


def clocks_of(results: Path | str, experiment: str, run: str) -> list[Path]:
    """The clocks of one run, by device."""
    return _of_devices(results, experiment, run, CLOCK)


def _of_devices(results: Path | str, experiment: str, run: str, name: str) -> list[Path]:
    recordings = recordings_in(results)
    devices = sorted(recordings.iterdir()) if recordings.is_dir() else []
    paths = (device / experiment / run / name for device in devices)
    return [path for path in paths if path.exists()]


def noise_in(results: Path | str) -> Path:
    """The directory of noise measurements, by device."""
    return Path(results) / "noise"


def set_aside(recording: Path) -> None:
    """Rename the files of an earlier recording, so that everything is asked and measured again."""
    for name in (ANSWERS, CANDIDATES, DRAFTS, MEASUREMENTS, SPENDING, CLOCK, START):
        path = recording / name
        if path.exists():
            free = next(n for n in count(1) if not (recording / f"{name}.{n}").exists())
            path.rename(recording / f"{name}.{free}")
