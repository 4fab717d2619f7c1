"""A whole model as a user tunes it: real TVM, kernels with a deterministic measurer, the model measured once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import tvm
from tvm import te

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError, DeviceError, ReplayMissError
from colt_pipeline.measurement.devices import host_cpu
from colt_pipeline.measurement.whole_model import measure_model
from colt_pipeline.records import Measurement
from colt_pipeline.runs.events import Measured, Planted
from colt_pipeline.runs.journal import read_events
from colt_pipeline.runs.layout import WHOLE_MODEL, WHOLE_MODEL_MEASUREMENTS
from colt_pipeline.whole_model import plan
from colt_pipeline.whole_model.job import tune
from colt_pipeline.workloads.catalogue import extracted, model
from stages.benchmarks.hashes import HashMeasurer
from tests.support import Compose, configured

pytestmark = pytest.mark.tvm

TINY = (
    "workload=models/llama3_8b",
    "workload.shape={layers: 2, hidden: 32, heads: 2, kv_heads: 1, head_dim: 16, intermediate: 64, vocabulary: 96, "
    "tokens: 4}",
    "experiment=end_to_end",
    "model_set=4",
    "search.batch_size=2",
    "search.candidates=3",
    "search.initial_programs=2",
    # Of two traces that give the same program, a process keeps the one it saw first, even from rejected draws; loops as
    # short as these have many such traces.
    "search.draws_per_proposal=1",
    "search.widening=0",
    "samples=16",
)


def whole(*_: object) -> list[Measurement]:
    return [Measurement((0.01,), max_relative_error=0.0)]


def never(*_: object) -> Any:
    raise AssertionError("nothing is left to measure")


def directory(config: Config) -> Path:
    return Path(config.results) / "runs" / config.experiment / config.run


def journals(config: Config) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in directory(config).rglob("events.jsonl")}


class Killed(HashMeasurer):
    """Interrupts after this many measurements over all kernels."""

    left = 0

    def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
        for measurement in super().measure(modules, best_secs):
            if Killed.left == 0:
                raise KeyboardInterrupt
            Killed.left -= 1
            yield measurement


@pytest.fixture
def tiny(composed: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The configuration of a small model whose four largest kernels are worth tuning."""
    monkeypatch.setattr(plan, "_WORTH_TUNING", {"flop": 0.12})

    def make(name: str, *more: str) -> Config:
        return composed(*TINY, f"results={tmp_path / name}", *more)

    return make


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, others: Path) -> tuple[Path, dict[str, Any]]:
    """Results of that model, tuned without an interruption, and its summary. Tests copy them and never change them."""
    directory = tmp_path_factory.mktemp("tuned")
    places = (f"results={directory / 'results'}", f"pretraining={others}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_WORTH_TUNING", {"flop": 0.12})
        return directory / "results", tune(configured(*TINY, *places), HashMeasurer, whole).summary


