"""A model of the user's own, from its file to tuned kernels: real TVM, kernels with a deterministic measurer."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.model_api import TunedModel
from colt_pipeline.records import Measurement
from colt_pipeline.runs.events import Started
from colt_pipeline.runs.journal import read_events
from colt_pipeline.runs.layout import JOURNAL, WHOLE_MODEL, run_directory
from colt_pipeline.whole_model import plan
from colt_pipeline.whole_model.job import tune
from colt_pipeline.whole_model.plan import announcement, planned
from colt_pipeline.whole_model.report import shown
from colt_pipeline.workloads.catalogue import extracted, model
from stages.benchmarks.hashes import HashMeasurer
from tests.support import configured

pytestmark = pytest.mark.tvm

Own = Callable[..., Config]

BRIEF = (
    "workload=own_model",
    "search.batch_size=2",
    "search.candidates=3",
    "search.initial_programs=2",
    "search.draws_per_proposal=1",
    "search.widening=0",
    "model_set=2",
    "prepack=true",
    "samples=8",
)


def whole(*given: Any) -> list[Measurement]:
    """Of the tuned model, and of the untuned one if that is asked for."""
    return [Measurement((0.01,), max_relative_error=0.0), Measurement((0.04,), max_relative_error=0.0)][: 1 + given[5]]


def perceptron() -> tvm.IRModule:
    """softmax(relu(x a + b) c): two products with weights, and work of other kinds."""
    rng, builder = np.random.default_rng(0), relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((8, 64), "float32"))
    a, b, c = (rng.standard_normal(s).astype("float32") for s in ((64, 128), (128,), (128, 64)))
    with builder.function("main", [x]):
        with builder.dataflow():
            hidden = builder.emit(relax.op.add(relax.op.matmul(x, relax.const(a)), relax.const(b)))
            hidden = builder.emit(relax.op.nn.relu(hidden))
            out = builder.emit(relax.op.nn.softmax(relax.op.matmul(hidden, relax.const(c)), -1))
            flat = builder.emit_output(relax.op.reshape(out, (1, 512)))
        builder.emit_func_output(flat)
    return builder.get()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "perceptron.json"
    path.write_text(tvm.ir.save_json(perceptron()))
    return path


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, own: Own) -> Path:
    """Results of a run of that model. Tests copy them and never change them."""
    path = tmp_path_factory.mktemp("tuned") / "results"
    tune(own(path), HashMeasurer, whole)
    return path


@pytest.fixture(scope="module")
def own(source: Path, others: Path) -> Own:
    """A configuration that tunes this model, or the one in another file."""
    places = (f"workload.source={source}", f"pretraining={others}")
    return lambda results, *more: configured(*BRIEF, *places, f"results={results}", *more)


def directory(config: Config) -> Path:
    return run_directory(config.results, config.experiment, config.run)


def contents(config: Config) -> dict[str, bytes]:
    found = [*directory(config).rglob(JOURNAL), directory(config) / WHOLE_MODEL]
    return {str(path.relative_to(directory(config))): path.read_bytes() for path in found}


def test_products_are_searched_with_packed_weights_and_views_are_left(own: Own, tmp_path: Path) -> None:
    config = own(tmp_path)
    kernels = planned(config, extracted(model(**vars(config.workload)), True))
    roles = {kernel.task.shape: (kernel.role, kernel.task.constants) for kernel in kernels}
    assert roles == {
        "8x64, 64x128, 128 -> 8x128": ("tuned", (1,)),
        "8x128, 128x64 -> 8x64": ("tuned", (1,)),
        "8x64 -> 8x64": ("tuned", ()),
        "8x64 -> 1x512": ("left", ()),
    }
    assert sum(kernel.share for kernel in kernels) == pytest.approx(1)
    said = "\n".join(announcement(config, kernels, {"softmax": 1e-3, "matmul1": 3e-3}))
    assert "4 kernels, 4 calls; 3 are worth tuning" in said and "weights packed ahead" in said
    assert "1 ms     25.0 %" in said and "3 ms     75.0 %" in said
    assert "8 samples take about" in said and "it only gives a tensor another shape" in said


def test_with_few_samples_the_smaller_kernels_get_one_program_each(own: Own, tmp_path: Path) -> None:
    config = own(tmp_path, "samples=2")
    kernels = planned(config, extracted(model(**vars(config.workload)), True))
    assert sorted(kernel.role for kernel in kernels) == ["drawn", "drawn", "left", "tuned"]
    assert max(kernels, key=lambda kernel: kernel.share).role == "tuned"


def test_a_kernel_that_is_not_worth_a_search_gets_one_program(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_WORTH_TUNING", {"roofline": 0.2})
    config = own(tmp_path)
    found = tune(config, HashMeasurer, whole)
    (softmax,) = (row for row in found.summary["tasks"] if row["shape"] == "8x64 -> 8x64")
    assert (softmax["role"], softmax["samples"]) == ("drawn", 1)
    kinds = [event.kind for event in read_events(directory(config) / softmax["task"] / JOURNAL)]
    assert kinds == ["started", "planted", "measured", "finished"], "and asks no model"


def test_a_replay_gives_the_same_bytes(own: Own, results: Path, tmp_path: Path) -> None:
    first = own(results)
    shutil.copytree(results / "recordings", tmp_path / "recordings")
    replay = own(tmp_path, "record=replay")
    tune(replay, None, None)
    assert contents(replay) == contents(first)


def test_what_is_reported(own: Own, results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "recordings", tmp_path / "recordings")
    config = own(tmp_path, "record=replay")
    summary = tune(config).summary
    assert (summary["unoptimized_secs"], summary["unoptimized_how"]) == (0.04, "measured whole")
    assert (summary["tuned_secs"], summary["speedup"]) == (0.01, 4)
    assert summary["prepack"] and summary["reference"] == "TVM, unscheduled"
    rows = {row["shape"]: row for row in summary["tasks"]}
    assert len(rows) == 3, "one that is left as it is was not measured"
    assert rows["8x64, 64x128, 128 -> 8x128"]["packed"] == [1]
    assert all(row["best_secs"] <= row["unoptimized_secs"] for row in rows.values())
    text = shown(config, summary)
    assert "weights packed ahead" in text and "stand-ins" in text and "colt_pipeline.export" in text


def test_packed_kernels_say_so_in_their_names(own: Own, results: Path) -> None:
    config = own(results)
    begun = [read_events(path)[0] for path in directory(config).rglob(JOURNAL)]
    names = {event.workload for event in begun if isinstance(event, Started)}
    assert sum(name.endswith("-packed-1") for name in names) == 2 and len(names) == 3


def test_a_limit_in_minutes_ends_the_search_and_more_minutes_go_on(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock that shows a minute more at each look."""
    now = iter(range(0, 10**6, 60))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(now)))
    timed = ("samples=200", "run=timed")
    first = tune(own(tmp_path, *timed, "minutes=5"), HashMeasurer, whole).summary
    assert first["stopped"] == "limit" and 0 < first["samples"] < 200
    more = own(tmp_path, *timed, "minutes=12")
    second = tune(more, HashMeasurer, whole).summary
    assert second["samples"] > first["samples"]
    shutil.copytree(tmp_path / "recordings", tmp_path / "again" / "recordings")
    replay = own(tmp_path / "again", *timed, "minutes=12", "record=replay")
    tune(replay)
    assert contents(replay) == contents(more)


