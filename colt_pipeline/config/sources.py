"""What distinguishes a user's own kernel: the stem of its file, and a digest of everything that defines it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from colt_pipeline.errors import ConfigError
from colt_pipeline.serialization import canonical_json

OWN, OWN_MODEL = "own", "own_model"
_DIGITS = 8


def own_name(source: str, function: str | None, bind: Mapping[str, int], inputs: str | None) -> str:
    """STEM-DIGEST; the digest is of the files' contents, so that an edited file is another run.

    Without TVM, which takes seconds to import, the hash of the program itself is unknown here; it is checked when a run
    is resumed.

    Raises:
        ConfigError: a file cannot be read.
    """
    contents = {
        key: file_digest(f"workload.{key}", path) for key, path in (("source", source), ("inputs", inputs)) if path
    }
    known = {**contents, "function": function, "bind": dict(bind)}
    stem = re.sub(r"[^\w-]+", "_", Path(source).stem).strip("_-") or OWN
    return f"{stem}-{hashlib.sha256(canonical_json(known).encode()).hexdigest()[:_DIGITS]}"


def file_digest(key: str, path: str) -> str:
    """sha256 of a file's contents.

    Args:
        key: of the configuration, for the message.
        path: the file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        if not Path(path).is_file():
            raise ConfigError(f"{key}={path} is not a file")
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{key}={path} cannot be read: {error.strerror}") from error
