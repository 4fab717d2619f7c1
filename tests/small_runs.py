"""Small runs of the real app: real TVM, real files, latencies from a hash of the program."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

import pytest

from colt_pipeline.__main__ import main
from colt_pipeline.assemble import assemble
from colt_pipeline.config.schema import Config
from colt_pipeline.job import Job
from colt_pipeline.measurement.measurer import MakeMeasurer
from colt_pipeline.search.loop import search
from stages.benchmarks.hashes import HashMeasurer

PROJECTION = ("workload=deepseek_r1_moe", "workload.shape.inner=128", "workload.shape.outer=64")
ATTENTION = (
    "workload=flux_attention",
    "workload.shape={heads: 2, kv_heads: 2, head_dim: 32, tokens: 32, context: 32}",
)
SHORT = ("search.warmup_samples=8", "model_set=4", "samples=20", "run=tiny")
PAPER = ("search=paper", "search.sample=program", *SHORT)
COLT = ("search=colt", "search.candidates=12", *SHORT, "samples=14")
TINY = (*PROJECTION, *PAPER)


def play(config: Config, measurer: MakeMeasurer = HashMeasurer, stop_after: int | None = None) -> Job:
    """Run with the test measurer; stop after this many new events, like a kill."""
    with assemble(config, measurer) as job:
        for number, _ in enumerate(search(job.world, job.journal, job.state), start=1):
            if number == stop_after:
                break
    return job


def journal(config: Config) -> bytes:
    return (Path(config.results) / "runs" / config.experiment / config.run / "events.jsonl").read_bytes()


def move_recordings(source: Config, destination: Config) -> None:
    shutil.copytree(Path(source.results) / "recordings", Path(destination.results) / "recordings")


def command(results: Path, *overrides: str) -> list[str]:
    """The arguments of ``colt tune``; Hydra's logs go below the results, too."""
    return [
        "tune",
        *overrides,
        f"results={results}",
        f"hydra.run.dir={results}/logs",
        f"hydra.sweep.dir={results}/logs",
    ]


def colt(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    """The exit status of ``colt ARGUMENTS`` in this process, with TVM imported; Hydra leaves logging alone."""
    name, *rest = arguments
    quiet = ["hydra/job_logging=none", "hydra/hydra_logging=none"] if name == "tune" else []
    monkeypatch.setattr(sys, "argv", ["colt", name, *quiet, *rest])
    try:
        main()
    except SystemExit as ended:
        return ended.code or 0
    finally:
        logging.captureWarnings(False)
    return 0
