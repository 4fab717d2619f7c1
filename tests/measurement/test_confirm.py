"""Confirmation: the best programs in turn, on disk after each measurement, and the same in a replay."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tvm

from colt_pipeline.app import interruptible
from colt_pipeline.assemble import assemble
from colt_pipeline.config.schema import Config
from colt_pipeline.job import batches_and_outputs, confirmation
from colt_pipeline.measurement.confirm import ROUNDS, Confirmed, candidates, confirm, confirmed
from colt_pipeline.measurement.ledger import Ledger
from colt_pipeline.measurement.measurer import MakeMeasurer
from colt_pipeline.records import Measurement
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.serialization import KEY_WIDTH
from stages.benchmarks.hashes import HashMeasurer
from tests.small_runs import TINY, move_recordings
from tests.support import HEADER, Compose, Recorded

pytestmark = pytest.mark.tvm

A, B, C = (letter * 64 for letter in "abc")


def measured(*run_secs: float) -> Measurement:
    return Measurement(run_secs)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "measurements.jsonl", HEADER, "append")) as ledger:
        yield ledger


def test_a_latency_is_the_median_over_rounds_and_the_best_is_first(ledger: Ledger) -> None:
    for latency in ((1.0,), (5.0, 1.0, 3.0), (4.0,), (8.0,)):  # the lucky first round does not count
        ledger.put(A, measured(*latency))
    for latency in ((2.0,), (3.5,), (3.0,), (3.9,)):
        ledger.put(B, measured(*latency))
    assert confirmed(ledger, [A, B, C]) == [Confirmed(B, 3.5, 3), Confirmed(A, 4.0, 3)]


def test_a_program_that_failed_in_a_round_is_out(ledger: Ledger) -> None:
    for program in (A, B):
        ledger.put(program, measured(1.0))
        ledger.put(program, measured(2.0))
    ledger.put(A, Measurement(error="timeout", detail="too long"))
    assert [each.program for each in confirmed(ledger, [A, B])] == [B]


def test_without_rounds_nothing_is_confirmed(ledger: Ledger) -> None:
    ledger.put(A, measured(1.0))
    assert confirmed(ledger, [A]) == [] and ledger.rounds(A) == []


def test_candidates_are_distinct_valid_and_were_timed_to_the_end(ledger: Ledger) -> None:
    ledger.put(A, measured(3.0))
    ledger.put(B, Measurement((2.0,), stop="slower"))
    ledger.put(C, measured(1.0))
    samples = [
        Sample(A, 3.0, None),
        Sample(B, 2.0, None),
        Sample("d" * 64, None, "crash"),
        Sample(C, 1.0, None),
        Sample(A, 3.0, None),
    ]
    assert candidates(samples, ledger, 5) == [C, A]
    assert candidates(samples, ledger, 1) == [C] and candidates(samples, ledger, 0) == []


@dataclass(frozen=True)
class Stub:
    key: str


@dataclass
class Remeasuring:
    """Records what it is asked for; programs in `failing` fail in their second round."""

    ledger: Ledger
    failing: str = ""
    turns: list[str] = field(default_factory=list)

    def remeasure(self, programs: Sequence[Stub]) -> None:
        self.turns.append("".join(program.key[0] for program in programs))
        for program in programs:
            fails = program.key == self.failing and len(self.ledger.rounds(program.key)) == 1
            self.ledger.put(program.key, Measurement(error="crash") if fails else measured(1.0))


def searched(ledger: Ledger) -> list[Stub]:
    for key in (A, B, C):
        ledger.put(key, measured(1.0))
    return [Stub(key) for key in (A, B, C)]


def test_programs_take_turns_and_each_place_in_a_round_is_taken_by_each(ledger: Ledger) -> None:
    evaluator = Remeasuring(ledger)
    assert list(confirm(evaluator, searched(ledger))) == list(range(1, ROUNDS + 1))
    assert evaluator.turns == (["bca", "cab", "abc"] * 4)[:ROUNDS]
    assert [each.rounds for each in confirmed(ledger, [A, B, C])] == [ROUNDS] * 3


def test_what_an_interrupt_left_is_made_up_for(ledger: Ledger) -> None:
    programs = searched(ledger)
    next(confirm(Remeasuring(ledger), programs))
    ledger.put(C, measured(1.0))  # killed in the middle of its second round
    rest = Remeasuring(ledger)
    assert len(list(confirm(rest, programs))) == ROUNDS - 1
    assert rest.turns[0] == "ab" and {len(ledger.rounds(key)) for key in (A, B, C)} == {ROUNDS}
    assert list(confirm(rest, programs)) == []


def test_a_program_that_fails_takes_no_further_turn(ledger: Ledger) -> None:
    evaluator = Remeasuring(ledger, failing=B)
    list(confirm(evaluator, searched(ledger)))
    assert "".join(evaluator.turns).count("b") == 2
    assert [len(ledger.rounds(key)) for key in (A, B, C)] == [ROUNDS, 2, ROUNDS]


class Lucky(HashMeasurer):
    """Programs are slower when they are measured again, and the fastest become the slowest."""

    best_given: list[float | None]

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.times: dict[str, int] = {}
        self.best_given = []

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        self.best_given.append(best_secs)
        for module, first in zip(modules, list(super().measure(modules, best_secs)), strict=True):
            text = str(module.script(show_meta=False))
            self.times[text] = self.times.get(text, 0) + 1
            yield first if self.times[text] == 1 else Measurement((1.0 / first.run_secs[0],))


def finished(config: Config, make: MakeMeasurer | None = Lucky, each: Callable[[], None] = lambda: None) -> Any:
    with assemble(config, make) as job:
        for _ in batches_and_outputs(job):
            each()
        return json.loads((job.rundir.path / "summary.json").read_text()), confirmation(job)


def outputs(config: Config) -> dict[str, bytes]:
    run = Path(config.results) / "runs" / config.experiment / config.run
    return {path.name: path.read_bytes() for path in run.iterdir() if path.name != "timing.json"}


def rounds(config: Config) -> list[tuple[str, int]]:
    (path,) = (Path(config.results) / "recordings").rglob("tiny/measurements.jsonl")
    return [(line["program"], line["round"]) for line in read_lines(path)[1:] if "round" in line]


def test_a_live_run_confirms_its_best_and_a_replay_reads_it(composed: Compose, tmp_path: Path) -> None:
    live = composed(*TINY)
    measurer = Lucky()
    summary, words = finished(live, lambda _: measurer)
    best = summary["best_program"]
    assert summary["confirmed_rounds"] == ROUNDS and summary["confirmed_programs"] == 5
    assert summary["confirmed_program"] != best and summary["confirmed_secs"] > summary["best_secs"]
    assert words.startswith("confirmed: ") and "the best of 5 programs in 10 rounds each" in words
    assert f"(the search's own best said {summary['best_secs'] * 1e3:.4g} ms)" in words
    again = rounds(live)
    assert len(again) == 50 and {number for _, number in again} == set(range(1, 11))
    assert again[4][0] == again[8][0] == best[:KEY_WIDTH], "the first is last in the first round, and moves up"
    assert measurer.best_given[-ROUNDS:] == [None] * ROUNDS, "nothing is cut short"
    (shared,) = (Path(live.results) / "recordings").glob("*/shared/*.jsonl")
    assert not any("round" in line for line in read_lines(shared))

    replay = composed(*TINY, f"results={tmp_path / 'replay'}", "record=replay")
    move_recordings(live, replay)
    finished(replay, None)
    assert outputs(replay) == outputs(live)


def test_a_finished_run_is_not_confirmed_twice(composed: Compose) -> None:
    config = composed(*TINY)
    first, _ = finished(config)
    before = rounds(config)
    assert finished(config)[0] == first and rounds(config) == before


def test_a_recording_without_rounds_replays_to_the_same_bytes(
    composed: Compose, recorded: Recorded, tmp_path: Path
) -> None:
    old = recorded(*TINY).config
    replay = composed(*TINY, "record=replay")
    move_recordings(old, replay)
    summary, words = finished(replay, None)
    assert outputs(replay) == outputs(old) and words is None
    assert not any(name.startswith("confirmed") for name in summary) and rounds(replay) == []


def test_confirmation_can_be_switched_off_without_becoming_another_run(composed: Compose) -> None:
    off = composed(*TINY, "measure.confirm=0")
    summary, words = finished(off)
    assert words is None and "confirmed_secs" not in summary and rounds(off) == []
    fewer = composed(*TINY, "measure.confirm=2")
    assert fewer.identity() == off.identity()
    assert finished(fewer)[0]["confirmed_programs"] == 2 and len(rounds(fewer)) == 2 * ROUNDS


def test_estimates_are_not_confirmed(composed: Compose) -> None:
    config = composed(*TINY, "target=rtx2080ti", "device=estimate", "samples=4")
    summary, words = finished(config, None)
    assert words is None and "confirmed_secs" not in summary and rounds(config) == []


class Interrupting(Lucky):
    """Ctrl-C during the fourth round of the confirmation."""

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        for number, measurement in enumerate(super().measure(modules, best_secs)):
            if best_secs is None and self.best_given.count(None) == 5 and number == 2:  # one was the baseline
                raise KeyboardInterrupt
            yield measurement


def test_ctrl_c_loses_nothing_and_the_same_command_goes_on(composed: Compose) -> None:
    config = composed(*TINY)
    with pytest.raises(KeyboardInterrupt), interruptible():
        finished(config, Interrupting)
    assert len(rounds(config)) == 3 * 5 + 2 and "summary.json" not in outputs(config)
    summary, _ = finished(config)
    assert summary["confirmed_rounds"] == ROUNDS and len(rounds(config)) == 5 * ROUNDS
