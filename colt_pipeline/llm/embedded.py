"""Embedded stand-ins: they take the place of LLMs offline, and show nothing about any real LLM.

A stand-in sees only the prompt text and answers with text, deterministically in (model, messages, occurrence). Two
things follow from its parameter count n (billions):

- how often its answer contains no valid proposal: 0.172 (7/n)^3, at most one half. This cubic passes near the rates
  reported for the authors' own models (17.2 % at 7B, 10.5 % at 8B, 0.17 % at 32B) and is negligible above;
- its skill, ln n / ln 300 in [0, 1]: the probability that it follows a sensible rule (those in knowledge.py or, for
  register tiles, that share of those in blocking.py, if the prompt asks for decisions) instead of drawing at random.

Token counts are estimates (characters / 4); latency is zero, because no model ran.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from colt_pipeline.llm import blocking
from colt_pipeline.llm.client import CHARACTERS_PER_TOKEN, Question, stand_in_name
from colt_pipeline.llm.knowledge import RULES, Plan, nests, plan
from colt_pipeline.records import EMBEDDED, ModelSpec, Reply
from colt_pipeline.serialization import canonical_json

_SKILLED_AT_B = 300.0
_BROKEN_AT_7B = 0.172
_LARGEST_SHARE = 0.2
_TILE_WEIGHT = 4.0
_OPEN_SHARE = 0.5

Entry = str | dict[str, object]
"""An entry in an answer's list of transformations."""


def broken_rate(parameters_b: float) -> float:
    """Share of answers without a valid proposal."""
    return min(0.5, _BROKEN_AT_7B * (7.0 / parameters_b) ** 3)


def skill(parameters_b: float) -> float:
    """Probability of following a rule, 0 at 1B to 1 at 300B."""
    return min(1.0, max(0.0, math.log(parameters_b) / math.log(_SKILLED_AT_B)))


@dataclass(frozen=True)
class _Candidate:
    name: str
    parameters_b: float
    calls: int
    hit_rate: float
    errors: int


class EmbeddedClient:
    """All stand-ins; a model's parameter count determines its behaviour."""

    def complete(self, question: Question, occurrence: int) -> Reply:
        model, messages = question.model, question.messages
        identity = canonical_json([model.name, list(messages), occurrence])
        seed = hashlib.sha256(identity.encode()).digest()
        text = _answer(model, "\n".join(m["content"] for m in messages), np.random.default_rng(list(seed)))
        characters = sum(len(m["content"]) for m in messages)
        return Reply(
            text=text,
            finish_reason="stop",
            prompt_tokens=characters // CHARACTERS_PER_TOKEN,
            completion_tokens=len(text) // CHARACTERS_PER_TOKEN,
            latency_secs=0.0,
            provider_model=stand_in_name(model.name),
            backend=EMBEDDED,
        )


def _answer(model: ModelSpec, prompt: str, rng: np.random.Generator) -> str:
    offered = _offered(prompt)
    candidates = _candidates(prompt)
    able = skill(model.parameters_b)
    answer: dict[str, object] = {"transformations": _transformations(prompt, offered, able, rng)}
    if candidates:
        answer["next_model"] = _next_model(candidates, able, rng)
    broken = rng.random() < broken_rate(model.parameters_b)
    text = json.dumps(answer)
    if broken:
        return _break(text, offered, rng)
    if candidates and rng.random() < broken_rate(model.parameters_b):
        return json.dumps({**answer, "next_model": "a-larger-model"})
    if rng.random() < (1 - able) / 2:
        return f"Looking at the scores, I would try this next:\n```json\n{text}\n```\nIt should help."
    return text


def _offered(prompt: str) -> list[str]:
    listed = re.findall(r"^Available transformations: (.+)$", prompt, re.MULTILINE)
    if listed:  # a prompt of search.legacy
        return str(listed[0]).split(", ")
    section = prompt.split("## Transformations\n")[1].split("\n\n")[0]
    missing = ", ".join(re.findall(r"^Without a place in it: (.+)$", prompt, re.MULTILINE)).split(", ")
    return [name for name in re.findall(r"^- (\S+):", section, re.MULTILINE) if name not in missing]


def _fell(prompt: str) -> bool:
    """Whether the current program scores lower than its parent."""
    scores = [float(s) for s in re.findall(r"^Predicted score: ([0-9.eE+-]+)$", prompt, re.MULTILINE)]
    if len(scores) > 1:  # a prompt of search.legacy
        return scores[0] < scores[1]
    return re.search(r"^Predicted score: \S+, \S+ below its parent's", prompt, re.MULTILINE) is not None


