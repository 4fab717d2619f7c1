"""Course alteration: when to take the pen from the small models (paper section 3.4)."""

from __future__ import annotations

from collections.abc import Iterable

from colt_pipeline.search.tree import Node


def regresses_persistently(child_regressed: bool, ancestors: Iterable[Node], acting: str, largest: str) -> bool:
    """Whether the new child of `acting` is the second regression in a row by small models on its path.

    `ancestors`: the parent and its ancestors, from below. Edges made by the largest model, and those made by none (the
    initial programs), are skipped, so two regressions are in a row whether or not they are adjacent in the tree.
    """
    if acting == largest or not child_regressed:
        return False
    earlier = (node for node in ancestors if node.made_by is not None and node.made_by != largest)
    previous = next(earlier, None)
    return previous is not None and previous.regressed
