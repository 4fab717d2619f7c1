"""Helpers shared by several test modules."""

from collections.abc import Callable
from pathlib import Path

from colt_pipeline.config.schema import Config

ROOT = Path(__file__).parent.parent

Compose = Callable[..., Config]
"""Overrides -> configuration."""

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
