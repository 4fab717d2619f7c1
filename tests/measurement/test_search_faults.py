"""Kernels that misbehave inside a search: each costs one sample, and nothing is left over."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import tvm

from colt_pipeline.job import write_outputs
from colt_pipeline.measurement.lock import _LOCKS
from colt_pipeline.measurement.measurer import LocalMeasurer
from colt_pipeline.records import Measurement
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.workloads.workload import Workload
from stages.benchmarks.kernels import SHAPE, endless, hungry, out_of_bounds, scaled
from tests.measurement.settings import SETTINGS, target
from tests.small_runs import PAPER, journal, move_recordings, play
from tests.support import Compose

pytestmark = pytest.mark.tvm

RUN = (
    "workload=deepseek_r1_moe",
    *(f"workload.shape.{name}={extent}" for name, extent in SHAPE.items()),
    *PAPER,
    "samples=12",
    "search.warmup_samples=4",
)

FAULTS: dict[int, tuple[Callable[[], tvm.IRModule], str, str]] = {
    2: (endless, "timeout", "the run took longer than 2 s"),
    3: (lambda: scaled(float("nan")), "wrong_result", "relative error nan"),
    5: (hungry, "run_error", "bad_alloc"),
    6: (out_of_bounds, "crash", "SIGSEGV"),
    8: (lambda: hungry(40), "run_error", "bad_alloc"),
}
"""Number of the measured program -> the kernel in its place, and the error it should cost; 0 is the baseline."""


class Sabotaged:
    """This machine's CPU, with faulty kernels in place of some programs."""

    def __init__(self, workload: Workload) -> None:
        self._local = LocalMeasurer(workload, target(), replace(SETTINGS, run_timeout_secs=2.0))
        self._begun = 0

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        numbers = range(self._begun, self._begun + len(modules))
        self._begun += len(modules)
        swapped = [FAULTS[n][0]() if n in FAULTS else module for n, module in zip(numbers, modules, strict=True)]
        yield from self._local.measure(swapped, best_secs)

    def close(self) -> None:
        self._local.close()


def leftovers() -> set[str]:
    """What measuring leaves on this machine while it goes on."""
    children = {f"process {child.pid}" for child in psutil.Process().children(recursive=True)}
    scratch = {str(path) for path in Path(tempfile.gettempdir()).glob("colt-*") if path.is_dir()}
    return children | scratch


def test_faults_cost_their_samples_and_the_search_goes_on(
    composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scratch := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setattr("colt_pipeline.measurement.lock._LOCKS", (scratch, *_LOCKS))
    before, config = leftovers(), composed(*RUN)
    job = play(config, Sabotaged)
    write_outputs(job)
    assert leftovers() == before and not list(scratch.iterdir())

    assert job.state.finished == "budget" and len(job.state.samples) == 12
    (ledger,) = (path for path in Path(config.results).rglob("measurements.jsonl"))
    header, *lines = read_lines(ledger)
    assert len({line["program"] for line in lines}) == len(lines) == 13 and job.evaluator.measured == 13
    found = {n: (line.get("error"), line.get("detail", "")) for n, line in enumerate(lines)}
    for number, (_, error, detail) in FAULTS.items():
        assert found[number][0] == error and detail in found[number][1]
    assert {n for n, (error, _) in found.items() if error} == set(FAULTS)
    assert [sample.error for sample in job.state.samples] == [found[n][0] for n in range(1, 13)]
    assert job.state.best is not None and job.state.best.latency_secs is not None

    replay = composed(*RUN, f"results={tmp_path / 'replay'}", "record=replay")
    move_recordings(config, replay)
    assert play(replay, Sabotaged).evaluator.measured == 0
    assert journal(replay) == journal(config)
