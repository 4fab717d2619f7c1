"""Course alteration: when to take the pen from the small models (paper section 3.4), and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from colt_pipeline.search.tree import Node


@dataclass(frozen=True)
class NewChild:
    """A child that a small model just made."""

    regressed: bool
    """Its predicted score is below its parent's."""
    ancestors: Iterable[Node]
    """The parent and its ancestors, from below."""
    largest: str
    streak: int
    """Regressions in a row before it, in order of calls, wherever in the tree."""
    rate: float
    rng: np.random.Generator


@dataclass(frozen=True)
class CourseRule:
    """When the largest model answers in the place of a small one, and whose child stays."""

    triggers: Callable[[NewChild], bool]
    keeps_better: bool = False
    """The small model's child stays if the largest model's scores lower; otherwise it is pruned whatever comes."""


def regresses_persistently(child: NewChild) -> bool:
    """Whether the child is the second regression in a row by small models on its path.

    Edges made by the largest model, and those made by none (the initial programs), are skipped, so two regressions are
    in a row whether or not they are adjacent in the tree.
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
