"""Helpers shared by several test modules."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.utils import JobRuntime
from omegaconf import DictConfig

from colt_pipeline.config.compose import CONF, composed
from colt_pipeline.config.schema import Config

if TYPE_CHECKING:  # it imports TVM
    from colt_pipeline.job import Job

ROOT = Path(__file__).parent.parent

Compose = Callable[..., Config]
"""Overrides -> configuration."""
Recorded = Callable[..., "Job"]
"""Overrides -> a finished run, with all its files."""

SMALL: dict[str, dict[str, int]] = {
    "llama3_8b_attention": {"batch": 1, "tokens": 4, "inner": 24, "outer": 40},
    "deepseek_r1_moe": {"batch": 2, "tokens": 4, "inner": 56, "outer": 16},
    "flux_attention": {"heads": 3, "kv_heads": 3, "head_dim": 8, "tokens": 6, "context": 6},
    "flux_conv": {"batch": 1, "channels": 3, "filters": 5, "height": 7, "width": 6},
    "llama4_scout_mlp": {"batch": 1, "tokens": 2, "inner": 20, "outer": 32},
    "llama3_8b_attention_core": {"heads": 4, "kv_heads": 2, "head_dim": 8, "tokens": 3, "context": 9},
    "batched_matmul_nt": {"batch": 3, "tokens": 4, "inner": 8, "outer": 5},
    "depthwise_conv": {"batch": 2, "channels": 3, "height": 5, "width": 4},
}
"""A small shape of every workload."""

_PLACES = ("results=", "pretraining=")

HEADER = {
    "schema": 1,
    "workload": "w",
    "workload_hash": "0" * 64,
    "target": {"kind": "llvm"},
    "device": {"cpu": "A", "mcpu": "a", "cores": 1},
    "evaluator": {},
}
"""The first line of a ledger."""


def configured(*overrides: str) -> Config:
    """The real configuration with overrides.

    Hydra takes a quarter of a second, so its result for the same overrides is cached. The location of a run affects
    nothing else, so one composition serves all locations.
    """
    config = deepcopy(_composed(tuple(override for override in overrides if not override.startswith(_PLACES))))
    for override in overrides:
        if override.startswith(_PLACES):
            key, _, value = override.partition("=")
            setattr(config, key, value)
    return config


@cache
def _composed(overrides: tuple[str, ...]) -> Config:
    return composed(overrides)


@contextmanager
def composing_once() -> Iterator[None]:
    """Hydra composes every choice of files in conf once, which takes it half a second; the same again gives a copy.

    What it is asked is the whole command line, and with files from elsewhere it composes as ever.
    """
    load, found = ConfigLoaderImpl.load_configuration, dict[str, DictConfig]()

    def load_configuration(loader: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        places = [each.path for each in loader.config_search_path.get_path()]
        asked = f"{args} {kwargs} in {Path.cwd()} for {JobRuntime.instance().get('name')}"
        if places != ["pkg://hydra.conf", str(CONF), "structured://"] or "hydra.searchpath" in asked:
            return load(loader, *args, **kwargs)
        if asked not in found:
            found[asked] = load(loader, *args, **kwargs)
        return deepcopy(found[asked])

    with patch.object(ConfigLoaderImpl, "load_configuration", load_configuration):
        yield


def write_others(directory: Path, name: str = "other", seed: int = 0) -> Path:
    """Experience with a made-up workload in which the first feature determines the latency; returns the directory."""
    directory.mkdir(exist_ok=True)
    draw = random.Random(seed)
    rows = [[draw.uniform(0, 50) for _ in range(329)] for _ in range(24)]
    latencies = ["", *(f"{1e-3 * (1 + row[0]):.6g}" for row in rows[1:])]
    lines = [",".join([secs, *(f"{x:.4g}" for x in row)]) for secs, row in zip(latencies, rows, strict=True)]
    (directory / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return directory


def printed_elsewhere(code: str, *arguments: str, hash_seed: int = 1) -> str:
    """The output of the code in another process, with another hash seed and a clean environment."""
    command = [sys.executable, "-c", code, *arguments]
    environment = {"PYTHONHASHSEED": str(hash_seed), "PATH": ""}
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
