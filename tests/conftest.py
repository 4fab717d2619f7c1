"""Shared fixture: the real configuration, composed with overrides."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import settings
from support import ROOT, Compose

from colt_pipeline.config.checks import load
from colt_pipeline.config.schema import Config

# Reproducible examples; to explore others: pytest --hypothesis-profile=default.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def composed(tmp_path: Path) -> Compose:
    """By default, results go to a temporary directory and nothing is known about other workloads."""

    def compose_config(*overrides: str) -> Config:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            places = (f"results={tmp_path / 'results'}", f"pretraining={tmp_path / 'pretraining'}")
            raw = compose("config", overrides=[*places, *overrides])
        return load(raw)

    return compose_config
