"""Which programs of earlier runs are the best, without TVM: runs by hand with their ledgers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.config.schema import EXTENDED_SPACE
from colt_pipeline.errors import ColtError, ConfigError, JournalError, RecordingError, RunDirError, SpaceError
from colt_pipeline.measurement.earlier import Tuned, best_of_earlier
from colt_pipeline.measurement.ledger import Ledger
from colt_pipeline.records import Measurement
from colt_pipeline.runs.events import Measured, Planted, Sample
from tests.support import HEADER
from tests.toy_run import STARTED, child, write_run

TUNED = Tuned(STARTED.workload_hash, STARTED.device, STARTED.target, ())

Rounds = tuple[Measurement, ...]
"""A program's measurements: the search's, then those of the confirmation."""


def secs(*rounds: float) -> Rounds:
    return tuple(Measurement((each,)) for each in rounds)


def write(results: Path, run: str, programs: Mapping[str, Rounds], ledger: bool = True, **changes: Any) -> Path:
    """A run with these programs, whose traces all differ; returns its journal."""
    children = tuple(child(key, "small", (2, number), 0.5, 0.5) for number, key in enumerate(programs, start=1))
    samples = tuple(Sample(key, rounds[0].latency_secs, rounds[0].error) for key, rounds in programs.items())
    directory = write_run(results / "runs" / run, [STARTED, Planted(children), Measured(samples)], **changes)
    if ledger:
        path = results / "recordings" / STARTED.device / run / "measurements.jsonl"
        with closing(Ledger(path, HEADER, "append")) as written:
            for key, rounds in programs.items():
                for measurement in rounds:
                    written.put(key, measurement)
    return directory / "events.jsonl"


def best(results: Path, count: int = 4, tuned: Tuned = TUNED, unknown: str = "") -> list[tuple[str, float, str]]:
    def load(key: str, trace: str) -> None:
        if key == unknown:
            raise SpaceError("another program")

    return [(each.program, each.latency_secs, each.source) for each in best_of_earlier(results, tuned, load, count)]


def test_the_best_of_all_runs_are_first_and_each_counts_once(tmp_path: Path) -> None:
    write(tmp_path, "a/one", {"p": secs(3.0), "q": secs(1.0), "r": (Measurement(error="crash"),)})
    write(tmp_path, "b/of/model", {"p": secs(3.5), "s": secs(2.0)}, ledger=False)
    assert best(tmp_path) == [("q", 1.0, "a/one"), ("s", 2.0, "b/of/model"), ("p", 3.0, "a/one")]
    assert [program for program, *_ in best(tmp_path, count=2)] == ["q", "s"]
    assert [program for program, *_ in best(tmp_path, count=2, unknown="q")] == ["s", "p"]


def test_a_confirmed_latency_takes_precedence_over_a_lucky_one(tmp_path: Path) -> None:
    confirmed = {"lucky": secs(1.0, 5.0, 5.0), "steady": secs(1.5, 2.0, 2.0), "next": secs(1.6), "last": secs(6.0)}
    write(tmp_path, "a/confirmed", confirmed)
    write(tmp_path, "a/unconfirmed", {"other": secs(3.0), "steady": secs(1.4)})
    assert best(tmp_path, count=9) == [
        ("steady", 2.0, "a/confirmed"),
        ("other", 3.0, "a/unconfirmed"),
        ("lucky", 5.0, "a/confirmed"),
        ("next", 1.6, "a/confirmed"),  # no faster than what was confirmed in its run
        ("last", 6.0, "a/confirmed"),
    ]


def test_what_was_cut_short_is_last_and_what_failed_when_measured_again_is_out(tmp_path: Path) -> None:
    programs = {
        "short": (Measurement((1.0,), stop="slower"),),
        "long": secs(9.0),
        "fails": (*secs(0.5), Measurement(error="crash")),
    }
    write(tmp_path, "a/run", programs)
    assert [program for program, *_ in best(tmp_path)] == ["long", "short"]


@pytest.mark.parametrize(
    "other",
    [
        replace(TUNED, workload_hash="1" * 64),
        replace(TUNED, device="another"),
        replace(TUNED, target={"kind": "toy", "num-cores": 2}),
        replace(TUNED, additions=EXTENDED_SPACE.additions),
    ],
)
def test_another_kernel_device_target_or_space_is_not_taken(tmp_path: Path, other: Tuned) -> None:
    write(tmp_path, "a/run", {"p": secs(1.0)})
    assert best(tmp_path) and not best(tmp_path, tuned=other)


def test_the_switches_of_the_space_count_and_not_its_name(tmp_path: Path) -> None:
    space = replace(EXTENDED_SPACE, padding=False)
    write(tmp_path, "a/run", {"p": secs(1.0)}, space=vars(replace(space, name="mine")))
    assert best(tmp_path, tuned=replace(TUNED, additions=space.additions))
    assert not best(tmp_path, tuned=replace(TUNED, additions=EXTENDED_SPACE.additions)) and not best(tmp_path)


def test_runs_that_have_not_measured_anything_are_passed_over(tmp_path: Path) -> None:
    for run, text in (("a/empty", ""), ("a/writing", '{"kind":"star')):
        (tmp_path / "runs" / run).mkdir(parents=True)
        (tmp_path / "runs" / run / "events.jsonl").write_text(text)
    write_run(tmp_path / "runs" / "a/started", [STARTED])
    assert best(tmp_path) == []


@pytest.mark.parametrize("kind", ["absent", "empty", "a file"])
def test_what_is_no_results_directory_is_refused(tmp_path: Path, kind: str) -> None:
    directory = tmp_path / "elsewhere"
    if kind == "empty":
        directory.mkdir()
    if kind == "a file":
        directory.touch()
    with pytest.raises(ConfigError, match=rf"start_from={directory}: cannot read .*runs/ and recordings/.*=null"):
        best(directory)


def changed(journal: Path, line: int, **change: object) -> None:
    lines = journal.read_text().splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **change})
    journal.write_text("".join(f"{each}\n" for each in lines))


def test_damage_is_named_and_nothing_is_taken(tmp_path: Path) -> None:
    journal = write(tmp_path, "a/run", {"p": secs(1.0)})
    ledger = tmp_path / "recordings/toy/a/run/measurements.jsonl"
    (made,) = json.loads(journal.read_text().splitlines()[1])["children"]
    whole = {path: path.read_bytes() for path in (journal, ledger, journal.with_name("config.yaml"))}

    def refused(error: type[ColtError], *said: str) -> None:
        with pytest.raises(error) as raised:
            best(tmp_path)
        assert all(part in str(raised.value) for part in said)
        for path, data in whole.items():
            path.write_bytes(data)
        assert best(tmp_path)

    journal.write_text("{\n")
    refused(JournalError, f"{journal}, line 1: not valid JSON")
    journal.write_text("x" * (2 << 20))
    refused(JournalError, f"{journal}, line 1: longer than 1 MiB")
    changed(journal, 0, baseline_secs=-1)
    refused(JournalError, f"{journal}, line 1: baseline_secs")
    changed(journal, 2, samples=[{"program": "z", "latency_secs": 1, "error": None}])
    refused(JournalError, f"{journal}, line 3: ", "not waiting")
    changed(journal, 1, children=[{**made, "trace": '[[["Evaluate",[],[],[]]],[]]'}])
    refused(JournalError, f"{journal}: program p: ", "'Evaluate'", "Nothing of it was run", "start_from=DIR")
    ledger.write_text(ledger.read_text().replace("run_secs", "runs"))
    refused(RecordingError, f"{ledger}, line 2: ")
    journal.with_name("config.yaml").unlink()
    refused(RunDirError, "config.yaml")
