"""Where the relative paths of a configuration start, whichever directory a command is called from."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT = "dvc.yaml"
"""A directory that holds this file is a project's."""


def base(called_from: Path, moves: bool = False) -> Path:
    """What relative paths are relative to: the nearest parent of `called_from` that holds dvc.yaml, else itself.

    Args:
        called_from: an absolute path, the working directory of the command.
        moves: whether this process changes its working directory (``hydra.job.chdir``).

    Returns:
        The directory as a user would type it: relative to `called_from`, unless the process moves.
    """
    parents = (called_from, *called_from.parents)
    found = next((path for path in parents if (path / PROJECT).is_file()), called_from)
    return found if moves else Path(os.path.relpath(found, called_from))
