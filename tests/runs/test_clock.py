"""The limit in minutes: recorded per batch, so that a replay stops at the same sample; more minutes go on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tvm

from colt_pipeline.assemble import assemble
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import BudgetError, RecordingError
from colt_pipeline.job import batches_and_outputs, progress
from colt_pipeline.progress.standing import followed_search
from colt_pipeline.records import Measurement
from colt_pipeline.runs.clock import Clock, secs_so_far
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.runs.layout import CLOCK, clocks_of, set_aside
from stages.benchmarks.hashes import HashMeasurer
from tests.small_runs import TINY, journal, move_recordings
from tests.support import Compose


def ticked(path: Path, minutes: float, *ticks: tuple[int, float]) -> Clock:
    clock = Clock(path, minutes, "append")
    for samples, secs in ticks:
        clock.tick(samples, secs)
    return clock


def test_sessions_add_up(tmp_path: Path) -> None:
    path = tmp_path / CLOCK
    with closing(ticked(path, 2, (8, 30.0), (16, 70.5))) as clock:
        clock.check(16)
        assert clock.secs_left == 49.5
    with closing(ticked(path, 2, (24, 40.0))) as clock:
        clock.check(24)
        clock.tick(32, 60.0)
        with pytest.raises(BudgetError, match=r"minutes=2 is reached \(2.17 used for 32 samples\); the same command"):
            clock.check(32)
    assert [line["secs"] for line in read_lines(path)] == [30.0, 70.5, 110.5, 130.5]
    assert secs_so_far(path) == 130.5


def test_a_replay_reads_the_clock_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / CLOCK
    ticked(path, 1, (8, 61.0)).close()
    before = path.read_bytes()
    replay = Clock(path, 1, "replay")
    replay.tick(4, 1000.0)
    replay.check(4)
    replay.tick(8, 1000.0)
    with pytest.raises(BudgetError):
        replay.check(8)
    Clock(path, 2, "replay").check(8)
    assert path.read_bytes() == before
    assert Clock(tmp_path / "absent", 1, "replay").secs_left == 60


def test_what_is_recorded_is_not_measured_again(tmp_path: Path) -> None:
    """A run whose journal is gone goes through its recording in no time."""
    path = tmp_path / CLOCK
    ticked(path, 1, (8, 30.0), (16, 50.0)).close()
    with closing(ticked(path, 1, (8, 0.1), (16, 0.2), (24, 5.2))):
        assert [line["secs"] for line in read_lines(path)] == [30.0, 50.0, 55.0]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"samples":8}', "missing required field"),
        ('{"samples":-1,"secs":1}', "samples: "),
        ('{"samples":8,"secs":"1"}', "secs: "),
        ('{"samples":8,"secs":1}\n{"samples":8,"secs":2}', "line 2: its key 8 is already in line 1"),
    ],
)
def test_a_broken_clock_is_named(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / CLOCK
    path.write_text(line + "\n")
    with pytest.raises(RecordingError, match=what) as refused:
        Clock(path, 1, "replay")
    assert str(path) in str(refused.value)


def test_a_clock_is_set_aside_with_its_recording(tmp_path: Path) -> None:
    ticked(tmp_path / CLOCK, 1, (8, 1.0)).close()
    set_aside(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{CLOCK}.1"]


class Slow(HashMeasurer):
    """Each batch takes 50 s of a clock that nothing else moves."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        if len(modules) > 1:  # otherwise it is the baseline
            self.now += 50.0
        yield from super().measure(modules, best_secs)


LIMITED = tuple(override for override in TINY if not override.startswith("samples=")) + (
    *("search.batch_size=4", "measure.confirm=2"),
)


def searched(config: Config) -> dict[str, Any]:
    """The summary of a session whose batches take 50 s each."""
    slow = Slow()
    with assemble(config, lambda _: slow) as job:
        job.world.stopwatch.clock = lambda: slow.now
        for _ in batches_and_outputs(job):
            progress(job, 1.0, 0)
    summary: dict[str, Any] = json.loads((job.rundir.path / "summary.json").read_text())
    return summary


@pytest.mark.tvm
def test_a_run_stops_at_its_limit_replays_to_it_and_goes_on_with_more(
    composed: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = composed(*LIMITED, "minutes=2")
    assert config.samples == 10_000
    summary = searched(config)
    assert (summary["stopped"], summary["samples"]) == ("limit", 12)
    assert summary["confirmed_programs"] == 2, "the best so far are confirmed, whose time is not the search's"
    said = capsys.readouterr().err
    assert "minutes=2 is reached (2.5 used for 12 samples); the same command with more minutes goes on" in said
    assert " 8 samples " in said and "ETA 20 s" in said

    replay = composed(*LIMITED, "minutes=2", f"results={tmp_path / 'replay'}", "record=replay")
    move_recordings(config, replay)
    assert searched(replay) == summary and journal(replay) == journal(config)

    first = journal(config)
    assert searched(config) == summary and journal(config) == first, "nothing is left for the same command"
    more = searched(composed(*LIMITED, "minutes=4"))
    assert (more["stopped"], more["samples"]) == ("limit", 20) and journal(config).startswith(first)
    (clock,) = clocks_of(config.results, config.experiment, config.run)
    assert [line["secs"] for line in read_lines(clock)] == [50.0, 100.0, 150.0, 200.0, 250.0]

    resumed = composed(*LIMITED, "minutes=4", f"results={tmp_path / 'resumed'}", "record=replay")
    move_recordings(config, resumed)
    assert searched(resumed)["samples"] == 20 and journal(resumed) == journal(config)
    shorter = composed(*LIMITED, "minutes=2", f"results={tmp_path / 'shorter'}", "record=replay")
    move_recordings(config, shorter)
    assert searched(shorter)["samples"] == 12 and journal(shorter) == first


@pytest.mark.tvm
def test_samples_end_a_run_before_its_minutes_do(composed: Compose) -> None:
    summary = searched(composed(*LIMITED, "minutes=2.5", "samples=12", "measure.confirm=0"))
    assert (summary["stopped"], summary["samples"]) == ("budget", 12)


@pytest.mark.tvm
def test_a_table_counts_the_minutes_that_are_left(composed: Compose) -> None:
    config = composed(*LIMITED, "minutes=4", "measure.confirm=0")
    slow = Slow()
    follow = followed_search(config)
    (before,) = follow.read()
    assert before.most_secs_left == 240 and before.share_done == 0
    with assemble(config, lambda _: slow) as job:
        job.world.stopwatch.clock = lambda: slow.now
        next(batches_and_outputs(job))
        (after,) = follow.read()
    assert after.most_secs_left == 190 and after.share_done == pytest.approx(50 / 240)


@pytest.mark.tvm
def test_without_a_limit_there_is_no_clock(composed: Compose) -> None:
    config = composed(*TINY, "samples=8", "measure.confirm=0")
    searched(config)
    assert clocks_of(config.results, config.experiment, config.run) == []
