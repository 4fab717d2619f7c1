"""Recordings as files: find them, read them, say what is wrong with one, tell two apart, write one anew."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colt_pipeline.errors import RecordingError
from colt_pipeline.llm.cassette import LIMIT, common_prefix, usual, whole
from colt_pipeline.llm.client import DIGEST_WIDTH
from colt_pipeline.llm.redact import redacted
from colt_pipeline.records import KEY_WIDTH, canonical_json
from colt_pipeline.runs.jsonl import PACKED, unpacked
from colt_pipeline.runs.usage import Identity

NAME = "llm.jsonl"

Fault = tuple[int, str]
"""Number of a line, and what is wrong there."""

_QUESTION: dict[str, tuple[type, ...]] = {"key": (str,), "occurrence": (int,), "model": (str,), "lines": (str,)}
_REPLY: dict[str, tuple[type, ...]] = {
    **{name: (str,) for name in ("text", "finish_reason", "provider_model", "backend")},
    **{name: (int,) for name in ("prompt_tokens", "completion_tokens")},
    "latency_secs": (int, float),
}
_LIMIT: dict[str, tuple[type, ...]] = {LIMIT: (str,)}
_FORMS = {"key": re.compile(f"[0-9a-f]{{{KEY_WIDTH}}}"), "lines": re.compile(f"([0-9a-f]{{{DIGEST_WIDTH}}})*")}


@dataclass(frozen=True)
class Entry:
    """One line of a recording."""

    line: int
    size: int
    """Bytes of the line, unpacked."""
    fields: dict[str, Any]

    @property
    def identity(self) -> Identity:
        return self.fields["key"], self.fields["occurrence"]

    @property
    def answered(self) -> bool:
        """False where a limit of the budget kept the question from being asked."""
        return LIMIT not in self.fields

    @property
    def name(self) -> str:
        """The entry as a message names it."""
        key, occurrence = self.identity
        return f"{self.fields['model']!r}, question {key[:12]}, occurrence {occurrence}"


@dataclass(frozen=True)
class Recording:
    """The answers of one run."""

    path: Path
    entries: tuple[Entry, ...]
    broken: tuple[Fault, ...]
    """Lines that hold no entry."""

    @property
    def answers(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.answered]


def find(path: Path) -> list[Path]:
    """The recordings that `path` means: itself, or all below it; a packed one counts where it is not unpacked too.

    Raises:
        RecordingError: there are none.
    """
    if path.is_file():
        return [path]
    plain = set(path.rglob(NAME))
    packed = {found for found in path.rglob(NAME + PACKED) if found.with_name(NAME) not in plain}
    if not plain | packed:
        raise RecordingError(f"no {NAME} below {path}. Name a recording such as results/recordings/<device>/<run>.")
    return sorted(plain | packed)


def read(path: Path) -> Recording:
    """All lines of `path`, the broken ones apart.

    Raises:
        JournalError: the file cannot be read or unpacked.
    """
    entries: list[Entry] = []
    broken: list[Fault] = []
    for number, line in enumerate(unpacked(path).splitlines(keepends=True), start=1):
        found = _entry(line)
        if isinstance(found, str):
            broken.append((number, found))
        else:
            entries.append(Entry(number, len(line), found))
    return Recording(path, tuple(entries), tuple(broken))


def read_intact(path: Path) -> Recording:
    """As `read`.

    Raises:
        JournalError: the file cannot be read or unpacked.
        RecordingError: a line is broken.
    """
    recording = read(path)
    for number, what in recording.broken:
        raise RecordingError(f"{path}, line {number}: {what}; restore the file")
    return recording


def _entry(line: bytes) -> dict[str, Any] | str:
    """The entry, or why this is none."""
    if not line.endswith(b"\n"):
        return "is cut off"
    try:
        fields = json.loads(line)
    except ValueError as error:
        return f"is not valid JSON ({error})"
    if not isinstance(fields, dict):
        return f"is no JSON object but {type(fields).__name__}"
    fields = whole(fields)
    wanted = _QUESTION | (_LIMIT if LIMIT in fields else _REPLY)
    if missing := [name for name in wanted if name not in fields]:
        return f"lacks {', '.join(missing)}"
    for name, types in wanted.items():
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, types):
            return f"{name} is of type {type(value).__name__}"
        if isinstance(value, int | float) and not value >= 0:
            return f"{name} is {value}"
        if name in _FORMS and not _FORMS[name].fullmatch(str(value)):
            return f"{name} is no {_FORMS[name].pattern}"
    return fields


def faults(recording: Recording) -> list[Fault]:
    """All that is wrong with a recording, by line."""
    return sorted([*recording.broken, *(fault for check in _CHECKS for fault in check(recording.entries))])


def _repeated(entries: Sequence[Entry]) -> Iterator[Fault]:
    seen: dict[Identity, Entry] = {}
    for entry in entries:
        before = seen.get(entry.identity)
        if before is not None and before.answered:
            yield entry.line, f"{entry.name} is already answered in line {before.line}"
        seen[entry.identity] = entry


def _gaps(entries: Sequence[Entry]) -> Iterator[Fault]:
    known = {entry.identity for entry in entries}
    for entry in entries:
        key, occurrence = entry.identity
        if occurrence and (key, occurrence - 1) not in known:
            yield entry.line, f"{entry.name}: occurrence {occurrence - 1} is absent"


def _credentials(entries: Sequence[Entry]) -> Iterator[Fault]:
    for entry in entries:
        # What is found is not shown: a finding may end in a log.
        for name, value in entry.fields.items():
            if isinstance(value, str) and redacted(value) != value:
                yield entry.line, f"{name} holds what looks like a credential"


def _backends(entries: Sequence[Entry]) -> Iterator[Fault]:
    first: dict[str, Entry] = {}
    for entry in entries:
        if not entry.answered:
            continue
        model, backend = entry.fields["model"], entry.fields["backend"]
        before = first.setdefault(model, entry)
        if before.fields["backend"] != backend:
            yield entry.line, f"{backend!r} answers for {model!r}, in line {before.line} {before.fields['backend']!r}"


_CHECKS: tuple[Callable[[Sequence[Entry]], Iterator[Fault]], ...] = (
    _repeated,
    _gaps,
    _credentials,
    _backends,
)


def differences(a: Recording, b: Recording) -> list[str]:
    """Which answers differ, one line each; then where the questions part."""
    first, second = ({entry.identity: entry for entry in recording.answers} for recording in (a, b))
    lines = []
    for identity in {**first, **second}:
        one, two = first.get(identity), second.get(identity)
        if one is None or two is None:
            (path, entry) = (b.path, two) if one is None else (a.path, one)
            assert entry is not None
            lines.append(f"only in {path}, line {entry.line}: {entry.name}")
        elif any(one.fields[name] != two.fields[name] for name in ("text", "finish_reason")):
            lines.append(f"another answer in {a.path}, line {one.line}, and {b.path}, line {two.line}: {one.name}")
    parting = next(((x, y) for x, y in zip(a.answers, b.answers, strict=False) if x.identity != y.identity), None)
    return lines if parting is None else [*lines, _parting(a, b, *parting)]


def _parting(a: Recording, b: Recording, one: Entry, two: Entry) -> str:
    head = f"the questions part in {a.path}, line {one.line}, and {b.path}, line {two.line}: "
    ours, theirs = one.fields["lines"], two.fields["lines"]
    if not ours or not theirs:
        return head + "which line of the messages differs cannot be told, for the questions were pruned"
    if ours == theirs:
        return head + "the messages are the same; occurrence, model or sampling parameters differ"
    return head + f"their messages differ from line {common_prefix(ours, theirs) + 1} on"


def write(path: Path, entries: Iterable[dict[str, Any]]) -> int:
    """Write a recording, whole or not at all, packed if `path` says so, without what is usual; returns its bytes.

    Equal entries give equal bytes.

    Raises:
        RecordingError: the directory is unwritable or the disk full.
    """
    short = (dict(entry.items() - usual(entry).items()) for entry in entries)
    data = "".join(canonical_json(entry) + "\n" for entry in short).encode()
    if path.suffix == PACKED:
        packed = io.BytesIO()
        with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file:
            file.write(data)
        data = packed.getvalue()
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise RecordingError(f"cannot write {path}: {error.strerror}; what was there is intact") from error
    return len(data)