def test_a_tuned_model_can_be_called(own: Own, results: Path, tmp_path: Path) -> None:
    shutil.copytree(results / "recordings", tmp_path / "recordings")
    config = own(tmp_path, "record=replay")
    tuned = TunedModel(tune(config), config.measure.vector_math, directory(config))
    (x,) = tuned.kernels.whole.model.inputs()
    (expected,) = tuned.kernels.whole.model.reference([x])
    assert tuned.kernels.modules, "some kernel is scheduled"
    assert np.abs(tuned(x) - expected).max() < 1e-5
    assert any(len(weight.shape) > 2 for weight in tuned.weights), "a weight is packed"
    with pytest.raises(ConfigError, match=r"the input x has shape \(4, 64\)"):
        tuned(x[:4])
    with pytest.raises(ConfigError, match="takes 1 inputs, and 2 were given"):
        tuned(x, x)


def test_what_is_not_a_model_is_a_message(own: Own, source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the file of a model"):
        configured(*BRIEF)
    with pytest.raises(ConfigError, match="prepack=true packs weights"):
        own(tmp_path, "++workload.constant=[1]")
    with pytest.raises(ConfigError, match="is for a whole model: workload=own_model"):
        configured("workload=own", f"workload.source={source}", "++workload.weights=w.npz")
    (tmp_path / "text.json").write_text("[]")
    with pytest.raises(ConfigError, match="not an IRModule"):
        tune(own(tmp_path, f"workload.source={tmp_path / 'text.json'}"))


def test_a_model_without_kernels_to_tune_is_a_message(own: Own, tmp_path: Path) -> None:
    builder, x = relax.BlockBuilder(), relax.Var("x", relax.TensorType((8, 64), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            flat = builder.emit_output(relax.op.reshape(x, (512,)))
        builder.emit_func_output(flat)
    path = tmp_path / "view.json"
    path.write_text(tvm.ir.save_json(builder.get()))
    with pytest.raises(ConfigError, match="nothing to tune in view-.*: reshape: it only gives a tensor another shape"):
        tune(own(tmp_path, f"workload.source={path}"))
