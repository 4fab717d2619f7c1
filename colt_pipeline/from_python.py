"""What a call from Python asks for, as a configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import tvm
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton

from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.program_json import without_spans

_composing = Lock()
"""Hydra's state belongs to the process."""
_LONGEST_NAME = 80
_IMPLIED = {"kind", "tag", "keys", "host"}
"""What TVM adds to a target, and the host of a GPU, which only starts kernels."""


def configuration(given: Mapping[str, Any]) -> Config:
    """The configuration with these values for its keys.

    Raises:
        ConfigError: as for `composed`, or a value is of a type that a configuration cannot hold.
    """
    overrides = [f"{key}={_written(key, value)}" for key, value in given.items()]
    with _composing, _hydra_set_aside():
        return composed(overrides)


def kernel_file(directory: Path, name: str, program: tvm.IRModule | tvm.tirx.PrimFunc) -> Path:
    """A new file for ``workload.source``, whose stem, by which runs are called, is like `name`."""
    path = directory / f"{file_stem(name)}.json"
    path.write_text(without_spans(program))
    return path


def file_stem(name: str) -> str:
    """`name` as the stem of a file."""
    return re.sub(r"[^\w-]+", "_", name)[:_LONGEST_NAME] or "module"


def target_keys(target: tvm.target.Target | Mapping[str, Any] | str | None) -> dict[str, Any]:
    """The keys of the configuration for one of TVM's targets."""
    if target is None:
        return {}
    if target == "cuda":
        return {"target": "gpu"}
    try:
        made = tvm.target.Target(dict(target) if isinstance(target, Mapping) else target)
    except ValueError as error:
        raise ConfigError(f"target={target} is not a target of TVM: {str(error).splitlines()[0]}") from error
    kind = str(made.kind.name)
    if kind not in ("llvm", "cuda"):
        raise ConfigError(f"target={target} is of kind {kind}; choose one of kind llvm or cuda")
    usual = tvm.target.Target(kind).attrs
    given = {str(k): v for k, v in made.attrs.items() if not (k in usual and usual[k] == v)}
    given = {k: v for k, v in given.items() if k not in _IMPLIED and not k.startswith("feature.")}
    if kind == "cuda":  # the device itself knows the other attributes
        return {"target": "gpu", **({"target.arch": str(given["arch"])} if "arch" in given else {})}
    keys = {"num-cores": "target.cores", "mcpu": "target.mcpu"}
    if unknown := sorted(given.keys() - keys):
        raise ConfigError(
            f"target={target} sets {', '.join(unknown)}, which this search does not know; give only num-cores and mcpu"
        )
    return {"target": "cpu", **{keys[name]: value for name, value in given.items()}}


def _written(key: str, value: Any) -> str:
    """A value as an override of Hydra; strings are quoted, so that nothing in them is syntax but ``${...}``."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str() | Path():
            return "'" + re.sub(r"(\\*)('|$)", _escaped, str(value)) + "'"
        case list() | tuple():
            return f"[{','.join(_written(key, each) for each in value)}]"
        case Mapping():
            if names := [name for name in map(str, value) if not re.fullmatch(r"[\w.-]+", name)]:
                raise ConfigError(f"{key}: {names[0]} cannot be a key; use letters, digits and _ . -")
            return "{" + ",".join(f"{name}:{_written(key, each)}" for name, each in value.items()) + "}"
    raise ConfigError(f"{key}={value!r} is of type {type(value).__name__}, which a configuration cannot hold")


def _escaped(end: re.Match[str]) -> str:
    backslashes, quote = end.groups()
    return backslashes * 2 + (f"\\{quote}" if quote else "")


@contextmanager
def _hydra_set_aside() -> Iterator[None]:
    """Let a caller's own use of Hydra be as if there were none here."""
    before = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        Singleton.set_state(before)
