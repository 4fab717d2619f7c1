"""Files that hold a user's own kernel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import tvm


def read_program(path: Path, function: str | None, bind: Mapping[str, int]) -> tvm.tirx.PrimFunc:
    """The kernel in a file.

    Args:
        path: the file.
        function: which of its functions; None = the only one.
        bind: symbolic sizes.

    Raises:
        ConfigError: the file holds no such kernel; the message says why, and what to do.
    """
    found = tvm.ir.load_json(path.read_text())
    return found if isinstance(found, tvm.tirx.PrimFunc) else next(iter(found.functions.values()))
