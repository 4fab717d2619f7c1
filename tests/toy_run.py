"""Run directories without TVM: a handwritten one, and those of toy searches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from colt_pipeline.records import Outcome, Role
from colt_pipeline.runs.events import Call, Child, Event, Finished, Measured, Planted, Sample, Started, Stepped
from colt_pipeline.runs.journal import Journal
from colt_pipeline.search.loop import search
from colt_pipeline.search.state import State
from colt_pipeline.serialization import canonical_json
from tests.toy import LARGE, SMALL, settings, world

STARTED = Started(1, "toy", "0" * 64, {"kind": "toy"}, "toy", "measured", baseline_secs=1.0)


def tiled_trace(tiles: Sequence[int], unroll: int = 0) -> str:
    """A trace as TVM writes it: one tiled loop of the block ``matmul``, and its unrolling."""
    instructions = [
        ["GetSBlock", [], ["matmul", "main"], ["b0"]],
        ["GetLoops", ["b0"], [], ["l1"]],
        ["SamplePerfectTile", ["l1"], [len(tiles), 64], [f"v{n}" for n in range(len(tiles))]],
        ["SampleCategorical", [], [[0, 16, 64], [0.3, 0.3, 0.4]], ["v9"]],
        ["Annotate", ["b0", "v9"], ["meta_schedule.unroll_explicit"], []],
    ]
    return canonical_json([instructions, [[2, list(tiles)], [3, unroll]]])


def write_run(directory: Path, events: Iterable[Event], **changes: Any) -> Path:
    """A run directory with these events; `changes` go to its configuration."""
    directory.mkdir(parents=True)
    config = {
        "run": "toy/run",
        "seed": 0,
        "samples": 4,
        "target": {"name": "toy"},
        "model_set": "mine",
        "search": vars(settings(warmup_samples=2)),
        "model_sets": {"mine": [LARGE.name, SMALL.name]},
        "models": {
            model.name: {key: value for key, value in dataclasses.asdict(model).items() if key != "name"}
            for model in (LARGE, SMALL)
        },
        **changes,
    }
    (directory / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    journal = Journal(directory / "events.jsonl")
    for event in events:
        journal.append(event)
    journal.close()
    return directory


def call(model: str, *transformations: str, role: Role = "regular", outcome: Outcome = "accepted") -> Call:
    return Call(model, role, "k", 0, outcome, "", transformations, None, None, 100, 10, hit=False)


def child(program: str, model: str, tiles: Sequence[int], score: float, parent: float, unroll: int = 0) -> Child:
    return Child(program, tiled_trace(tiles, unroll), model, score, parent, reward=score)


def events_by_hand(*transformations: str) -> list[Event]:
    """Two initial programs, a regular child, a course alteration that finds the best program, and a fault.

    Nodes: 0 -> 1 (0.5 s), 2 (timeout); 1 -> 3 (0.8 s); 3 -> -1 (pruned), 4 (0.25 s). `transformations` is the proposal
    that led to node 4.
    """
    return [
        STARTED,
        Planted((child("aa", "small", (4, 4), 0.5, 0.5), child("bb", "large", (2, 8), 0.4, 0.4))),
        Measured((Sample("aa", 0.5, None), Sample("bb", None, "timeout"))),
        Stepped(0, 1, (call("small", "TileSize"),), child("cc", "small", (8, 2), 0.25, 0.5), "small", None, None),
        Stepped(
            1,
            3,
            (call("small", "Unroll"), call("large", *transformations, role="course_alteration")),
            child("ee", "small", (8, 2), 0.75, 0.25, unroll=2),
            "large",
            child("dd", "large", (8, 2), 0.125, 0.25, unroll=1),
            None,
        ),
        Measured((Sample("cc", 0.8, None), Sample("ee", 0.25, None))),
        Stepped(2, 4, (call("small", outcome="not_json"),), None, None, None, "large"),
        Finished("budget"),
    ]


def events_of_search(samples: int, path: Path) -> list[Event]:
    """The journal of a toy search, with traces in TVM's format."""
    toy = world(samples=samples)
    journal = Journal(path)
    for _ in search(toy, journal, State(toy.models, toy.settings)):
        pass
    journal.close()
    return [_traced(event) for event in journal.events]


def _traced(event: Event) -> Event:
    if isinstance(event, Planted):
        return Planted(tuple(_retrace(c) for c in event.children))
    if isinstance(event, Stepped):
        child, pruned = (made and _retrace(made) for made in (event.child, event.pruned))
        return dataclasses.replace(event, child=child, pruned=pruned)
    return event


def _retrace(made: Child) -> Child:
    steps = [int(n) + 1 for n in made.trace.strip("[]").split(",")]
    return dataclasses.replace(made, trace=tiled_trace(steps))
