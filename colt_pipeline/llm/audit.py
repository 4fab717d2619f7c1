"""Cassettes as files: find, read, check, compare and rewrite them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from colt_pipeline.errors import RecordingError
from colt_pipeline.llm.entry import (
    common_prefix,
    default_fields,
    identity_of,
    is_answered,
    read_entry,
)
from colt_pipeline.llm.redact import redacted
from colt_pipeline.runs.jsonl import PACKED, unpacked
from colt_pipeline.runs.layout import ANSWERS
from colt_pipeline.runs.rundir import write_bytes
from colt_pipeline.runs.usage import Identity
from colt_pipeline.serialization import canonical_json, strict_json

Finding = tuple[int, str]
"""Line number and what is wrong there."""


@dataclass(frozen=True)
class Entry:
    """One line of a cassette."""

    line: int
    size: int
    """Bytes of the uncompressed line."""
    fields: dict[str, Any]

    @property
    def identity(self) -> Identity:
        return identity_of(self.fields)

    @property
    def answered(self) -> bool:
        """False if a budget limit kept the question from being asked."""
        return is_answered(self.fields)

    @property
    def name(self) -> str:
        """How messages refer to the entry."""
        key, occurrence = self.identity
        return f"{self.fields['model']!r}, question {key[:12]}, occurrence {occurrence}"


@dataclass(frozen=True)
class CassetteFile:
    """The answers of one run as stored on disk."""

    path: Path
    entries: tuple[Entry, ...]
    broken: tuple[Finding, ...]
    """Lines that are not valid entries."""

    @property
    def answers(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.answered]


def find(path: Path, required: bool = True) -> list[Path]:
    """The cassette at `path`, or all cassettes below it; a compressed one is skipped if it also exists uncompressed.

    Raises:
        RecordingError: there are none, and they are `required`.
    """
    if path.is_file() and (required or path.name.startswith(ANSWERS)):
        return [path]
    plain = set(path.rglob(ANSWERS))
    packed = {found for found in path.rglob(ANSWERS + PACKED) if found.with_name(ANSWERS) not in plain}
    if required and not plain | packed:
        raise RecordingError(
            f"no {ANSWERS} below {path}; name a recording such as results/recordings/<device>/<experiment>/<run>"
        )
    return sorted(plain | packed)


def read(path: Path) -> CassetteFile:
    """All lines of `path`, with invalid ones kept apart.

    Raises:
        JournalError: the file cannot be read or decompressed.
    """
    entries: list[Entry] = []
    broken: list[Finding] = []
    for number, line in enumerate(unpacked(path).splitlines(keepends=True), start=1):
        try:
            entries.append(Entry(number, len(line), _entry(line)))
        except ValueError as error:
            broken.append((number, str(error)))
    return CassetteFile(path, tuple(entries), tuple(broken))


def read_intact(path: Path) -> CassetteFile:
    """Like `read`, but without tolerating invalid lines.

    Raises:
        JournalError: the file cannot be read or decompressed.
        RecordingError: a line is invalid.
    """
    cassette = read(path)
    for number, what in cassette.broken:
        raise RecordingError(f"{path}, line {number}: {what}; restore the file")
    return cassette


def _entry(line: bytes) -> dict[str, Any]:
    """The entry in a line.

    Raises:
        ValueError: the line is not a valid entry; the message says why.
    """
    if not line.endswith(b"\n"):
        raise ValueError("is truncated")
    try:
        fields = strict_json(line)
    except ValueError as error:
        raise ValueError(f"is not valid JSON ({error})") from error
    if not isinstance(fields, dict):
        raise ValueError(f"is a JSON {type(fields).__name__}, not an object")
    return read_entry(fields)


def findings(cassette: CassetteFile) -> list[Finding]:
    """Everything that is wrong with a cassette, sorted by line."""
    return sorted([*cassette.broken, *(found for check in _CHECKS for found in check(cassette.entries))])


def _repeated(entries: Sequence[Entry]) -> Iterator[Finding]:
    seen: dict[Identity, Entry] = {}
    for entry in entries:
        before = seen.get(entry.identity)
        if before is not None and before.answered:
            yield entry.line, f"{entry.name} is already answered in line {before.line}"
        seen[entry.identity] = entry


def _gaps(entries: Sequence[Entry]) -> Iterator[Finding]:
    known = {entry.identity for entry in entries}
    for entry in entries:
        key, occurrence = entry.identity
        if occurrence and (key, occurrence - 1) not in known:
            yield entry.line, f"{entry.name}: occurrence {occurrence - 1} is missing"


def _credentials(entries: Sequence[Entry]) -> Iterator[Finding]:
    for entry in entries:
        # Never show the match itself: a finding may end up in a log.
        for name, value in entry.fields.items():
            if isinstance(value, str) and redacted(value) != value:
                yield entry.line, f"{name} contains what looks like a credential"


def _backends(entries: Sequence[Entry]) -> Iterator[Finding]:
    first: dict[str, Entry] = {}
    for entry in entries:
        if not entry.answered:
            continue
        model, backend = entry.fields["model"], entry.fields["backend"]
        before = first.setdefault(model, entry)
        if before.fields["backend"] != backend:
            other = before.fields["backend"]
            yield entry.line, f"{backend!r} answers for {model!r}, but {other!r} does in line {before.line}"


_CHECKS: tuple[Callable[[Sequence[Entry]], Iterator[Finding]], ...] = (
    _repeated,
    _gaps,
    _credentials,
    _backends,
)


def differences(a: CassetteFile, b: CassetteFile) -> list[str]:
    """Which answers differ, one line each; then where the questions diverge."""
    first, second = ({entry.identity: entry for entry in cassette.answers} for cassette in (a, b))
    lines = []
    for identity in {**first, **second}:
        one, two = first.get(identity), second.get(identity)
        if one is None or two is None:
            (path, entry) = (b.path, two) if one is None else (a.path, one)
            assert entry is not None
            lines.append(f"only in {path}, line {entry.line}: {entry.name}")
        elif any(one.fields[name] != two.fields[name] for name in ("text", "finish_reason")):
            lines.append(f"different answers in {a.path}, line {one.line}, and {b.path}, line {two.line}: {one.name}")
    parting = next(((x, y) for x, y in zip(a.answers, b.answers, strict=False) if x.identity != y.identity), None)
    return lines if parting is None else [*lines, _parting(a, b, *parting)]


def _parting(a: CassetteFile, b: CassetteFile, one: Entry, two: Entry) -> str:
    head = f"the questions diverge in {a.path}, line {one.line}, and {b.path}, line {two.line}: "
    ours, theirs = one.fields["lines"], two.fields["lines"]
    if not ours or not theirs:
        return head + "the questions were pruned, so the differing line of the messages is unknown"
    if ours == theirs:
        return head + "the messages are equal; occurrence, model or sampling parameters differ"
    return head + f"the messages differ from line {common_prefix(ours, theirs) + 1} on"


def write(path: Path, entries: Iterable[dict[str, Any]]) -> int:
    """Write a cassette atomically and without default fields, compressed if `path` ends in ``.gz``.

    Equal entries give equal bytes.

    Returns:
        The size of the file in bytes.

    Raises:
        RunDirError: the directory is unwritable or the disk is full.
    """
    short = (dict(entry.items() - default_fields(entry).items()) for entry in entries)
    data = "".join(canonical_json(entry) + "\n" for entry in short).encode()
    if path.suffix == PACKED:
        packed = io.BytesIO()
        with gzip.GzipFile("", "wb", fileobj=packed, mtime=0) as file:
            file.write(data)
        data = packed.getvalue()
    write_bytes(path, data)
    return len(data)
