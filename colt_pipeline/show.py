"""Look at a run, finished or not: ``python -m colt_pipeline.show results/runs/<experiment>/<workload>/<run> --tree``.

Prints the summary, the path from the unoptimized program to the best one with what each step changed, and what each
model contributed. ``--tree`` writes the whole tree as tree.json and as a page, tree.html.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.tree.page import write_tree
from colt_pipeline.analysis.tree.run import Run, best_path, improvements, model_rows, read_run, tree_nodes
from colt_pipeline.analysis.tree.words import NO_PATH, Fact, caption, edge_facts, label, run_facts, title
from colt_pipeline.app import aligned, printable, with_message
from colt_pipeline.records import REJECTIONS


def describe(run: Run) -> str:
    """The run as text for a terminal."""
    return "\n\n".join([f"{run.path}\n{_aligned(run_facts(run))}", _path(run), _models(run)])


def _path(run: Run) -> str:
    """The best path, edge by edge."""
    ids = best_path(run)
    if not ids:
        return NO_PATH
    nodes = {node.id: node for node in tree_nodes(run)}
    parts = [f"The way to the best program: {' → '.join(map(str, ids))}"]
    for above, below in zip(ids, ids[1:], strict=False):
        parts.append(f"{title(nodes[below])}\n{_aligned(edge_facts(run, nodes[below], nodes[above]))}")
    return "\n\n".join(parts)


def _models(run: Run) -> str:
    """The table of models, and what came without one."""
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
        "calls: regular ones; new bests: how often a program of its was the fastest so far (of the programs that no "
        f"model made: {len(improvements(run)[None])}); programs are measured once, so small gains may be noise"
    )
    return "\n".join([*lines, caption(run)])


def _aligned(facts: Sequence[Fact]) -> str:
    """One fact a line; a label is not repeated."""
    shown = [name if index == 0 or facts[index - 1][0] != name else "" for index, (name, _) in enumerate(facts)]
    return "\n".join(aligned([("", name, printable(text)) for name, (_, text) in zip(shown, facts, strict=True)]))


@with_message
def main(argv: Sequence[str] | None = None) -> int:
    """Print, and write the tree if asked; exit status 1 with a message when there is no run to look at."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument("--tree", action="store_true", help="also write tree.json and tree.html into the run directory")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write them into this directory instead")
    arguments = parser.parse_args(argv)
    run = read_run(arguments.run)
    print(describe(run))
    if arguments.tree or arguments.out:
        for path in write_tree(run, arguments.out or run.path):
            print(f"wrote {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
