"""``index.json``: what a stage wrote into a directory, with captions and in the order of the report."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colt_pipeline.errors import ConfigError
from colt_pipeline.runs.jsonl import refuse_endless
from colt_pipeline.serialization import strict_json, typed

INDEX = "index.json"


@dataclass(frozen=True)
class Entry:
    """A table or a figure."""

    name: str
    """Name of its files, without suffixes."""
    title: str
    caption: str
    """What the numbers are, and what must be known beside them; in sentences."""
    key: str
    """The conditions of the runs, see `compared.key`."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w[\w.-]*", self.name):
            raise ValueError(f"{self.name!r} is not the name of a file in the same directory")


def write_index(entries: Iterable[Entry], directory: Path) -> None:
    """Write the index, creating the directory if needed."""
    write_json([asdict(entry) for entry in entries], directory / INDEX)


def read_index(directory: Path, command: str) -> list[Entry]:
    """Read what `write_index` wrote; errors name `command` as the way to remake it.

    Raises:
        ConfigError: it is missing or invalid.
    """
    try:
        return typed(list[Entry], read_json(directory / INDEX, command))
    except ValueError as error:
        raise ConfigError(f"{directory / INDEX} is not an index ({error}); make it with: {command}") from error


def write_json(value: object, path: Path) -> None:
    """Write indented JSON, creating the directory if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n")


def read_json(path: Path, command: str) -> Any:
    """The value in a JSON file; errors name `command` as the way to remake it.

    Raises:
        ConfigError: the file is missing or not JSON.
    """
    try:
        refuse_endless(path)
        return strict_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; make it with: {command}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error}); make it with: {command}") from error
