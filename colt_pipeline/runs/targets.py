"""What a target may set that comes from a recording, which anybody can edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_TARGET_KEYS = frozenset(
    {
        *("kind", "mcpu", "num-cores", "arch", "host", "thread_warp_size", "max_num_threads", "max_threads_per_block"),
        *("max_shared_memory_per_block", "registers_per_block"),
    }
)


def unknown_target_keys(target: Mapping[str, Any]) -> list[str]:
    """The keys of a recorded target that no run writes.

    With ``cl-opt``, for example, it could set options of LLVM, which can make it write to files.
    """
    host = target.get("host")
    return sorted({*target, *(host if isinstance(host, Mapping) else ())} - _TARGET_KEYS)
