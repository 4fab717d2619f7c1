"""What is known about each model so far; shown to every model and reported at the end (paper section 3.3)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields

from colt_pipeline.records import ModelView, decides
from colt_pipeline.runs.events import Call, Child

# A duplicate is bad luck and a failed transport is the network's fault: neither is the model's error.
_NOT_THE_MODELS_FAULT = ("duplicate", "transport")


@dataclass
class ModelStats:
    """Counts for one model."""

    regular_calls: int = 0
    course_alterations: int = 0
    hits: int = 0
    """Regular calls with score(child) > score(parent)."""
    children: int = 0
    """Programs that its regular calls led to, including those that a course alteration pruned."""
    regressions: int = 0
    """Children with score(child) < score(parent)."""
    rejections: Counter[str] = field(default_factory=Counter)
    """Unusable answers of regular calls and course alterations by kind."""
    unlucky: int = 0
    """Of these, bare names for which TVM's draws found nothing."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    alteration_prompt_tokens: int = 0
    """Prompt tokens spent on course alterations."""
    alteration_completion_tokens: int = 0

    @property
    def hit_rate(self) -> float:
        return self.hits / self.regular_calls if self.regular_calls else 0.0

    @property
    def errors(self) -> int:
        """Rejections that are the model's own fault."""
        return sum(n for kind, n in self.rejections.items() if kind not in _NOT_THE_MODELS_FAULT) - self.unlucky

    def count(self, call: Call, legacy: bool = False) -> None:
        """Count a call; with `legacy`, what TVM draws for bare names is the model's fault."""
        if call.role == "regular":
            self.regular_calls += 1
            self.hits += call.hit
        else:
            self.course_alterations += 1
            self.alteration_prompt_tokens += call.prompt_tokens
            self.alteration_completion_tokens += call.completion_tokens
        self.prompt_tokens += call.prompt_tokens
        self.completion_tokens += call.completion_tokens
        for rejection in (call.outcome if call.outcome != "accepted" else None, call.flaw):
            if rejection is not None:
                self.rejections[rejection] += 1
        if call.outcome == "inapplicable" and not legacy:
            self.unlucky += not any(map(decides, call.transformations))

    def made(self, child: Child) -> None:
        """Count the program that a regular call led to."""
        self.children += 1
        self.regressions += child.score < child.parent_score

    def __add__(self, other: ModelStats) -> ModelStats:
        return ModelStats(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def view(self, name: str, parameters_b: float) -> ModelView:
        return ModelView(name, parameters_b, self.regular_calls, self.hit_rate, self.errors, self.course_alterations)
