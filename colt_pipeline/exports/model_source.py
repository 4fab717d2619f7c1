"""The files of a user's own model, which a run names but does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from colt_pipeline.config.sources import file_digest
from colt_pipeline.errors import ConfigError, RunDirError
from colt_pipeline.runs.layout import SOURCE
from colt_pipeline.runs.rundir import read_json
from colt_pipeline.serialization import typed


@dataclass(frozen=True)
class ModelFiles:
    """Paths; None = there is none."""

    source: str | None = None
    weights: str | None = None


class _Recorded(TypedDict):
    source: str
    weights: str | None
    sha256: dict[str, str]


def model_files(run: Path, workload: Mapping[str, Any], given: ModelFiles) -> ModelFiles:
    """The files of the model that a run tuned.

    Args:
        run: its directory.
        workload: of its configuration.
        given: files that are used whatever they hold, in place of those that the run names.

    Raises:
        ConfigError: a file is not there, is not known, or has changed since the run.
        RunDirError: what the run says about them cannot be read.
    """
    if workload.get("model") is not True:
        if given != ModelFiles():
            key = "source" if given.source is not None else "weights"
            raise ConfigError(f"workload.{key} is for models of one's own; {run} tuned {workload.get('name')}")
        return ModelFiles()
    recorded = _recorded(run)
    if recorded is None:
        if given.source is None:
            raise ConfigError(f"{run} does not say where its model is; name the file with workload.source=FILE")
        return given
    source = given.source or _unchanged(run, "source", recorded["source"], recorded)
    known = recorded["weights"]
    return ModelFiles(source, given.weights or (known and _unchanged(run, "weights", known, recorded)))


def _recorded(run: Path) -> _Recorded | None:
    if not (run / SOURCE).exists():
        return None
    try:
        return typed(_Recorded, read_json(run / SOURCE))
    except ValueError as error:
        raise RunDirError(f"{run / SOURCE} does not name the files of a model ({error}); restore it") from error


def _unchanged(run: Path, key: str, path: str, recorded: _Recorded) -> str:
    what = "its model" if key == "source" else "the weights of its model"
    if not Path(path).is_file():
        raise ConfigError(f"{run} says that {what} is {path}, which is not there; name it with workload.{key}=FILE")
    if file_digest(f"workload.{key}", path) != recorded["sha256"].get(key):
        raise ConfigError(
            f"{path} has changed since {run} tuned it; restore it, or, if its kernels are the same, name it with "
            f"workload.{key}=FILE"
        )
    return path
