"""A run's tree as files: machine-readable tree.json, and tree.html (one file, no network) for browsers."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from colt_pipeline.analysis.labels import workload_title
from colt_pipeline.analysis.tree.run import Run, TreeNode, best_path, improvements, model_rows, tree_nodes
from colt_pipeline.analysis.tree.words import NO_PATH, caption, edge_facts, label, node_facts, run_facts, speedup, title
from colt_pipeline.errors import RunDirError
from colt_pipeline.records import REJECTIONS
from colt_pipeline.runs.rundir import write_text
from colt_pipeline.search.tree import ROOT

PALETTE = (
    ("#0173b2", "#ffffff"),
    ("#de8f05", "#000000"),
    ("#029e73", "#ffffff"),
    ("#d55e00", "#ffffff"),
    ("#cc78bc", "#000000"),
    ("#ca9161", "#000000"),
    ("#56b4e9", "#000000"),
    ("#949494", "#000000"),
    ("#fbafe4", "#000000"),
    ("#ece133", "#000000"),
)
"""Colour-blind safe colours, each with a letter colour. Letters distinguish models of the same colour."""

_LEVEL, _ROW = 84.0, 32.0  # distances between levels and between leaves, pixels
_LEFT, _TOP = 22.0, 30.0  # margins, pixels
_TEXT, _CHARACTER = 17.0, 7.0  # offset of the text beside a node, and width of a character, pixels

# LLM text and user-given names end up in the page, so everything is escaped.
PAGES = Environment(
    loader=PackageLoader("colt_pipeline.analysis"),
    undefined=StrictUndefined,
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class _Spot:
    """A node as it is drawn; lengths in pixels."""

    id: int
    parent: int | None
    level: int
    """The root's is 1."""
    x: float
    y: float
    classes: str
    letter: str
    edge: str
    """SVG path from the parent; "" for the root."""
    edge_classes: str
    text: str
    """Text beside the node."""
    spoken: str