def test_kill_and_resume_equals_uninterrupted_equals_replay(
    tiny: Any, tuned: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    first, parts = tiny("first"), tiny("parts")
    results, summary = tuned
    shutil.copytree(results, tmp_path / "first")
    assert summary["samples"] in (16, 17)
    for Killed.left in (14, 9):
        with pytest.raises(KeyboardInterrupt):
            tune(parts, Killed, whole)
    tune(parts, HashMeasurer, whole)
    assert journals(parts) == journals(first)
    shutil.copytree(tmp_path / "first" / "recordings", tmp_path / "replay" / "recordings")
    replay = tiny("replay", "record=replay")
    tune(replay, never, never)
    assert journals(replay) == journals(first)
    assert {(directory(c) / WHOLE_MODEL).read_bytes() for c in (first, parts, replay)} == {
        (directory(first) / WHOLE_MODEL).read_bytes()
    }
    tune(first, never, never)  # finished: nothing remains
    assert journals(replay) == journals(first)
    (recording,) = (tmp_path / "replay" / "recordings").rglob(WHOLE_MODEL_MEASUREMENTS)
    recording.unlink()
    shutil.rmtree(tmp_path / "replay" / "runs")
    with pytest.raises(ReplayMissError, match="the model with these kernels was not measured"):
        tune(replay, never, never)


def test_each_kernel_starts_from_its_own_best(
    tiny: Any, tuned: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    results, summary = tuned
    config = tiny("again", "run=again", f"start_from={results}")
    tune(config, HashMeasurer, whole)
    said = capsys.readouterr().err
    earlier = directory(configured(*TINY, f"results={results}"))
    for row in summary["tasks"]:
        if not row["tuned"]:
            assert f"again/{row['task']} " not in said, "a kernel that is not tuned starts from nothing"
            continue
        before, after = (read_events(path / row["task"] / "events.jsonl") for path in (earlier, directory(config)))
        samples = [s for event in before if isinstance(event, Measured) for s in event.samples if s.latency_secs]
        best = sorted(samples, key=lambda s: s.latency_secs or 0.0)[:2]
        (planted,) = (event for event in after if isinstance(event, Planted))
        assert [child.program for child in planted.children] == [sample.program for sample in best]
        assert f"again/{row['task']}  starts from 2 programs" in said


def test_every_kernel_counts_and_statistics_are_shared(tuned: tuple[Path, dict[str, Any]]) -> None:
    results, summary = tuned
    run = directory(configured(*TINY, f"results={results}"))
    rows = {row["task"]: row for row in summary["tasks"]}
    assert summary["unoptimized_secs"] == pytest.approx(
        sum(row["weight"] * row["unoptimized_secs"] for row in rows.values())
    )
    assert all((row["samples"] > 0) == row["tuned"] for row in rows.values())
    assert all(row["best_secs"] <= row["unoptimized_secs"] for row in rows.values())
    assert any(not row["tuned"] for row in rows.values()), "copies stay as they are, and are counted"
    assert (summary["tuned_secs"], summary["tuned_how"]) == (0.01, "measured whole")
    for name, row in rows.items():
        kinds = [event.kind for event in read_events(run / name / "events.jsonl")]
        assert kinds[0] == "started" and kinds[-1] == "finished" and (len(kinds) > 2) == row["tuned"]
        assert (run / name / "summary.json").exists(), "a kernel is an ordinary run"


def test_tuned_and_untuned_models_agree_for_real(tiny: Any, tuned: tuple[Path, dict[str, Any]]) -> None:
    """With scheduled kernels, the model still computes what NumPy does; this is checked before timing."""
    config = tiny("results")
    shutil.copytree(tuned[0] / "recordings", Path(config.results) / "recordings")
    for recording in Path(config.results).rglob(WHOLE_MODEL_MEASUREMENTS):
        recording.unlink()
    seen: list[Measurement] = []

    def measured(*given: Any) -> list[Measurement]:
        assert 0 < len(given[2]) <= 4
        seen.extend(measure_model(*given))
        return seen

    summary = tune(config, HashMeasurer, measured).summary
    assert seen[0].max_relative_error is not None and seen[0].max_relative_error < 1e-4
    assert summary["tuned_secs"] == seen[0].latency_secs


def test_a_model_with_a_wrong_kernel_is_refused(tiny: Any) -> None:
    config = tiny("results")
    tasks = extracted(model(**vars(config.workload)), False).tasks
    task = next(t for t in tasks if t.shape == "4x32, 32x16 -> 4x16")  # keys and values
    a, b = te.placeholder((4, 32), name="a"), te.placeholder((32, 16), name="b")
    k = te.reduce_axis((0, 32), name="k")
    c = te.compute((4, 16), lambda i, j: te.sum(2 * a[i, k] * b[k, j], axis=k), name="matmul")
    wrong = {task.name: tvm.IRModule({"main": te.create_prim_func([a, b, c])})}
    target = {"kind": "llvm", "num-cores": 1, "mcpu": host_cpu(1).facts["mcpu"]}
    with pytest.raises(DeviceError, match=r"wrong_result \(relative error"):
        measure_model(config.workload, False, wrong, target, config.measure)


def test_too_few_samples_and_unknown_models_are_messages(tiny: Any) -> None:
    with pytest.raises(ConfigError, match="samples=3 must be at least"):
        tune(tiny("few", "samples=3"), HashMeasurer, whole)
    with pytest.raises(ConfigError, match="gpt2 is not a model that can be tuned as a whole"):
        tune(tiny("other", "workload.name=gpt2"), HashMeasurer, whole)
