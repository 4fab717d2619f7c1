"""Shared fixture: the real configuration, composed with overrides."""

from pathlib import Path

import pytest
from hypothesis import settings

from colt_pipeline.config.schema import Config
from tests.support import Compose, configured

# The same tree gives the same verdict; to search elsewhere: pytest --hypothesis-profile=default.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def composed(tmp_path: Path) -> Compose:
    """Results go to a temporary directory, and nothing is known of other workloads, unless an override says so."""

    def compose(*overrides: str) -> Config:
        return configured(f"results={tmp_path / 'results'}", f"pretraining={tmp_path / 'pretraining'}", *overrides)

    return compose
