"""Journals of earlier versions stay readable; events survive the round trip."""

from pathlib import Path

import pytest

from colt_pipeline.errors import JournalError
from colt_pipeline.runs.events import Finished, Measured, Planted, Started, Stepped
from colt_pipeline.runs.journal import Journal

DATA = Path(__file__).parent.parent / "data"


def test_the_first_journal_format_is_still_read(tmp_path: Path) -> None:
    copy = tmp_path / "events.jsonl"
    copy.write_bytes((DATA / "journal_1.jsonl").read_bytes())
    journal = Journal(copy)
    kinds = {type(e) for e in journal.events}
    assert kinds == {Started, Planted, Stepped, Measured, Finished}
    assert any(isinstance(e, Stepped) and e.pruned is not None for e in journal.events)
    journal.close()
    rewritten = Journal(tmp_path / "again.jsonl")
    for event in journal.events:
        rewritten.append(event)
    rewritten.close()
    assert (tmp_path / "again.jsonl").read_bytes() == copy.read_bytes()


def test_an_unknown_event_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"kind":"danced"}\n')
    with pytest.raises(JournalError, match="another version"):
        Journal(path)
    assert path.read_text() == '{"kind":"danced"}\n'
