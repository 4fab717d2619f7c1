"""One line of ``llm.jsonl``: its fields, what it means by those that it leaves out, and what may be wrong with it.

A question is kept as its key and as digests of its lines, an answer raw. Instead of an answer an entry may hold the
limit of the budget that kept the question from being asked. Fields that say what is usual may be left out.
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
"""Field that says why the question was not asked: a limit of the budget, where a replay ends too."""

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
"""Field -> its form, and how a message describes it."""


def with_defaults(line: Mapping[str, Any]) -> dict[str, Any]:
    """The entry with the fields that `line` leaves out; older recordings have longer keys."""
    entry = {**default_fields(line), **line}
    if isinstance(key := entry.get("key"), str):
        entry["key"] = key[:KEY_WIDTH]
    return entry


def default_fields(line: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry means by fields that it lacks; `audit.write` leaves these out."""
    defaults: dict[str, Any] = {"occurrence": 0, "lines": "", "finish_reason": "stop", "latency_secs": 0.0}
    model, text = line.get("model"), line.get("text")
    if line.get("backend", EMBEDDED) == EMBEDDED and isinstance(model, str) and isinstance(text, str):
        defaults |= {"backend": EMBEDDED, "provider_model": stand_in_name(model)}
        defaults |= {"completion_tokens": len(text) // CHARACTERS_PER_TOKEN}
    return defaults


def check_complete(entry: Mapping[str, Any]) -> None:
    """Refuse an entry, defaults included, without which a replay cannot answer.

    Raises:
        ValueError: fields are missing; the message names them.
    """
    require(entry, _wanted(entry))


def check_types(entry: Mapping[str, Any]) -> None:
    """Refuse a complete entry with a field that is not what it should be.

    Raises:
        ValueError: the message names the field.
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
    """False where a limit of the budget kept the question from being asked."""
    return REFUSED not in entry


def identity_of(entry: Mapping[str, Any]) -> Identity:
    """Which question of its run an entry is about."""
    return entry["key"], entry["occurrence"]


def reply_of(entry: Mapping[str, Any]) -> Reply:
    """The answer of an answered entry."""
    return Reply(**{name: entry[name] for name in _REPLY})


def common_prefix(a: str, b: str) -> int:
    """Number of leading lines of two questions whose digests agree; `a` and `b` are fields ``lines``."""
    count = 0
    while a[count * DIGEST_WIDTH : (count + 1) * DIGEST_WIDTH] == (
        b[count * DIGEST_WIDTH : (count + 1) * DIGEST_WIDTH] or None
    ):
        count += 1
    return count
