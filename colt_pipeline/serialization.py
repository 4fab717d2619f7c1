"""JSON in files: how records are written, read and compared.

Files are written as canonical JSON (sorted keys, no spaces, ASCII), so equal records have equal bytes. They are read
strictly, because anybody can edit them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from copy import copy
from dataclasses import Field, field, fields, is_dataclass
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta

T = TypeVar("T")

Number = Annotated[float, Meta(ge=-1e300, le=1e300)]
"""A finite number."""
Seconds = Annotated[float, Meta(gt=0, le=1e9)]
"""How long something took that certainly took time."""
Elapsed = Annotated[float, Meta(ge=0, le=1e9)]
"""Seconds, perhaps none."""
Count = Annotated[int, Meta(ge=0, le=10**12)]
"""How many."""

_BRIEF = 120
_BEFORE = "before"


def canonical_json(value: object) -> str:
    """Canonical JSON text: sorted keys, no spaces, ASCII (any text survives); NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


KEY_WIDTH = 20
"""Hex digits of a sha256 that serve as a recording key: 80 bits, for a few hundred entries per recording."""


def digest(value: object) -> str:
    """sha256 (hex) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def strict_json(text: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON (Python's NaN and Infinity are not), is nested too deeply, or names a field twice.
    """
    try:
        return json.loads(text, parse_constant=_refuse, object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _distinct(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(fields)
    if len(named) < len(fields):
        raise ValueError("a field is named twice")
    return named


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a JSON number")


def typed(kind: type[T], value: Any) -> T:
    """JSON from a file as a `kind`: a dataclass, a TypedDict or a plain type; fields that it does not have are ignored.

    Raises:
        ValueError: a field is missing, or has another type or is out of range; the message names it.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$.")
        problem = problem[:1].lower() + problem[1:]
        raise ValueError(f"{place}: {problem}" if place else problem) from error


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """The values within nested objects and lists, by their paths, such as ``children[0].score``; a tuple is a list."""
    inner: dict[str, Any] = {}
    if isinstance(value, Mapping):
        inner = {f"{prefix}.{key}" if prefix else str(key): each for key, each in value.items()}
    elif isinstance(value, list | tuple):
        value = list(value)
        inner = {f"{prefix}[{number}]": each for number, each in enumerate(value)}
    return {k: v for path, each in inner.items() for k, v in flat(each, path).items()} if inner else {prefix: value}


def differences(there: Any, here: Any, shown: int = 3) -> str:
    """The first few paths at which two nested values differ, with both values; "" if they are equal."""
    recorded, wanted = flat(there), flat(here)
    paths = [path for path in dict.fromkeys([*recorded, *wanted]) if recorded.get(path) != wanted.get(path)]
    return "; ".join(f"{p}: {_brief(recorded.get(p))} there, {_brief(wanted.get(p))} now" for p in paths[:shown])


def _brief(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _BRIEF else f"{text[:_BRIEF]}..."


def added(before: Any, optional: bool = False) -> Any:
    """A field of a record or of the configuration that was added after some recordings were made.

    A recording without the field means `before`, the behaviour from before the field existed, and that value is never
    written. So a new setting changes no name, key or byte of what was recorded without it.

    Args:
        before: that behaviour.
        optional: whether it is the default as well, because users have files of their own without the field.
    """
    if not optional:
        return field(metadata={_BEFORE: before})
    return field(default_factory=lambda: copy(before), metadata={_BEFORE: before})


def written(record: Any) -> dict[str, Any]:
    """The fields of a dataclass as a recording holds them, recursively; see `added`."""
    own = {f.name: getattr(record, f.name) for f in fields(record) if not _as_before(f, getattr(record, f.name))}
    return {name: _plain(value) for name, value in own.items()}


def as_recorded(kind: type[T], recorded: Mapping[str, Any]) -> T:
    """The dataclass that these recorded fields represent; see `added`.

    Raises:
        TypeError: a field is missing or unknown.
    """
    before = {f.name: f.metadata[_BEFORE] for f in fields(cast(Any, kind)) if _BEFORE in f.metadata}
    return kind(**{**before, **recorded})


def _as_before(field: Field[Any], value: Any) -> bool:
    return _BEFORE in field.metadata and bool(value == field.metadata[_BEFORE])


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return written(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
