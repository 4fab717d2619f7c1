"""Collect features and latencies of the programs that runs have measured, one file per workload."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from colt_pipeline import stack
from colt_pipeline.runs.events import Child, Measured, Planted, Started, Stepped, event_from_json
from colt_pipeline.runs.jsonl import read_lines
from stages import run_stage

stack.require()

from tvm.s_tir.meta_schedule.feature_extractor import PerStoreFeature  # noqa: E402

from colt_pipeline.prediction.pretrained import features, write_experience  # noqa: E402
from colt_pipeline.space import Space  # noqa: E402
from colt_pipeline.workloads.catalogue import build  # noqa: E402

Programs = dict[str, tuple[str, float | None]]
"""Program key -> trace and latency in seconds, None for one that failed."""


def collect(runs_dir: Path, out: Path) -> None:
    """Run directories below `runs_dir` -> ``<workload hash>.csv`` in `out`; a program of several runs counts once."""
    spaces: dict[str, Space] = {}
    programs: dict[str, Programs] = {}
    for journal in sorted(runs_dir.glob("*/*/events.jsonl")):
        started, measured = _read(journal)
        programs.setdefault(started.workload_hash, {}).update(measured)
        if started.workload_hash not in spaces:
            config = yaml.safe_load((journal.parent / "config.yaml").read_text())
            workload = build(config["workload"]["name"], config["workload"]["shape"])
            spaces[started.workload_hash] = Space(workload.module, started.target)
    out.mkdir(parents=True, exist_ok=True)
    extractor = PerStoreFeature()
    for workload_hash, own in programs.items():
        space = spaces[workload_hash]
        loaded = ((latency, space.load(key, trace)) for key, (trace, latency) in own.items())
        rows = ((latency, features(space, extractor, program)) for latency, program in loaded)
        write_experience(out / f"{workload_hash}.csv", rows)


def _read(journal: Path) -> tuple[Started, Programs]:
    events = [event_from_json(line) for line in read_lines(journal)]
    children: list[Child] = []
    for event in events:
        if isinstance(event, Planted):
            children += event.children
        elif isinstance(event, Stepped) and event.child is not None:
            children.append(event.child)
    traces = {child.program: child.trace for child in children}
    started = next(event for event in events if isinstance(event, Started))
    samples = (sample for event in events if isinstance(event, Measured) for sample in event.samples)
    return started, {sample.program: (traces[sample.program], sample.latency_secs) for sample in samples}


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.pretraining --runs results/runs/cpu --out results/pretraining``."""
    return run_stage(collect, "runs", __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