def write_tree(run: Run, directory: Path) -> list[Path]:
    """Write tree.json and tree.html into `directory` and return their paths.

    Raises:
        RunDirError: the directory is unwritable or the disk is full.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirError(f"cannot write {directory}: {error.strerror}; choose another with --out DIR") from error
    files = {
        "tree.json": json.dumps(tree_json(run), indent=1, sort_keys=True, allow_nan=False) + "\n",
        "tree.html": tree_html(run),
    }
    for name, text in files.items():
        write_text(directory / name, text)
    return [directory / name for name in files]


def tree_json(run: Run) -> dict[str, Any]:
    """The tree as plain data; seconds, ids and flags as in `TreeNode`."""
    path = best_path(run)
    return {
        "run": run.config["run"],
        "caption": caption(run),
        "workload": run.started.workload,
        "device": run.started.device,
        "measurement": run.started.measurement,
        "baseline_secs": run.started.baseline_secs,
        "models": [{**asdict(model), "label": label(run, model.name)} for model in run.models],
        "best_path": path,
        "nodes": [_plain(node, node.id in path) for node in tree_nodes(run)],
    }


def tree_html(run: Run) -> str:
    """The page."""
    nodes, path = tree_nodes(run), best_path(run)
    by_id = {node.id: node for node in nodes}
    return PAGES.get_template("tree.html.j2").render(
        title=workload_title(run.started.workload),
        run=run.config["run"],
        caption=caption(run),
        facts=run_facts(run),
        **tree_drawing(run),
        rejections=REJECTIONS,
        unmade_bests=len(improvements(run)[None]),
        focus=path[-1] if path else ROOT,
        no_path=NO_PATH,
        edges=[(title(by_id[b]), edge_facts(run, by_id[b], by_id[a])) for a, b in zip(path, path[1:], strict=False)],
        details={n.id: {"title": title(n), "facts": node_facts(run, n, _parent(n, by_id))} for n in nodes},
    )


def tree_drawing(run: Run) -> dict[str, Any]:
    """What ``templates/tree_drawing.html.j2`` draws: spots, width and height in pixels, models and palette."""
    spots = _spots(run, tree_nodes(run), best_path(run))
    return {
        "spots": spots,
        "width": max(spot.x + _TEXT + _CHARACTER * len(spot.text) for spot in spots),
        "height": max(spot.y for spot in spots) + _TOP,
        "models": [{**row, **_look(run, row["model"])} for row in model_rows(run)],
        "palette": PALETTE,
    }


def layout(nodes: Sequence[TreeNode]) -> dict[int, tuple[int, float]]:
    """Place nodes: leaves have their own rows, in tree order, and parents are centred on their children.

    Args:
        nodes: in order of creation, root first.

    Returns:
        Node id -> (level, row).
    """
    children: defaultdict[int, list[int]] = defaultdict(list)
    for node in nodes[1:]:
        assert node.parent is not None
        children[node.parent].append(node.id)
    rows: dict[int, float] = {}
    leaves, stack = 0, [nodes[0].id]
    while stack:
        id = stack.pop()
        stack.extend(reversed(children[id]))
        if not children[id]:
            rows[id] = leaves
            leaves += 1
    for node in reversed(nodes):  # children before their parents
        if own := children[node.id]:
            rows[node.id] = (rows[own[0]] + rows[own[-1]]) / 2
    return {node.id: (node.depth, rows[node.id]) for node in nodes}


def _plain(node: TreeNode, on_best_path: bool) -> dict[str, Any]:
    fields = {key: value for key, value in asdict(node).items() if key != "call"}
    flags = {"course_alteration": node.course_alteration, "best_path": on_best_path}
    return {**fields, "made_by": node.made_by, "transformations": node.transformations, **flags}


def _spots(run: Run, nodes: Sequence[TreeNode], best: Sequence[int]) -> list[_Spot]:
    """The nodes in drawing order; the best path comes last, so that it is on top."""
    places = {id: (_LEFT + _LEVEL * level, _TOP + _ROW * row) for id, (level, row) in layout(nodes).items()}
    parents = {node.parent for node in nodes}
    spots = []
    for node in sorted(nodes, key=lambda n: n.id in best):
        look, text = _look(run, node.model), speedup(run, node)
        state = "measured" if node.latency_secs is not None else "failed" if node.error else "waiting"
        shape = "root" if node.parent is None else "altered" if node.course_alteration else "regular"
        flags = ["best"] * (node.id in best) + ["pruned"] * node.pruned + ["inner"] * (node.id in parents)
        x, y = places[node.id]
        spots.append(
            _Spot(
                node.id,
                node.parent,
                node.depth + 1,
                x,
                y,
                classes=" ".join(["node", look["colour"], state, shape, *flags]),
                letter=look["letter"],
                edge="" if node.parent is None else _edge(*places[node.parent], x, y),
                edge_classes=" ".join(["edge", _look(run, node.made_by)["colour"], *flags]),
                text=text,
                spoken=f"{title(node)}, {text or state}",
            )
        )
    return spots


def _edge(x0: float, y0: float, x1: float, y1: float) -> str:
    """An SVG path that starts and ends horizontally."""
    middle = (x0 + x1) / 2
    return f"M{x0:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {x1:g} {y1:g}"


def _parent(node: TreeNode, by_id: dict[int, TreeNode]) -> TreeNode | None:
    return None if node.parent is None else by_id[node.parent]


def _look(run: Run, model: str | None) -> dict[str, str]:
    """A model's label, letter and CSS class of its colour."""
    if model is None:
        return {"label": label(run, None), "letter": "", "colour": "none"}
    rank = [m.name for m in run.models].index(model)
    letter = ascii_uppercase[rank % len(ascii_uppercase)]
    return {"label": label(run, model), "letter": letter, "colour": f"m{rank % len(PALETTE)}"}
