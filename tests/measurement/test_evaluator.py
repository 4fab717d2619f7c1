"""Measure once: run ledger, shared ledger, device; nothing is lost when the device disappears."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import tvm

from colt_pipeline.errors import DeviceError, ReplayMissError
from colt_pipeline.measurement.evaluator import Evaluator, Reuse
from colt_pipeline.measurement.ledger import Ledger
from colt_pipeline.records import Measurement
from colt_pipeline.workloads.workload import Workload
from tests import support

pytestmark = pytest.mark.tvm

HEADER = {**support.HEADER, "measurement": "measured"}
Make = Callable[..., Evaluator]
WORKLOAD = cast(Workload, SimpleNamespace(name="w", hash="f" * 64))


@dataclass(frozen=True)
class Stub:
    """A program with this key; its module is the key itself."""

    key: str

    @property
    def schedule(self) -> Any:
        return SimpleNamespace(mod=self.key)


class Scripted:
    """A measurer with scripted results by module; an exception ends the batch."""

    def __init__(self, script: dict[str, Measurement | Exception]) -> None:
        self.script, self.seen, self.bests = script, list[str](), list[float | None]()

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        self.bests.append(best_secs)
        for module in cast(Sequence[str], modules):
            result = self.script.get(module, Measurement((0.5,)))
            if isinstance(result, Exception):
                raise result
            self.seen.append(module)
            yield result

    def close(self) -> None:
        pass


@pytest.fixture
def evaluator(tmp_path: Path) -> Iterator[Make]:
    """Makes the evaluator of a run; a second one for the same run takes over its ledger."""
    ledgers: dict[str, Ledger] = {}

    def make(
        run: str, measurer: Scripted | None, reuse: Reuse = "any_run", header: dict[str, Any] = HEADER
    ) -> Evaluator:
        if run in ledgers:
            ledgers[run].close()
        directory = tmp_path / "some-device"
        ledgers[run] = Ledger(directory / run / "measurements.jsonl", header, "append" if measurer else "replay")
        return Evaluator(
            WORKLOAD, ledgers[run], header, None if measurer is None else lambda: measurer, directory, reuse
        )

    yield make
    for ledger in ledgers.values():
        ledger.close()


def latencies(e: Evaluator, *keys: str) -> list[float | None]:
    return [s.latency_secs for s in e.measure(cast(Any, [Stub(k) for k in keys]))]


def test_a_program_is_measured_once_per_device(evaluator: Make) -> None:
    first, second = Scripted({"a": Measurement((0.1,))}), Scripted({"a": Measurement((9.0,))})
    assert latencies(evaluator("one", first), "a", "b", "a") == [0.1, 0.5, 0.1]
    assert first.seen == ["a", "b"]
    assert latencies(evaluator("two", second), "b", "a", "c") == [0.5, 0.1, 0.5]
    assert second.seen == ["c"]


def test_a_run_may_reuse_its_own_measurements_alone(evaluator: Make) -> None:
    latencies(evaluator("one", Scripted({"a": Measurement((0.1,))})), "a")
    assert latencies(evaluator("two", Scripted({"a": Measurement((0.2,))}), reuse="this_run"), "a") == [0.2]


def test_a_latency_that_was_cut_short_serves_only_as_a_loser(evaluator: Make) -> None:
    loser = Measurement((0.4,), stop="slower")
    latencies(evaluator("one", Scripted({"a": loser})), "a")
    careful = Scripted({"a": Measurement((0.3, 0.3, 0.3), stop="steady")})
    assert latencies(evaluator("two", careful), "a") == [0.3]  # it could have been this run's best
    good = Scripted({"b": Measurement((0.1,)), "c": loser})
    three = evaluator("three", good)
    assert latencies(three, "b") + latencies(three, "c") == [0.1, 0.4]
    four = evaluator("four", Scripted({}))
    assert latencies(four, "b") + latencies(four, "c") == [0.1, 0.4] and four.measured == 0
    close = evaluator("close", Scripted({"d": Measurement((0.3,)), "c": Measurement((0.2,))}))
    assert latencies(close, "d") + latencies(close, "c") == [0.3, 0.2]  # what took 0.4 s once may take less than 0.3 s


def test_an_old_cut_does_not_replace_what_was_measured_again(evaluator: Make) -> None:
    """Its latency did not serve before the batch; within it, the best improves enough that it would."""
    cut = evaluator("cut", Scripted({"a": Measurement((0.9,), stop="slower")}))
    assert latencies(cut, "a") == [0.9]
    again = evaluator("again", Scripted({"b": Measurement((0.1,)), "a": Measurement((0.8,))}))
    assert latencies(again, "b", "a") == [0.1, 0.8]
    assert latencies(evaluator("later", Scripted({})), "a") == [0.8]


class Meanwhile(Scripted):
    """A measurer during whose work another run measures the same programs."""

    def __init__(self, other: Callable[[], object]) -> None:
        super().__init__({"a": Measurement((0.3,))})
        self._other = other

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        self._other()
        yield from super().measure(modules, best_secs)


def test_runs_on_a_gpu_measure_side_by_side_and_agree(evaluator: Make) -> None:
    on_gpu = {**HEADER, "device": {"kind": "gpu", "gpu": "H", "arch": "sm_90"}}
    quicker = evaluator("quicker", Scripted({"a": Measurement((0.1,))}), header=on_gpu)
    slower = evaluator("slower", Meanwhile(lambda: latencies(quicker, "a")), header=on_gpu)
    assert latencies(slower, "a") == [0.1] == latencies(quicker, "a")


def test_what_was_cut_short_meanwhile_does_not_replace_a_whole_measurement(evaluator: Make) -> None:
    on_gpu = {**HEADER, "device": {"kind": "gpu", "gpu": "H", "arch": "sm_90"}}
    cut = evaluator("cut", Scripted({"a": Measurement((0.9,), stop="slower")}), header=on_gpu)
    whole = evaluator("whole", Meanwhile(lambda: latencies(cut, "a")), header=on_gpu)
    assert latencies(whole, "a") == [0.3]
    assert latencies(evaluator("later", Scripted({}), header=on_gpu), "a") == [0.3]


def test_errors_are_samples_but_not_shared(evaluator: Make) -> None:
    failed = Scripted({"a": Measurement(error="timeout", detail="the run took longer than 1 s")})
    one = evaluator("one", failed)
    assert latencies(one, "a") == [None] == latencies(one, "a")
    assert failed.seen == ["a"]
    assert latencies(evaluator("two", Scripted({})), "a") == [0.5]  # another run tries for itself


def test_what_was_measured_before_the_device_went_away_is_kept(evaluator: Make) -> None:
    dying = Scripted({"b": DeviceError("the tracker is gone")})
    one = evaluator("one", dying)
    with pytest.raises(DeviceError):
        latencies(one, "a", "b", "c")
    again = Scripted({})
    assert latencies(evaluator("one", again), "a", "b", "c") == [0.5] * 3
    assert again.seen == ["b", "c"]


def test_the_measurer_learns_the_best_so_far(evaluator: Make) -> None:
    measurer = Scripted({"a": Measurement((0.3,)), "b": Measurement((0.1,), "wrong_result")})
    one = evaluator("one", measurer)
    latencies(one, "a", "b")
    latencies(one, "c")
    assert measurer.bests == [None, 0.3]


def test_the_use_of_the_device_is_noted_only_when_it_was_used(evaluator: Make) -> None:
    one = evaluator("one", Scripted({}))
    latencies(one, "a")
    latencies(one, "a")
    assert len(one.intervals) == 1 and one.intervals[0][0] <= one.intervals[0][1]
    assert one.measured == 1


def test_a_replay_needs_no_device_and_misses_with_the_way_out(evaluator: Make) -> None:
    one = evaluator("one", Scripted({}))
    latencies(one, "a")
    replay = evaluator("one", None)
    assert latencies(replay, "a") == [0.5]
    with pytest.raises(ReplayMissError, match="record=missing device=local"):
        latencies(replay, "b")


def test_a_baseline_that_fails_is_tried_again(evaluator: Make) -> None:
    one = evaluator("one", Scripted({"base": Measurement(error="timeout", detail="too long")}))
    with pytest.raises(DeviceError, match="the unoptimized w failed: timeout"):
        one.baseline_secs(cast(tvm.IRModule, "base"))
    assert evaluator("one", Scripted({})).baseline_secs(cast(tvm.IRModule, "base")) == 0.5
