"""Credentials out of texts, before anything of them reaches a question's key, a recording or a provider.

What goes follows from the text alone, so that a replay asks the same questions everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

REDACTED = "[redacted]"
SHORTEST = 8
"""Characters of the shortest secret that `scrub` looks for: shorter ones are placeholders such as ``none``."""

# The kinds that begin with ordinary syllables or names must hold a digit: "task-dependent-..." is not a key.
_WITH_DIGIT = r"(?=[\w.~+/=-]*\d)"
_NAME = r"(?:api|access|private|secret)[_-]?key|token|secret|password|passwd|credentials?"

# Name -> (signs, one of which every match holds, whatever its case; what stays before the credential; the credential).
# No credential starts at a word boundary only, for escaped text glues letters to it ("\nsk-..."); and none but the last
# holds a bracket, so that nothing is found in what was redacted.
_PATTERNS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "OpenAI": (("sk-",), "", r"sk-(?=[\w-]*\d)[\w-]{20,}"),
    "bearer": (("bearer",), r"bearer[\s\\]+", r"[\w.~+/=-]{16,}"),
    "Hugging Face": (("hf_",), "", r"hf_(?=[a-z0-9]*\d)[a-z0-9]{20,}"),
    "NVIDIA": (("nvapi-",), "", r"nvapi-(?=[\w-]*\d)[\w-]{20,}"),
    "GitHub": (
        ("ghp_", "gho_", "ghu_", "ghr_", "ghs_", "github_pat_"),
        "",
        r"(?:gh[pousr]_[a-z0-9]{20,}|github_pat_\w{20,})",
    ),
    "AWS": (("akia", "asia"), "", r"(?-i:A[KS]IA[0-9A-Z]{16,})"),
    "JSON Web Token": (("eyj",), "", r"(?-i:eyJ)[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]+)?"),
    "assignment": (
        ("key", "token", "secret", "passw", "credential"),
        rf"(?:{_NAME})[\\\"']*\s*[:=]\s*[\\\"']*",
        rf"{_WITH_DIGIT}[\w.~+/=-]{{16,}}",
    ),
    "private key": (
        ("private key",),
        "",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|[\w+/=\\\s]*)",
    ),
}

# Within a lookahead, so that a match may begin inside another one.
_COMPILED = tuple(
    (signs, re.compile(f"(?={stays}({goes}))", re.ASCII | re.IGNORECASE | re.DOTALL))
    for signs, stays, goes in _PATTERNS.values()
)


def redacted(text: str) -> str:
    """`text` with all that looks like a credential replaced by REDACTED."""
    return _without(text, _possible(text))


def scrub(text: str, secrets: Iterable[str]) -> str:
    """`redacted`, without these exact values too; those shorter than SHORTEST are left alone."""
    known = (re.compile(f"(?=({re.escape(secret)}))") for secret in secrets if len(secret) >= SHORTEST)
    return _without(text, (*_possible(text), *known))


def _possible(text: str) -> list[re.Pattern[str]]:
    """The expressions that may match: looking for a literal first takes a tenth of the time, and few texts hold one."""
    small = text.lower()
    return [pattern for signs, pattern in _COMPILED if any(sign in small for sign in signs)]


def _without(text: str, patterns: Iterable[re.Pattern[str]]) -> str:
    """All matches are sought in the text as it came: one that another overlaps is not cut in two."""
    parts: list[str] = []
    end = 0
    for start, stop in sorted(match.span(1) for pattern in patterns for match in pattern.finditer(text)):
        if start > end or not parts:
            parts += [text[end:start], REDACTED]
        end = max(end, stop)
    return "".join([*parts, text[end:]])
