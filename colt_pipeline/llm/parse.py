"""Untrusted text -> Proposal or typed Rejection.

Reasoning, fences and prose are dropped, the last JSON object with transformations is taken, and names must match what
was offered exactly (ignoring case). Nothing is guessed: ``gpt-4`` is not ``gpt-5.2``, broken JSON is not repaired,
Python's quoting is not JSON, nothing is evaluated. Parsing takes time linear in the length of the text.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Iterator, Sequence
from typing import Any

from colt_pipeline.llm.client import TRANSPORT
from colt_pipeline.records import Edit, Proposal, Rejection, Reply, Site

_REASONING: tuple[tuple[str, str], ...] = (
    *((f"<{tag}>", f"</{tag}>") for tag in ("think", "thinking", "reasoning", "thought", "seed:think")),
    (r"\[THINK\]", r"\[/THINK\]"),  # Mistral
    ("◁think▷", "◁/think▷"),  # Kimi
    (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Cohere
    (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker
    # Harmony, the format of gpt-oss: all that comes before the message in the channel "final".
    (
        r"<\|channel\|>\s{0,9}(?:analysis|commentary)",
        r"<\|channel\|>\s{0,9}final[^<]{0,99}(?:<\|constrain\|>[^<]{0,99})?<\|message\|>",
    ),
)
"""How reasoning begins and ends in the texts of servers that do not part it from the answer."""

_FLAGS = re.DOTALL | re.IGNORECASE
_CLOSED_OR_CUT = re.compile("|".join(f"{begin}.*?(?:{end}|\\Z)" for begin, end in _REASONING), _FLAGS)
_UNOPENED = re.compile(rf"\A.*(?:{'|'.join(end for _, end in _REASONING)})", _FLAGS)
_OBJECT = re.compile(r"""\{\s*+["'}]""")
_BRACE = re.compile(r"[{}]")
_INVISIBLE = string.whitespace + "\ufeff\0"
_LONGEST_END = 1 << 17
"""Characters that are read at each end of a longer text: reasoning may open at one, the answer stands at the other."""
_MOST_BROKEN = 1000
"""Broken objects after which the search ends: each costs a pass through the text."""
_MOST_DIGITS = 18
"""Most digits of an integer decision; Python refuses to parse thousands of them."""
_SHOWN = 120

MAX_TRANSFORMATIONS = 16
"""Entries of an answer's list that are read; further ones are ignored."""


def parse(
    reply: Reply, transformations: Sequence[str], models: Sequence[str], sites: Sequence[Site] = ()
) -> Proposal | Rejection:
    """The verdict on a reply.

    Args:
        reply: the raw answer.
        transformations: the names on offer.
        models: the models on offer; a single one means that no choice was asked for.
        sites: where decisions may be given; without any, transformations are bare names.
    """
    if reply.finish_reason == TRANSPORT:
        return Rejection("transport", reply.text)
    if reply.finish_reason == "content_filter":
        return Rejection("refusal", "the provider withheld the answer")
    text = reply.text
    if len(text) > 2 * _LONGEST_END:
        text = text[:_LONGEST_END] + text[-_LONGEST_END:]
    text = _UNOPENED.sub("", _CLOSED_OR_CUT.sub("", text)).strip(_INVISIBLE)
    cut = reply.finish_reason == "length"
    if not text:
        return Rejection("truncated" if cut else "empty", "no text outside of reasoning")
    found = _answer(text)
    if found is None:
        return Rejection("truncated" if cut else "not_json", f"no JSON object in {_short(text)}")
    names = found.get("transformations")
    if not isinstance(names, list) or not names:
        before_the_cut = cut and "transformations" not in found
        return Rejection(
            "truncated" if before_the_cut else "not_json", 'no list "transformations" with at least one name'
        )
    proposed = []
    for item in names[:MAX_TRANSFORMATIONS]:
        edit = _edit(item, transformations, sites)
        if isinstance(edit, Rejection):
            return edit
        proposed.append(edit)
    if len(models) == 1:
        return Proposal(tuple(proposed), models[0])
    advised = found.get("next_model")
    exact = {name.lower(): name for name in models}
    chosen = exact.get(advised.strip().lower()) if isinstance(advised, str) else None
    return Proposal(tuple(proposed), chosen, flaw=None if chosen else "unknown_model")


def _edit(item: object, transformations: Sequence[str], sites: Sequence[Site]) -> Edit | Rejection:
    """One entry of the list: a name or, if sites are on offer, an object with name, site and decision."""
    known = {name.lower(): name for name in transformations}
    given = item.get("name") if isinstance(item, dict) and sites else item
    name = known.get(given.strip().lower()) if isinstance(given, str) else None
    if name is None:
        return Rejection("unknown_transformation", f"{_short(item)} is not one of {', '.join(transformations)}")
    if not isinstance(item, dict) or not {"site", "decision"} & item.keys():
        return Edit(name)
    label, decision = item.get("site"), item.get("decision")
    site = next((s for s in sites if s.label == label and s.transformation == name), None)
    if site is None:
        offered = ", ".join(s.label for s in sites if s.transformation == name) or "none"
        return Rejection("bad_decision", f"site {_short(label)} of {name} is not one of {offered}")
    numbers: list[Any] = decision if isinstance(decision, list) else [decision]
    if not numbers or not all(type(number) is int for number in numbers):
        return Rejection("bad_decision", f"{name} at {site.label}: {_short(decision)} must be whole numbers")
    if violation := site.violation(tuple(numbers)):
        return Rejection("bad_decision", f"{name} at {site.label}: {_short(decision)} {violation}")
    return Edit(name, site, tuple(numbers))


def _answer(text: str) -> dict[str, Any] | None:
    """The last object in `text` with transformations; if none has any, the first object; None if there is none."""
    answer = None
    for found in _objects(text):
        if answer is None or "transformations" in found:
            answer = found
    return answer


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects in `text`, in their order.

    Braces that do not begin with a quoted key are prose, LaTeX or code, and what they enclose is searched. A broken
    object is skipped as a whole: an object nested inside it is a part of the answer, not the answer.
    """
    decoder = json.JSONDecoder(parse_int=_whole)
    ends: dict[int, int] | None = None
    position = broken = 0
    while broken < _MOST_BROKEN and (brace := _OBJECT.search(text, position)):
        start = brace.start()
        try:
            value, position = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            position = error.pos
        except RecursionError:
            position = start
        else:
            yield value
            continue
        broken += 1
        ends = _ends(text) if ends is None else ends
        if position == start and start not in ends:
            return  # nested too deeply, and never closed
        position = max(position, ends.get(start, start) + 1)


def _ends(text: str) -> dict[int, int]:
    """Position of each opening brace that is closed -> position of its closing brace."""
    ends = {}
    opened = []
    for brace in _BRACE.finditer(text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif opened:
            ends[opened.pop()] = brace.start()
    return ends


def _whole(digits: str) -> float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def _short(value: object) -> str:
    try:
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        shown = "something nested too deeply"
    quoted = ascii(shown[:_SHOWN])
    return quoted if len(quoted) <= _SHOWN else quoted[:_SHOWN] + "..."
