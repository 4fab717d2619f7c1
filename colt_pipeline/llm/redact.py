"""Credentials out of texts, before anything of them reaches a question's key, a recording or a provider.

What goes follows from the text alone, so that a replay asks the same questions everywhere. Texts come from servers, so
time is linear in their length, whatever they hold: no run of characters is read once per prefix inside it.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator

REDACTED = "[redacted]"
SHORTEST = 8
"""Characters of the shortest secret that `scrub` looks for: shorter ones are placeholders such as ``none``."""

Span = tuple[int, int]
_Search = Callable[[str], Iterator[Span]]

_FLAGS = re.ASCII | re.IGNORECASE
_NAME = r"(?:api|access|private|secret)[_-]?key|token|secret|password|passwd|credentials?"


def _run(
    before: str, characters: str, least: int, *, digit: bool = False, after: str = "", keep: bool = False
) -> _Search:
    """A search for credentials that extend as far as their characters do.

    Args:
        before: what a credential follows, or begins with.
        characters: the class of its other characters.
        least: the fewest of these.
        digit: whether one must be a digit: with ordinary syllables before them, "task-dependent-..." is not a key.
        after: what must follow them, and belongs to the credential.
        keep: whether `before` stays.
    """
    prefix, rest = re.compile(before, _FLAGS), re.compile(after, _FLAGS)
    run = re.compile(rf"(?:{characters}*[0-9])?(){characters}*+", _FLAGS)

    def search(text: str) -> Iterator[Span]:
        end = last_digit = 0
        ending: re.Match[str] | None = None
        for found in prefix.finditer(text):
            start = found.end()
            # Another prefix inside the same run: what it leads to ends in the same place.
            if start >= end and (whole := run.match(text, start)):
                end, last_digit = whole.end(), whole.start(1)
                ending = rest.match(text, end)
            if ending and end - start >= least and (not digit or last_digit > start):
                yield start if keep else found.start(), ending.end()

    return search


_PEM_BEGIN = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----", _FLAGS)
_PEM_END = re.compile(r"(?=(-----END [A-Z ]*PRIVATE KEY-----))", _FLAGS)  # the dashes of one may begin the next
_PEM_CUT = re.compile(r"[\w+/=\\\s]*+", _FLAGS)


def _private_keys(text: str) -> Iterator[Span]:
    """Private keys as in PEM files; one that is cut off goes as far as its characters do."""
    ends = [found.span(1) for found in _PEM_END.finditer(text)]
    starts = [start for start, _ in ends]
    for begin in _PEM_BEGIN.finditer(text):
        nearest = bisect_left(starts, begin.end())
        cut = _PEM_CUT.match(text, begin.end())
        yield begin.start(), ends[nearest][1] if nearest < len(ends) else cut.end() if cut else begin.end()


# Name -> (signs, one of which every match holds, whatever its case; how to find them). No credential starts at a word
# boundary only, for escaped text glues letters to it ("\nsk-..."); and none but the last holds a bracket, so that
# nothing is found in what was redacted.
_KINDS: dict[str, tuple[tuple[str, ...], _Search]] = {
    "OpenAI": (("sk-",), _run("sk-", r"[\w-]", 20, digit=True)),
    "bearer": (("bearer",), _run(r"bearer[\s\\]++", r"[\w.~+/=-]", 16, keep=True)),
    "Hugging Face": (("hf_",), _run("hf_", "[a-z0-9]", 20, digit=True)),
    "NVIDIA": (("nvapi-",), _run("nvapi-", r"[\w-]", 20, digit=True)),
    "GitHub": (("ghp_", "gho_", "ghu_", "ghr_", "ghs_"), _run("gh[pousr]_", "[a-z0-9]", 20)),
    "GitHub, fine-grained": (("github_pat_",), _run("github_pat_", r"\w", 20)),
    "AWS": (("akia", "asia"), _run("(?-i:A[KS]IA)", "(?-i:[0-9A-Z])", 16)),
    "JSON Web Token": (("eyj",), _run("(?-i:eyJ)", r"[\w-]", 8, after=r"\.[\w-]{8,}+(?:\.[\w-]++)?")),
    "assignment": (
        ("key", "token", "secret", "passw", "credential"),
        _run(rf"(?:{_NAME})[\\\"']*+\s*+[:=]\s*+[\\\"']*+", r"[\w.~+/=-]", 16, digit=True, keep=True),
    ),
    "private key": (("private key",), _private_keys),
}


def redacted(text: str) -> str:
    """`text` with all that looks like a credential replaced by REDACTED."""
    return _without(text, _found(text))


def scrub(text: str, secrets: Iterable[str]) -> str:
    """`redacted`, without these exact values too; those shorter than SHORTEST are left alone."""
    known = (re.compile(f"(?=({re.escape(secret)}))") for secret in secrets if len(secret) >= SHORTEST)
    exact = (found.span(1) for pattern in known for found in pattern.finditer(text))
    return _without(text, (*_found(text), *exact))


def _found(text: str) -> Iterator[Span]:
    """Where credentials stand: looking for a literal first takes a tenth of the time, and few texts hold one."""
    small = text.lower()
    for signs, search in _KINDS.values():
        if any(sign in small for sign in signs):
            yield from search(text)


def _without(text: str, spans: Iterable[Span]) -> str:
    """All were sought in the text as it came: one that another overlaps is not cut in two."""
    parts: list[str] = []
    end = 0
    for start, stop in sorted(spans):
        if start > end or not parts:
            parts += [text[end:start], REDACTED]
        end = max(end, stop)
    return "".join([*parts, text[end:]])
