"""Course alteration: when the largest model takes over (paper section 3.4), and rules to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class NewChild:
    """A child that a small model has just made."""

    fell: bool
    """Whether its score is below its parent's; noise as long as the cost model does not predict."""
    predicted: bool
    """Whether the cost model predicts yet."""
    earlier: Sequence[bool]
    """Whether each edge above it that a small model made is a regression under the present cost model, bottom up; empty
    if that does not predict. Edges made by the largest model or by no model (initial programs, drafts) are left out."""
    earlier_at_birth: Sequence[bool]
    """The same, judged by the cost model of the time when each edge was made."""
    streak: int
    """Consecutive regressions before it, in call order, anywhere in the tree."""
    rate: float
    rng: np.random.Generator

    @property
    def regressed(self) -> bool:
        """Whether it is a regression: without predictions nothing is."""
        return self.predicted and self.fell


@dataclass(frozen=True)
class CourseRule:
    """When the largest model answers in place of a small one, and whose child is kept."""

    triggers: Callable[[NewChild], bool]
    keeps_better: bool = False
    """Keep the small model's child if the largest model's scores lower; if False, it is always pruned."""


COURSE_RULES: dict[str, CourseRule] = {
    # Two regressions on one path, both by small models, adjacent or not: a rise between them does not matter, and the
    # earlier one, which stays, may count again.
    "path": CourseRule(lambda child: child.regressed and any(child.earlier)),
    "path_reset": CourseRule(lambda child: child.regressed and any(child.earlier[:1])),
    "path_birth": CourseRule(lambda child: child.regressed and any(child.earlier_at_birth[:1])),
    "streak": CourseRule(lambda child: child.fell and child.streak % 2 == 1, keeps_better=True),
    "random": CourseRule(lambda child: child.rng.random() < child.rate),
    "never": CourseRule(lambda child: False),
}
"""``search.course_alteration`` -> rule."""
