"""Record and replay of LLM answers: one ``llm.jsonl`` per run.

The key of an entry is that of its question; equal questions within a run are told apart by their occurrence. The answer
is kept raw, the question only as digests of its lines, which is enough to name the first line that differs when a
replay misses. A finished recording may be shipped as ``llm.jsonl.gz``, its entries without `usual` fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from colt_pipeline.errors import BudgetError, RecordingError, ReplayMissError
from colt_pipeline.llm.client import CHARACTERS_PER_TOKEN, DIGEST_WIDTH, Client, Question, played
from colt_pipeline.records import EMBEDDED, KEY_WIDTH, Reply
from colt_pipeline.runs.jsonl import PACKED, JsonLines, read_lines
from colt_pipeline.runs.stopwatch import Stopwatch

_REPLY_FIELDS = tuple(f.name for f in fields(Reply))
_QUESTION_FIELDS = ("key", "occurrence", "model", "lines")
_FIELDS = (*_QUESTION_FIELDS, *_REPLY_FIELDS)
LIMIT = "limit"
"""Field of an entry that says why the question was not asked: a limit of the budget, where a replay ends too."""


class Cassette:
    """Answers from the recording; with a way to connect, misses are asked live and recorded first, then returned."""

    def __init__(self, path: Path, connect: Callable[[str], Client] | None, watch: Stopwatch) -> None:
        """`connect` makes the client of a provider at its first miss; None makes this a strict replay without clients.

        `watch` books the time of live calls as ``llm``.

        Raises:
            JournalError: the recording is broken or in use by another process.
            RecordingError: an entry lacks fields; or the recording is packed, but answers may have to be added.
        """
        packed = path.with_name(path.name + PACKED)
        if packed.exists() and not path.exists():
            if connect is not None:
                raise RecordingError(
                    f"{packed} is packed and takes no answers; `gunzip` it first, or use record=replay"
                )
            path = packed
        self.path = path
        self._connect = connect
        self._watch = watch
        self._clients: dict[str, Client] = {}
        self._file = None if connect is None else JsonLines(path)
        lines = read_lines(path) if self._file is None else self._file.records
        self._entries = [whole(entry) for entry in lines]
        for number, entry in enumerate(self._entries, start=1):
            if missing := [n for n in (_QUESTION_FIELDS if LIMIT in entry else _FIELDS) if n not in entry]:
                self.close()
                raise RecordingError(f"{path}, line {number}: lacks {', '.join(missing)}; restore the file")
        self._index = {(e["key"], e["occurrence"]): e for e in self._entries}
        self.asked = 0
        """Answers that this object did not find in the recording."""

    def answer(self, question: Question, occurrence: int) -> Reply:
        """The recorded answer, or a live one that is on disk when this returns.

        Raises:
            ReplayMissError: strict replay, and the question was not recorded.
            RecordingError: the recorded answer came from another backend than the model's provider.
            BudgetError: a limit is reached, or was when this was recorded.
            ProviderError: no live call will succeed.
        """
        entry = self._index.get((question.key, occurrence))
        if entry is not None and LIMIT in entry and self._connect is None:
            raise BudgetError(entry[LIMIT])
        if entry is None or LIMIT in entry:
            entry = self._record(question, occurrence)
        model = question.model
        if entry["backend"] != model.provider:
            raise RecordingError(
                f"{self.path} answers for {model.name} from {entry['backend']}, the configuration says "
                f"provider={model.provider}; choose that provider, or record anew with another run=NAME"
            )
        return Reply(**{name: entry[name] for name in _REPLY_FIELDS})

    def _record(self, question: Question, occurrence: int) -> dict[str, Any]:
        if self._connect is None or self._file is None:
            raise ReplayMissError(self._explain(question, occurrence))
        model = question.model
        if model.provider not in self._clients:
            self._clients[model.provider] = self._connect(model.provider)
        try:
            with self._watch.lap("llm"):
                reply = self._clients[model.provider].complete(question, occurrence)
        except BudgetError as error:
            if (question.key, occurrence) not in self._index:
                self._append(question, occurrence, {LIMIT: str(error)})
            raise
        self.asked += 1
        return self._append(question, occurrence, asdict(reply))

    def _append(self, question: Question, occurrence: int, answer: dict[str, Any]) -> dict[str, Any]:
        assert self._file is not None
        asked = {"key": question.key, "occurrence": occurrence, "model": question.model.name}
        entry = {**asked, "lines": question.line_digests, **answer}
        self._file.append(entry)
        self._index[question.key, occurrence] = entry
        return entry

    def llm_secs(self, key: str, occurrence: int) -> float:
        """How long the answer took when it was asked; 0 for what is not in the recording."""
        return float(self._index.get((key, occurrence), {}).get("latency_secs", 0.0))

    def _explain(self, question: Question, occurrence: int) -> str:
        """Why a replay missed: the nearest entry and the first differing line."""
        head = f"replay miss in {self.path}: no answer of {question.model.name} is recorded"
        head += f" for question {question.key[:12]}"
        tail = "Use record=missing to ask it live."
        same = [e for e in self._entries if e["key"] == question.key]
        if same:
            return f"{head}, occurrence {occurrence} (recorded: {len(same)}). {tail}"
        if not self._entries:
            return f"{head}, nor anything else. {tail}"
        if not any(entry["lines"] for entry in self._entries):
            return f"{head}. Which line differs cannot be told, for the questions were pruned. {tail}"
        agreed = [common_prefix(question.line_digests, entry["lines"]) for entry in self._entries]
        nearest = max(range(len(agreed)), key=agreed.__getitem__)
        entry, common = self._entries[nearest], agreed[nearest]
        where = f"{head}. The nearest is entry {nearest + 1}, of {entry['model']}"
        if entry["lines"] == question.line_digests:
            return f"{where}, with the same messages: model or sampling parameters differ. {tail}"
        shown = question.lines[common] if common < len(question.lines) else "(the question ends here)"
        return f"{where}; from line {common + 1} on they differ, now: {shown!r}. {tail}"

    def unused(self, occurrences: Mapping[str, int]) -> int:
        """How many answers of the recording a run did not use; `occurrences` counts how often it asked each key."""
        return sum("text" in e and e["occurrence"] >= occurrences.get(e["key"], 0) for e in self._entries)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def whole(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry with its usual fields; older recordings have longer keys."""
    fields = {**usual(entry), **entry}
    if isinstance(key := fields.get("key"), str):
        fields["key"] = key[:KEY_WIDTH]
    return fields


def usual(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry means by fields that it lacks; `tools.recordings prune` leaves these out."""
    fields: dict[str, Any] = {"occurrence": 0, "lines": "", "finish_reason": "stop", "latency_secs": 0.0}
    model, text = entry.get("model"), entry.get("text")
    if entry.get("backend", EMBEDDED) == EMBEDDED and isinstance(model, str) and isinstance(text, str):
        fields |= {"backend": EMBEDDED, "provider_model": played(model)}
        fields |= {"completion_tokens": len(text) // CHARACTERS_PER_TOKEN}
    return fields


def common_prefix(a: str, b: str) -> int:
    """Number of leading lines whose digests agree."""
    count = 0
    while a[count * DIGEST_WIDTH : (count + 1) * DIGEST_WIDTH] == (
        b[count * DIGEST_WIDTH : (count + 1) * DIGEST_WIDTH] or None
    ):
        count += 1
    return count
