"""What several test modules share."""

from collections.abc import Callable
from pathlib import Path

from colt_pipeline.config import Config

ROOT = Path(__file__).parent.parent

Compose = Callable[..., Config]
"""Overrides -> configuration."""
