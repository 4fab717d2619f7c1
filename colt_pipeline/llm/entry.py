"""One line of ``llm.jsonl``: its fields, their defaults, and its checks.

A question is stored as its key and digests of its lines, an answer verbatim. Instead of an answer, an entry may hold
the budget limit that kept the question from being asked. Fields with default values may be omitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

from msgspec import Meta

from colt_pipeline.llm.client import CHARACTERS_PER_TOKEN, DIGEST_WIDTH, stand_in_name
from colt_pipeline.records import EMBEDDED, Reply
from colt_pipeline.runs.usage import Identity
from colt_pipeline.serialization import KEY_WIDTH, Count, typed

REFUSED = "limit"
"""Field with the budget limit that kept the question from being asked; a replay ends there too."""


class _Question(TypedDict):
    key: Annotated[str, Meta(pattern=rf"\A[0-9a-f]{{{KEY_WIDTH}}}\Z")]
    occurrence: Count
    model: str
    lines: Annotated[str, Meta(pattern=rf"\A([0-9a-f]{{{DIGEST_WIDTH}}})*\Z")]


class _Refusal(TypedDict):
    limit: str


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


def read_entry(line: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a line, with defaults filled in.

    Raises:
        ValueError: a field is missing or invalid; the message names it.
    """
    entry = with_defaults(line)
    typed(_Question, entry)
    reply = typed(Reply if is_answered(entry) else _Refusal, entry)
    if isinstance(reply, Reply) and reply.cached_tokens > reply.prompt_tokens:
        raise ValueError(f"cached_tokens: {reply.cached_tokens}, more than the {reply.prompt_tokens} of the prompt")
    return entry


def is_answered(entry: Mapping[str, Any]) -> bool:
    """False if a budget limit kept the question from being asked."""
    return REFUSED not in entry


def identity_of(entry: Mapping[str, Any]) -> Identity:
    """Which of the run's questions an entry answers."""
    return entry["key"], entry["occurrence"]


def reply_of(entry: Mapping[str, Any]) -> Reply:
    """The answer of an answered entry."""
    return typed(Reply, entry)


def common_prefix(a: str, b: str) -> int:
    """Number of leading lines that two questions share, given their ``lines`` fields."""
    count = 0
    while a[count * DIGEST_WIDTH : (count + 1) * DIGEST_WIDTH] == (
        b[count * DIGEST_WIDTH : (count + 1) * DIGEST_WIDTH] or None
    ):
        count += 1
    return count
