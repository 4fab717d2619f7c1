"""Record and replay of LLM answers: one ``llm.jsonl`` in each run's recording, one line per answer (see `entry`).

The key of an entry is that of its question; equal questions within a run are distinguished by their occurrence. Only
digests of the question's lines are kept, enough to name the first differing line when a replay misses. A finished
cassette may be shipped as ``llm.jsonl.gz``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock

from colt_pipeline.errors import BudgetError, RecordingError, ReplayMissError
from colt_pipeline.llm.client import Client, Question
from colt_pipeline.llm.entry import (
    REFUSED,
    common_prefix,
    identity_of,
    is_answered,
    read_entry,
    reply_of,
)
from colt_pipeline.records import EMBEDDED, Reply
from colt_pipeline.runs.jsonl import PACKED
from colt_pipeline.runs.recorded import Fields, Recorded
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.runs.usage import Identity
from colt_pipeline.serialization import written


class Cassette:
    """Answers from the recording; if clients can be made, misses are asked live and recorded before they return."""

    def __init__(self, path: Path, make_client: Callable[[str], Client] | None, stopwatch: Stopwatch) -> None:
        """Open the cassette.

        Args:
            path: the run's ``llm.jsonl``.
            make_client: provider -> client, called at the provider's first miss; None for a strict replay.
            stopwatch: records the time of live calls as ``llm``.

        Raises:
            JournalError: the cassette is corrupt or in use by another process.
            RecordingError: an entry lacks fields, or the cassette is compressed although answers may have to be added.
        """
        packed = path.with_name(path.name + PACKED)
        if packed.exists() and not path.exists():
            if make_client is not None:
                raise RecordingError(
                    f"{packed} is compressed, so answers cannot be added; `gunzip` it first, or use record=replay"
                )
            path = packed
        self.path = path
        self._make_client = make_client
        self._stopwatch = stopwatch
        self._clients: dict[str, Client] = {}
        self._lock = Lock()  # calls may be made in several threads
        self._recorded: Recorded[Identity] = Recorded(
            path, "replay" if make_client is None else "append", _read, superseded=lambda entry: not is_answered(entry)
        )
        self.asked = 0
        """Number of answers that this object did not find in the recording."""

    def answer(self, question: Question, occurrence: int) -> Reply:
        """The recorded answer, or a live one that is on disk by the time this returns.

        Raises:
            ReplayMissError: strict replay, and the question was not recorded.
            RecordingError: the recorded answer came from another backend than the model's provider.
            BudgetError: a limit is reached, or was reached when this was recorded.
            ProviderError: no live call will succeed.
        """
        entry = self._recorded.get((question.key, occurrence))
        if entry is None or not is_answered(entry):
            with self._stopwatch.lap("llm"):
                entry = self._ask(question, occurrence, entry)
        model = question.model
        if entry["backend"] != model.provider:
            raise RecordingError(
                f"{self.path} holds answers for {model.name} from {entry['backend']}, but the configuration says "
                f"provider={model.provider}; choose that provider, or record again under another run=NAME"
            )
        return reply_of(entry)

    def takes_time(self, question: Question, occurrence: int) -> bool:
        """Whether `answer` would have to ask a server."""
        entry = self._recorded.get((question.key, occurrence))
        lacking = entry is None or not is_answered(entry)
        return lacking and self._make_client is not None and question.model.provider != EMBEDDED

    def fetch(self, question: Question, occurrence: int) -> None:
        """Ask live and record the answer; in any thread.

        Raises:
            BudgetError, ProviderError: as for `answer`.
        """
        self._ask(question, occurrence, self._recorded.get((question.key, occurrence)))

    def _ask(self, question: Question, occurrence: int, unanswered: Fields | None) -> Fields:
        """Ask live and record the answer; `unanswered` is the entry that says why it was not asked before."""
        if self._make_client is None:
            if unanswered is not None:
                raise BudgetError(unanswered[REFUSED])
            raise ReplayMissError(self._explain(question, occurrence))
        provider = question.model.provider
        with self._lock:
            if provider not in self._clients:
                self._clients[provider] = self._make_client(provider)
        asked = {"key": question.key, "occurrence": occurrence, "model": question.model.name}
        asked["lines"] = question.line_digests
        try:
            reply = self._clients[provider].complete(question, occurrence)
        except BudgetError as error:
            if unanswered is None:
                with self._lock:
                    self._recorded.append({**asked, REFUSED: str(error)})
            raise
        with self._lock:
            self.asked += 1
            return self._recorded.append({**asked, **written(reply)})

    def reply(self, key: str, occurrence: int) -> Reply | None:
        """The recorded answer; None if there is none."""
        entry = self._recorded.get((key, occurrence))
        return reply_of(entry) if entry is not None and is_answered(entry) else None

    def _explain(self, question: Question, occurrence: int) -> str:
        """Why a replay missed: the nearest entry and the first differing line."""
        head = f"replay miss in {self.path}: no answer of {question.model.name} is recorded"
        head += f" for question {question.key[:12]}"
        tail = "The code, the configuration or what the search starts from differs from the recorded run. "
        tail += "record=missing asks what is not recorded; with stand_ins=false that costs money."
        recorded = self._recorded.entries
        same = [entry for entry in recorded if entry["key"] == question.key]
        if same:
            return f"{head}, occurrence {occurrence} (recorded: {len(same)}). {tail}"
        if not recorded:
            return f"{head}; the recording is empty. {tail}"
        if not any(entry["lines"] for entry in recorded):
            return f"{head}. The questions were pruned, so the differing line is unknown. {tail}"
        agreed = [common_prefix(question.line_digests, entry["lines"]) for entry in recorded]
        nearest = max(range(len(agreed)), key=agreed.__getitem__)
        entry, common = recorded[nearest], agreed[nearest]
        where = f"{head}. The nearest is entry {nearest + 1}, for {entry['model']}"
        if entry["lines"] == question.line_digests:
            return f"{where}, with the same messages: model or sampling parameters differ. {tail}"
        shown = question.lines[common] if common < len(question.lines) else "(the question ends here)"
        return f"{where}; they differ from line {common + 1} on, which is now {shown!r}. {tail}"

    def unused(self, occurrences: Mapping[str, int]) -> int:
        """Number of recorded answers that a run did not use; `occurrences`: key -> how often the run asked it."""
        answers = (entry for entry in self._recorded.entries if is_answered(entry))
        return sum(answer["occurrence"] >= occurrences.get(answer["key"], 0) for answer in answers)

    def close(self) -> None:
        """Release the cassette to other processes; what calls that an interrupt has left alone bring is lost."""
        with self._lock:
            self._recorded.close()


def _read(line: Fields) -> tuple[Identity, Fields]:
    entry = read_entry(line)
    return identity_of(entry), entry
