"""Whole trees of small scripted searches, as last reviewed.

A change that is meant to change them writes them anew, ``python -m tests.search.test_golden``, and
review the diff, which shows what happened to each node.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.records import ModelSpec
from colt_pipeline.runs.events import Stepped
from colt_pipeline.serialization import canonical_json
from tests.toy import LARGE, SMALL, events_of, falling, play, world

DATA = Path(__file__).parent.parent / "data"
MIDDLE = ModelSpec("middle", "embedded", "middle", 32.0, False)
RUNS: dict[str, dict[str, Any]] = {
    "paper": {"samples": 20, "seed": 1, "score": falling(0.5), "rollout_length": 1},
    "colt": {
        "name": "colt",
        "seed": 1,
        "draws_per_proposal": 2,
        "samples": 14,
        "candidates": 7,
        "one_fails_in": 5,
        "models": (LARGE, MIDDLE, SMALL),
        "score": lambda program, rng: program.steps[-1] % 1000 / 1000,
    },
    "streak": {
        "samples": 20,
        "score": falling(0.5),
        "course_alteration": "streak",
        "lambda_": 0.0,
        "rollout_length": 0,
    },
}
"""Name -> arguments of `toy.world`."""


def grown(name: str, path: Path) -> dict[str, list[dict[str, Any]]]:
    """The nodes of a run's tree, and the pruned children."""
    state = play(world(**RUNS[name]), path)
    nodes = [
        {
            "id": n.id,
            "parent": n.parent,
            "model": n.model,
            "made_by": n.made_by,
            "visits": n.visits,
            "value": round(n.value, 12),
            "rate": round(n.rate, 12),
            "failures": n.failures,
            "program": None if n.record is None else n.record.program[:12],
        }
        for n in state.tree.nodes
    ]
    steps = [event for event in events_of(path) if isinstance(event, Stepped)]
    pruned = [
        {"step": s.step, "parent": s.parent, "program": s.pruned.program[:12], "score": s.pruned.score}
        for s in steps
        if s.pruned is not None
    ]
    return {"nodes": nodes, "pruned": pruned}


@pytest.mark.parametrize("name", RUNS)
def test_the_tree_is_the_stored_one(name: str, tmp_path: Path) -> None:
    tree = grown(name, tmp_path / "events.jsonl")
    assert 20 < len(tree["nodes"]) <= 30
    assert tree == json.loads((DATA / f"golden_{name}.json").read_text())


def test_the_stored_trees_hold_what_they_are_for() -> None:
    trees = {name: json.loads((DATA / f"golden_{name}.json").read_text()) for name in RUNS}
    assert all(tree["pruned"] for tree in trees.values())
    children = [node["parent"] for node in trees["colt"]["nodes"]]
    assert max(children.count(n) for n in range(1, len(children))) > 2
    assert any(node["rate"] for node in trees["colt"]["nodes"]) and children.count(0) > 2
    assert not any(node["rate"] for name in ("paper", "streak") for node in trees[name]["nodes"])
    for tree in trees.values():
        assert not {p["program"] for p in tree["pruned"]} & {node["program"] for node in tree["nodes"]}


def _regenerate() -> None:
    for name in RUNS:
        with tempfile.TemporaryDirectory() as directory:
            tree = grown(name, Path(directory) / "events.jsonl")
        parts = (f'"{key}":[\n' + ",\n".join(map(canonical_json, rows)) + "\n]" for key, rows in tree.items())
        (DATA / f"golden_{name}.json").write_text("{" + ",\n".join(parts) + "}\n")


if __name__ == "__main__":
    _regenerate()