def _break(text: str, offered: Sequence[str], rng: np.random.Generator) -> str:
    """One of the ways in which small models fail: truncated JSON, an invented name, or only prose."""
    invented = json.dumps({"transformations": ["LoopFusion", *offered[:1]]})
    return (text[: len(text) // 2], invented, f"I suggest {offered[0]} first, then measure again.")[
        int(rng.integers(3))
    ]


def _transformations(prompt: str, offered: list[str], able: float, rng: np.random.Generator) -> list[Entry]:
    """By rule if the prompt lists sites or shows what is missing; otherwise random names."""
    if rng.random() >= able:
        return [offered[i] for i in rng.integers(len(offered), size=int(rng.integers(1, 6)))]
    fell = _fell(prompt)
    decided = _decisions(prompt, fell, rng) or _blocking(prompt, offered, able, fell, rng)
    return decided or _names(prompt, offered, fell, rng)


def _decisions(prompt: str, fell: bool, rng: np.random.Generator) -> list[Entry]:
    """Plan tiled blocks by rule: all rules at the start and after a drop in score, a few after a rise."""
    found = nests(prompt)
    fresh = "\nLeaf depth: 1\n" in prompt
    if not fresh and found:
        found = [found[int(rng.integers(len(found)))]]
    decided: Plan = {}
    for nest in found:
        few = set(rng.choice(len(RULES), size=int(rng.integers(1, 4)), replace=False))
        rules = RULES if fresh or fell else [rule for number, rule in enumerate(RULES) if number in few]
        decided |= plan(nest, rules, rng)
    return list(_entries(decided))


def _blocking(prompt: str, offered: list[str], able: float, fell: bool, rng: np.random.Generator) -> list[Entry]:
    """Plan register tiles by rule: by all known rules at the start and after a drop in score, otherwise by one or two.

    A small change may end with an open one, because rules that narrow the choice soon repeat themselves.
    """
    kernel = blocking.read(prompt)
    if kernel is None:
        return []
    rules, fresh = blocking.rules_of(able), "\nLeaf depth: 1\n" in prompt
    if not (fresh or fell):
        few = rng.choice(len(rules), size=min(len(rules), int(rng.integers(1, 3))), replace=False)
        rules = [rule for number, rule in enumerate(rules) if number in few]
    entries: list[Entry] = [e for e in _entries(blocking.plan(kernel, rules, rng)) if e["name"] in offered]
    if "TileSize" in offered and not fresh and rng.random() < _OPEN_SHARE:
        entries.append("TileSize")
    return entries


def _entries(decided: Plan) -> list[dict[str, object]]:
    names = {"unroll": "Unroll", "parallel": "Parallel"}
    return [
        {"name": names.get(label, "TileSize"), "site": label, "decision": d if "." in label else d[0]}
        for label, d in decided.items()
    ]


def _names(prompt: str, offered: list[str], fell: bool, rng: np.random.Generator) -> list[Entry]:
    """Get the structure right first, then refine tiles; change much after a drop in score, little after a rise."""
    code = re.split(r"\n## (?:Parent|Tried)", prompt.split("\n## Current program\n")[1])[0]
    chosen: list[Entry] = []
    if "T.parallel" not in code and "Parallel" in offered:
        chosen.append("Parallel")
    if "pragma_auto_unroll_max_step" not in code and "Unroll" in offered:
        chosen.append("Unroll")
    weights = np.array([_TILE_WEIGHT if name == "TileSize" else 1.0 for name in offered])
    count = int(rng.integers(3, 5) if fell else rng.integers(1, 3))
    return chosen + [offered[i] for i in rng.choice(len(offered), size=count, p=weights / weights.sum())]


def _candidates(prompt: str) -> list[_Candidate]:
    line = r"^(\S+): parameters=([0-9.]+)B, calls=(\d+), hit_rate=([0-9.]+), errors=(\d+)"
    return [
        _Candidate(name, float(n), int(calls), float(rate), int(errors))
        for name, n, calls, rate, errors in re.findall(line, prompt, re.MULTILINE)
    ]


def _next_model(candidates: list[_Candidate], able: float, rng: np.random.Generator) -> str:
    """By rule: a fifth of the time the largest, else an untried model, else the smallest good and reliable one."""
    if rng.random() >= able:
        return candidates[int(rng.integers(len(candidates)))].name
    by_size = sorted(candidates, key=lambda c: c.parameters_b)
    if rng.random() < _LARGEST_SHARE:
        return by_size[-1].name
    untried = [c for c in by_size if c.calls == 0]
    if untried:
        return untried[0].name
    typical = float(np.median([c.hit_rate for c in by_size]))
    good = [c for c in by_size if c.hit_rate >= typical and c.errors <= 0.15 * c.calls]
    return (good or by_size)[0].name
