"""A run directory: resolved config, journal, and the outputs derived from them.

``config.yaml``  the resolved configuration
``events.jsonl`` the journal
``curve.csv``    best latency and speedup by sample
``calls.csv``    calls, hits, errors by kind, tokens and programs per model
``turns.csv``    calls per model by number of samples
``best.txt``     the best schedule: its trace as ``sch.`` lines and its TVMScript
``best.json``    the same, machine-readable
``summary.json`` the run in numbers
``program.json`` the program that is tuned, if it is a user's own; ``inputs.npz`` its inputs, if these are, too
``timing.json``  seconds by kind of work; only for live runs, because a replay's timing is meaningless
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from colt_pipeline.config.schema import SpaceConfig
from colt_pipeline.config.spaces import recorded_space
from colt_pipeline.errors import RunDirError
from colt_pipeline.runs.jsonl import refuse_endless
from colt_pipeline.runs.layout import CONFIG, JOURNAL, SUMMARY
from colt_pipeline.serialization import differences, strict_json


class RunDir:
    """One run's files."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Claim `path` for the run with this resolved config; an existing directory must hold the same run.

        Raises:
            RunDirError: it is unwritable, or holds a run with another config or none.
        """
        self.path = path
        text = yaml.safe_dump(dict(identity), sort_keys=False, allow_unicode=True)
        config = path / CONFIG
        if self.journal.exists() and not config.exists():
            raise RunDirError(f"{path} holds a journal but no {CONFIG}; restore it or remove the directory")
        if not config.exists():
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RunDirError(f"cannot write {path}: {error.strerror}; choose another with results=DIR") from error
            self.write_text(CONFIG, text)
        differing = differences(read_config(config), yaml.safe_load(text))
        if differing:
            raise RunDirError(
                f"{path} holds a run with another config ({differing}). "
                "Choose another name for this run with run=NAME, or remove that directory."
            )

    @property
    def journal(self) -> Path:
        return self.path / JOURNAL

    def reopen(self) -> None:
        """Resume the run: the summary written when it reached a limit is out of date."""
        (self.path / SUMMARY).unlink(missing_ok=True)

    def write_json(self, name: str, value: object) -> None:
        """Write indented JSON with sorted keys."""
        self.write_text(name, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")

    def write_csv(self, name: str, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
        """Write rows below a header; None becomes an empty field."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        self.write_text(name, text.getvalue())

    def write_text(self, name: str, text: str) -> None:
        """See `write_bytes`."""
        write_text(self.path / name, text)


class _Loader(yaml.SafeLoader):
    """Plain data without aliases, through which a small file could become a huge value."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it contains an alias")
        return super().compose_node(parent, index)


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a run, as `RunDir` wrote it.

    Raises:
        RunDirError: the file is missing, unreadable, or not the YAML of a mapping.
    """
    return _mapping(path, lambda text: yaml.load(text, _Loader))


def read_space(path: Path) -> SpaceConfig:
    """The design space of the run with this configuration.

    Raises:
        RunDirError: the file is missing or unreadable, or its space is none of this version's.
    """
    config = read_config(path)
    try:
        return recorded_space(config)
    except ValueError as error:
        raise RunDirError(f"{path} is not the configuration of a run ({error}); restore it") from error


def read_json(path: Path) -> dict[str, Any]:
    """An object that `RunDir.write_json` wrote.

    Raises:
        RunDirError: the file is missing, unreadable, or not the JSON of an object.
    """
    return _mapping(path, strict_json)


def _mapping(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        refuse_endless(path)
        value = parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunDirError(f"cannot read {path}: {error.strerror}; restore it") from error
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise RunDirError(f"{path} is broken ({' '.join(str(error).split())[:200]}); restore it") from error
    if not isinstance(value, dict):
        raise RunDirError(f"{path} holds a value of type {type(value).__name__}, not a mapping; restore it")
    return value


def write_text(path: Path, text: str) -> None:
    """Like `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file of a run or a recording atomically, creating its directory if needed.

    Raises:
        RunDirError: the directory is unwritable or the disk is full.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise RunDirError(
            f"cannot write {path}: {error.strerror}; existing files are intact, run the same command again"
        ) from error
