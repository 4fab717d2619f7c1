"""Recorded runs, replayed without leaving anything behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from colt_pipeline.config.schema import Config
from colt_pipeline.runs.layout import recordings_in


@contextmanager
def in_scratch(config: Config) -> Iterator[Config]:
    """The same run in a temporary results directory that shares the recordings."""
    with tempfile.TemporaryDirectory() as scratch:
        recordings_in(scratch).symlink_to(recordings_in(config.results).resolve())
        yield replace(config, results=scratch)
