"""Which recorded answers runs used, according to their journals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from colt_pipeline.errors import RunDirError
from colt_pipeline.runs.events import Finished, Started, with_calls
from colt_pipeline.runs.journal import read_events
from colt_pipeline.runs.layout import CONFIG, JOURNAL
from colt_pipeline.runs.rundir import read_config

Identity = tuple[str, int]
"""Key and occurrence of a question."""


@dataclass(frozen=True)
class Usage:
    """The questions of one run."""

    journal: Path
    recording: tuple[str, ...]
    """Path of its recording below ``recordings``: device, experiment and run."""
    calls: Mapping[Identity, int]
    """Question -> line of the journal; empty if no model was asked."""
    finished: bool

    def owns(self, cassette: Path) -> bool:
        """Whether the file `cassette` belongs to this run."""
        return cassette.resolve().parent.parts[-len(self.recording) :] == self.recording


def journals(directory: Path) -> list[Path]:
    """All journals below `directory`.

    Raises:
        RunDirError: there are none.
    """
    found = sorted(directory.rglob(JOURNAL))
    if not found:
        raise RunDirError(f"no run below {directory}: no {JOURNAL}. Name a directory such as results/runs.")
    return found


def read_usage(journal: Path) -> Usage | None:
    """The questions of one run; None if it has not begun.

    Raises:
        RunDirError: its configuration is missing or invalid.
        JournalError: the journal is corrupt or was written by another version.
    """
    events = read_events(journal)
    started = next((event for event in events if isinstance(event, Started)), None)
    if started is None:
        return None
    path = journal.with_name(CONFIG)
    try:
        config = read_config(path)
        recording = PurePath(started.device, config["experiment"], config["run"]).parts
        answered = config["search"]["proposer"] == "llm"  # random answers have keys too, but no recording
    except (KeyError, TypeError) as error:
        raise RunDirError(f"{path} is not the configuration of a run ({error}); restore it") from error
    calls = {
        (call.key, call.occurrence): line
        for line, (_, applied) in enumerate(with_calls(events), start=1)
        if answered
        for call in applied
    }
    return Usage(journal, recording, calls, any(isinstance(event, Finished) for event in events))
