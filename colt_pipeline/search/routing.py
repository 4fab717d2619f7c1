"""Which model answers next: the paper's endogenous choice, and rules to compare it with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from colt_pipeline.records import ModelSpec
from colt_pipeline.search.state import State

Router = Callable[[Sequence[ModelSpec], State, str | None, np.random.Generator], str]
"""(model set, state, model advised by the acting one, generator) -> name of the model to expand the new node."""


def _endogenous(models: Sequence[ModelSpec], state: State, advised: str | None, rng: np.random.Generator) -> str:
    """As the acting model advises; a uniform draw if it names no model of the set (paper section 3.3)."""
    return advised or _uniform(models, state, advised, rng)


def _uniform(models: Sequence[ModelSpec], state: State, advised: str | None, rng: np.random.Generator) -> str:
    return models[int(rng.integers(len(models)))].name


def _round_robin(models: Sequence[ModelSpec], state: State, advised: str | None, rng: np.random.Generator) -> str:
    return models[state.steps % len(models)].name


def _cheapest(models: Sequence[ModelSpec], state: State, advised: str | None, rng: np.random.Generator) -> str:
    """The smallest model; the first one if several are equal."""
    return min(models, key=lambda m: m.parameters_b).name


def _ucb(models: Sequence[ModelSpec], state: State, advised: str | None, rng: np.random.Generator) -> str:
    """UCB1 on hit rates (Auer, Cesa-Bianchi, Fischer 2002); untried models first, in the order of the set."""
    stats = state.known_stats
    calls = {m.name: stats[m.name].regular_calls for m in models}
    untried = [name for name, count in calls.items() if not count]
    if untried:
        return untried[0]
    total = sum(calls.values())
    return max(calls, key=lambda name: stats[name].hit_rate + math.sqrt(2 * math.log(total) / calls[name]))


ROUTERS: dict[str, Router] = {
    "endogenous": _endogenous,
    "uniform": _uniform,
    "round_robin": _round_robin,
    "cheapest": _cheapest,
    "ucb": _ucb,
}
"""``search.router`` -> rule."""
