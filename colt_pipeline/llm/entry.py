"""One line of ``llm.jsonl``: its fields, their defaults, and its checks.

A question is stored as its key and digests of its lines, an answer verbatim. Instead of an answer, an entry may hold
the budget limit that kept the question from being asked. Fields with default values may be omitted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from colt_pipeline.llm.client import CHARACTERS_PER_TOKEN, DIGEST_WIDTH, stand_in_name
from colt_pipeline.records import EMBEDDED, KEY_WIDTH, Reply
from colt_pipeline.runs.recorded import require
from colt_pipeline.runs.usage import Identity

REFUSED = "limit"
"""Field with the budget limit that kept the question from being asked; a replay ends there too."""

_QUESTION: dict[str, tuple[type, ...]] = {"key": (str,), "occurrence": (int,), "model": (str,), "lines": (str,)}
_REPLY: dict[str, tuple[type, ...]] = {
    **{name: (str,) for name in ("text", "finish_reason", "provider_model", "backend")},
    **{name: (int,) for name in ("prompt_tokens", "completion_tokens")},
    "latency_secs": (int, float),
}
_LIMIT: dict[str, tuple[type, ...]] = {REFUSED: (str,)}
_FORMS = {
    "key": (re.compile(f"[0-9a-f]{{{KEY_WIDTH}}}"), f"{KEY_WIDTH} hexadecimal digits"),
    "lines": (re.compile(f"([0-9a-f]{{{DIGEST_WIDTH}}})*"), f"digests of {DIGEST_WIDTH} hexadecimal digits each"),
}
"""Field -> its pattern, and how messages describe it."""


def with_defaults(line: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with the fields that `line` omits; older recordings have longer keys, which are shortened."""
    entry = {**default_fields(line), **line}
    if isinstance(key := entry.get("key"), str):
        entry["key"] = key[:KEY_WIDTH]
    return entry


def default_fields(line: Mapping[str, Any]) -> dict[str, Any]:
    """The values of fields that an entry omits; `audit.write` leaves these out."""
    defaults: dict[str, Any] = {"occurrence": 0, "lines": "", "finish_reason": "stop", "latency_secs": 0.0}
    model, text = line.get("model"), line.get("text")
    if line.get("backend", EMBEDDED) == EMBEDDED and isinstance(model, str) and isinstance(text, str):
        defaults |= {"backend": EMBEDDED, "provider_model": stand_in_name(model)}
        defaults |= {"completion_tokens": len(text) // CHARACTERS_PER_TOKEN}
    return defaults


def check_complete(entry: Mapping[str, Any]) -> None:
    """Check that an entry, with defaults filled in, has all the fields that a replay needs.

    Raises:
        ValueError: fields are missing; the message names them.
    """
    require(entry, _wanted(entry))


def check_types(entry: Mapping[str, Any]) -> None:
    """Check the types and forms of a complete entry's fields.

    Raises:
        ValueError: a field is invalid; the message names it.
    """
    for name, types in _wanted(entry).items():
        value = entry[name]
        if isinstance(value, bool) or not isinstance(value, types):
            raise ValueError(f"{name} is of type {type(value).__name__}")
        if isinstance(value, int | float) and not value >= 0:
            raise ValueError(f"{name} is {value}")
    for name, (form, words) in _FORMS.items():
        if not form.fullmatch(entry[name]):
            raise ValueError(f"{name} does not consist of {words}")


def _wanted(entry: Mapping[str, Any]) -> dict[str, tuple[type, ...]]:
    return _QUESTION | (_REPLY if is_answered(entry) else _LIMIT)


def is_answered(entry: Mapping[str, Any]) -> bool:
    """False if a budget limit kept the question from being asked."""
    return REFUSED not in entry


def identity_of(entry: Mapping[str, Any]) -> Identity:
    """Which of the run's questions an entry answers."""
    return entry["key"], entry["occurrence"]


def reply_of(entry: Mapping[str, Any]) -> Reply:
    """The answer of an answered entry."""
    return Reply(**{name: entry[name] for name in _REPLY})


def common_prefix(a: str, b: str) -> int:
    """Number of leading lines that two questions share, given their ``lines`` fields."""
    count = 0
    while a[count * DIGEST_WIDTH : (count + 1) * DIGEST_WIDTH] == (
        b[count * DIGEST_WIDTH : (count + 1) * DIGEST_WIDTH] or None
    ):
        count += 1
    return count
