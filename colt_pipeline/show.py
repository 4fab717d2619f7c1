"""Inspect a run, finished or not: ``python -m colt_pipeline.show results/runs/<experiment>/<workload>/<run> --tree``.

Prints the summary, the path from the unoptimized program to the best one with the changes made by each step, and each
model's contribution. ``--tree`` writes the whole tree as tree.json and as a page, tree.html.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.tree.page import write_tree
from colt_pipeline.analysis.tree.run import Run, best_path, improvements, model_rows, read_run, tree_nodes
from colt_pipeline.analysis.tree.words import NO_PATH, Fact, caption, edge_facts, label, run_facts, title
from colt_pipeline.app import aligned, with_message
from colt_pipeline.records import REJECTIONS


def describe(run: Run) -> str:
    """The run as text for a terminal."""
    return "\n\n".join([f"{run.path}\n{_aligned(run_facts(run))}", _path(run), _models(run)])


def _path(run: Run) -> str:
    """The path to the best program, edge by edge."""
    ids = best_path(run)
    if not ids:
        return NO_PATH
    nodes = {node.id: node for node in tree_nodes(run)}
    parts = [f"Path to the best program: {' → '.join(map(str, ids))}"]
    for above, below in zip(ids, ids[1:], strict=False):
        parts.append(f"{title(nodes[below])}\n{_aligned(edge_facts(run, nodes[below], nodes[above]))}")
    return "\n\n".join(parts)


def _models(run: Run) -> str:
    """The table of models, and the new bests that no model made."""
    head = ("model", "calls", "hits", "course alterations", "rejections", "tokens in+out", "new bests", "largest gain")
    cells: list[tuple[str, ...]] = [head]
    for row in model_rows(run):
        rejections = " ".join(f"{kind}:{row[kind]}" for kind in REJECTIONS if row[kind]) or "-"
        gain = "-" if row["best_gain"] is None else f"{row['best_gain']:.2f}x"
        counts = [str(row[key]) for key in ("regular_calls", "hits", "course_alterations")]
        tokens = f"{row['prompt_tokens']}+{row['completion_tokens']}"
        cells.append((label(run, row["model"]), *counts, rejections, tokens, str(row["new_bests"]), gain))
    lines = aligned(cells)
    lines.append(
        "calls: regular calls; new bests: how often one of its programs was the fastest so far (programs that no model "
        f"made: {len(improvements(run)[None])}); programs are measured once, so small gains may be noise"
    )
    return "\n".join([*lines, caption(run)])


def _aligned(facts: Sequence[Fact]) -> str:
    """One fact per line; repeated labels are left blank."""
    shown = [name if index == 0 or facts[index - 1][0] != name else "" for index, (name, _) in enumerate(facts)]
    return "\n".join(aligned([("", name, text) for name, (_, text) in zip(shown, facts, strict=True)]))


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Print the run and write the tree if requested; exit status 1 with a message if there is no run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument("--tree", action="store_true", help="also write tree.json and tree.html into the run directory")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write the tree into this directory instead")
    arguments = parser.parse_args(argv)
    run = read_run(arguments.run)
    print(describe(run))
    if arguments.tree or arguments.out:
        for path in write_tree(run, arguments.out or run.path):
            print(f"wrote {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
