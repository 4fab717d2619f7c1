"""Untrusted text -> Proposal or typed Rejection.

Reasoning blocks and fences are dropped, the first JSON object is taken, names match exactly (case aside) against what
was offered. Nothing is guessed: ``gpt-4`` is not ``gpt-5.2``, and nothing is evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from colt_pipeline.records import Proposal, Rejection, Reply

_REASONING = re.compile(r"<(think|thinking|reasoning|thought)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_ORPHAN_CLOSE = re.compile(r"\A.*?</(think|thinking|reasoning|thought)>", re.DOTALL | re.IGNORECASE)
_MAX_TRANSFORMATIONS = 16
_SHOWN = 120


def parse(reply: Reply, transformations: Sequence[str], models: Sequence[str]) -> Proposal | Rejection:
    """The verdict on a reply, given the names on offer; `models` with one name means that no choice was asked for."""
    if reply.finish_reason == "content_filter":
        return Rejection("refusal", "the provider withheld the answer")
    text = _ORPHAN_CLOSE.sub("", _REASONING.sub("", reply.text)).strip()
    if not text:
        return Rejection("truncated" if reply.finish_reason == "length" else "empty", "no text outside of reasoning")
    found = _first_object(text)
    if found is None:
        kind = "truncated" if reply.finish_reason == "length" else "not_json"
        return Rejection(kind, f"no JSON object in {_short(text)}")
    names = found.get("transformations")
    if not isinstance(names, list) or not names:
        return Rejection("not_json", 'no list "transformations" with at least one name')
    known = {name.lower(): name for name in transformations}
    for name in names:
        if not isinstance(name, str) or name.strip().lower() not in known:
            return Rejection("unknown_transformation", f"{_short(name)} is not one of {', '.join(transformations)}")
    proposed = tuple(known[name.strip().lower()] for name in names[:_MAX_TRANSFORMATIONS])
    if len(models) == 1:
        return Proposal(proposed, models[0])
    advised = found.get("next_model")
    exact = {name.lower(): name for name in models}
    chosen = exact.get(advised.strip().lower()) if isinstance(advised, str) else None
    return Proposal(proposed, chosen, flaw=None if chosen else "unknown_model")


def _first_object(text: str) -> dict[str, Any] | None:
    """The first JSON object in `text`, fences and prose around it aside."""
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            value, _ = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            # On from where it broke: an object inside a broken one is not the answer.
            start = text.find("{", max(error.pos, start + 1))
            continue
        except RecursionError:
            return None
        return value if isinstance(value, dict) else None
    return None


def _short(value: object) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    quoted = ascii(shown[:_SHOWN])
    return quoted if len(quoted) <= _SHOWN else quoted[:_SHOWN] + "..."
