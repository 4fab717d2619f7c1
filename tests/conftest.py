"""Shared fixtures: the real configuration, composed with overrides, and runs that were played once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from colt_pipeline.config.schema import Config
from tests.support import Compose, Recorded, composing_once, configured, write_others

if TYPE_CHECKING:  # it imports TVM
    from colt_pipeline.job import Job

# Reproducible examples; to explore others: pytest --hypothesis-profile=default.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def compositions() -> Iterator[None]:
    """Hydra composes every choice of files in conf once per process."""
    with composing_once():
        yield


@pytest.fixture(scope="session")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Experience with a made-up workload, which searches with search=colt start from. Tests never change it."""
    return write_others(tmp_path_factory.mktemp("pretraining"))


@pytest.fixture
def composed(tmp_path: Path, others: Path) -> Compose:
    """By default, results go to a temporary directory."""

    def compose(*overrides: str) -> Config:
        return configured(f"results={tmp_path / 'results'}", f"pretraining={others}", *overrides)

    return compose


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory, others: Path) -> Recorded:
    """Small runs that are played once, with all their files. Tests copy them and never change them."""
    from colt_pipeline.job import write_outputs
    from tests.small_runs import play

    @cache
    def recorded(*overrides: str) -> Job:
        directory = tmp_path_factory.mktemp("recorded")
        places = (f"results={directory / 'results'}", f"pretraining={others}")
        job = play(configured(*places, *overrides))
        write_outputs(job)
        return job

    return recorded
