"""Course alteration: when the largest model takes over (paper section 3.4), and rules to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from colt_pipeline.search.tree import Node


@dataclass(frozen=True)
class NewChild:
    """A child that a small model has just made."""

    regressed: bool
    """Whether its predicted score is below its parent's."""
    ancestors: Iterable[Node]
    """The parent and its ancestors, bottom up."""
    largest: str
    streak: int
    """Consecutive regressions before it, in call order, anywhere in the tree."""
    rate: float
    rng: np.random.Generator


@dataclass(frozen=True)
class CourseRule:
    """When the largest model answers in place of a small one, and whose child is kept."""

    triggers: Callable[[NewChild], bool]
    keeps_better: bool = False
    """Keep the small model's child if the largest model's scores lower; if False, it is always pruned."""


def regresses_persistently(child: NewChild) -> bool:
    """Whether the child is the second consecutive regression by small models on its path (paper section 3.4).

    Edges made by the largest model or by no model (initial programs, drafts) are skipped, so consecutive regressions
    need not be adjacent in the tree.
    """
    if not child.regressed:
        return False
    earlier = (node for node in child.ancestors if node.made_by is not None and node.made_by != child.largest)
    previous = next(earlier, None)
    return previous is not None and previous.regressed


COURSE_RULES: dict[str, CourseRule] = {
    "path": CourseRule(regresses_persistently),
    "streak": CourseRule(lambda child: child.regressed and child.streak % 2 == 1, keeps_better=True),
    "random": CourseRule(lambda child: child.rng.random() < child.rate),
    "never": CourseRule(lambda child: False),
}
"""``search.course_alteration`` -> rule."""
