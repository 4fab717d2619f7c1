"""Random answers in place of a model's: the control that shows what the models contribute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from colt_pipeline.records import RANDOM, Answer, Edit, ModelSpec, PromptContext, Proposal, Rejection, Reply
from colt_pipeline.serialization import digest

_MOST = 5
"""Transformations per proposal: 1 to 5, as for an unskilled stand-in."""

# TVM's own mutator probabilities on CPUs; those for CUDA differ only in names (MetaSchedule, DefaultLLVM and
# DefaultCUDA in mutator.cc).
_TVM_WEIGHTS = {"TileSize": 0.9, "ComputeLocation": 0.05, "Unroll": 0.03, "Parallel": 0.02, "ThreadBinding": 0.02}


Weights = Literal["even", "tvm"]
"""Equal probabilities for all transformations, or those of TVM's mutators."""


class RandomProposer:
    """Draws from the transformations on offer; advises no next model and uses no tokens."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def ask(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> Answer:
        """A draw determined by (model, program, state of the search)."""
        offered = [name for name, _ in context.transformations]
        by_tvm = self._weights == "tvm"  # enters the key as a boolean
        key = digest([RANDOM, by_tvm, model.name, context.lineage[0].history, context.samples, offered])
        occurrence = occurrences.get(key, 0)
        reply = Reply("", "stop", 0, 0, 0.0, RANDOM, RANDOM)
        if not offered:
            return Answer(key, occurrence, reply, Rejection("inapplicable", "nothing is on offer"))
        rng = np.random.default_rng([int(key[:8], 16), int(key[8:16], 16), occurrence])
        least = min(_TVM_WEIGHTS.values())  # for a user's own
        weights = np.array([_TVM_WEIGHTS.get(name, least) if by_tvm else 1.0 for name in offered])
        drawn = rng.choice(len(offered), size=int(rng.integers(1, _MOST + 1)), p=weights / weights.sum())
        return Answer(key, occurrence, reply, Proposal(tuple(Edit(offered[i]) for i in drawn), None))
