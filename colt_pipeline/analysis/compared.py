"""What an experiment compares, as determined by its runs: searches, or model sets under one search."""

from __future__ import annotations

from typing import Literal

from colt_pipeline.analysis.labels import caption
from colt_pipeline.analysis.searches import search_caption
from colt_pipeline.analysis.tidy import Tidy

Compared = Literal["model_sets", "searches"]
MODEL_SETS: Compared = "model_sets"
SEARCHES: Compared = "searches"


def compared(tidy: Tidy) -> Compared:
    """SEARCHES if there are several, else MODEL_SETS."""
    return SEARCHES if tidy.runs["search"].nunique() > 1 else MODEL_SETS


def common_caption(tidy: Tidy) -> str:
    """The caption common to all runs of an experiment."""
    return search_caption(tidy) if compared(tidy) == SEARCHES else caption(tidy)
