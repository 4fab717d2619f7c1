"""Measurements of finished runs as training data for the pretrained cost model: one file per workload."""

from __future__ import annotations

from pathlib import Path

from tvm.s_tir.meta_schedule.feature_extractor import PerStoreFeature

from colt_pipeline.prediction.pretrained import features, write_experience
from colt_pipeline.runs.events import Child, Measured, Planted, Started, Stepped
from colt_pipeline.runs.journal import check_traces, read_events
from colt_pipeline.runs.layout import CONFIG, JOURNAL
from colt_pipeline.runs.rundir import read_config, read_space
from colt_pipeline.space import Space
from colt_pipeline.workloads.catalogue import build

Programs = dict[str, tuple[Space, str, float | None]]
"""Program key -> a space that it is of, its trace, and its latency in seconds (None if it failed)."""


def collect_experience(runs: Path, out: Path) -> None:
    """Run directories ``runs/*/*`` -> ``<workload hash>.csv`` in `out`; a program found in several runs counts once.

    Raises:
        JournalError: a journal is corrupt, was written by another version, or has a trace that no rule or mutator
            makes.
        RunDirError: a run's configuration is missing or broken.
    """
    spaces: dict[tuple[str, tuple[str, ...]], Space] = {}
    programs: dict[str, Programs] = {}
    for journal in sorted(runs.glob(f"*/*/{JOURNAL}")):
        started, measured = _read(journal)
        additions = read_space(journal.with_name(CONFIG)).additions
        known = (started.workload_hash, additions)
        if known not in spaces:
            config = read_config(journal.with_name(CONFIG))
            workload = build(config["workload"]["name"], config["workload"]["shape"])
            spaces[known] = Space(workload.module, started.target, additions)
        own = programs.setdefault(started.workload_hash, {})
        own.update({key: (spaces[known], trace, latency) for key, (trace, latency) in measured.items()})
    out.mkdir(parents=True, exist_ok=True)
    extractor = PerStoreFeature()
    for workload_hash, own in programs.items():
        loaded = ((latency, space, space.load(key, trace)) for key, (space, trace, latency) in own.items())
        rows = ((latency, features(space, extractor, [program])[0]) for latency, space, program in loaded)
        write_experience(out / f"{workload_hash}.csv", rows)


def _read(journal: Path) -> tuple[Started, dict[str, tuple[str, float | None]]]:
    """How a run began, and key -> trace and latency of what it measured."""
    events = read_events(journal)
    check_traces(journal, events)
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
