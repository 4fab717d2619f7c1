"""Recorded runs, replayed where they leave nothing behind, and what is asked meanwhile."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from colt_pipeline.config.schema import Config
from colt_pipeline.records import Answer, ModelSpec, PromptContext
from colt_pipeline.runs.layout import recordings_in
from colt_pipeline.search.world import ProposerLike


@contextmanager
def in_scratch(config: Config) -> Iterator[Config]:
    """The same run in a temporary results directory that shares the recordings."""
    with tempfile.TemporaryDirectory() as scratch:
        recordings_in(scratch).symlink_to(recordings_in(config.results).resolve())
        yield replace(config, results=scratch)


class Listening:
    """A proposer that forwards questions, and then tells what was asked and answered."""

    def __init__(self, inner: ProposerLike, hear: Callable[[ModelSpec, PromptContext, Answer], None]) -> None:
        self._inner = inner
        self._hear = hear

    def ask(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> Answer:
        answer = self._inner.ask(model, context, occurrences)
        self._hear(model, context, answer)
        return answer
