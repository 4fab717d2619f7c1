"""The Python API: a kernel in, a schedule out, whoever calls it and however often."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from colt_pipeline import Tuned, api, from_python, tune_module
from colt_pipeline.assemble import assemble
from colt_pipeline.config.compose import CONF, composed
from colt_pipeline.errors import ConfigError, UnfinishedError
from colt_pipeline.records import Measurement
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.workloads.catalogue import build
from stages.benchmarks.hashes import HashMeasurer
from tests.support import ROOT

pytestmark = pytest.mark.tvm

SMALL: dict[str, Any] = {"search": "paper", "search.sample": "program", "model_set": "2", "measure.builders": 1}


def confirming(count: int) -> dict[str, Any]:
    return {"measure.confirm": count}


@pytest.fixture
def module() -> tvm.IRModule:
    """A small matrix product, as a user might have it."""
    return build("deepseek_r1_moe", {"batch": 1, "tokens": 16, "inner": 128, "outer": 64}).module


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[HashMeasurer]]:
    """Nothing is built or timed; yields what was used to measure."""
    made: list[HashMeasurer] = []

    def make(*_: object) -> HashMeasurer:
        made.append(HashMeasurer())
        return made[-1]

    monkeypatch.setattr(api, "assemble", partial(assemble, make_measurer=make))
    monkeypatch.chdir(tmp_path)
    yield made


def test_a_module_becomes_a_schedule_that_is_right_and_a_run(
    module: tvm.IRModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tuned = tune_module(module, samples=4, name="my kernel", **SMALL, **confirming(1))
    assert tuned.is_confirmed and tuned.measurement == "measured"
    assert 0 < tuned.latency_secs < 1 and 0 < tuned.baseline_secs < 1
    assert tuned.run_directory.is_relative_to(tmp_path / "results" / "runs" / "adhoc")
    assert tuned.run_directory.parent.name.startswith("my_kernel-")
    again = tvm.s_tir.Schedule(module)
    tuned.trace.apply_to_schedule(again, remove_postproc=False)
    assert tvm_ffi.structural_equal(again.mod, tuned.module)

    a, b = (
        np.random.default_rng(n).random(shape, dtype="float32") for n, shape in enumerate([(1, 16, 128), (128, 64)])
    )
    shapes = [tuple(int(n) for n in p.ty.shape) for p in module["main"].params]
    assert shapes == [a.shape, b.shape, (1, 16, 64)]
    out = tvm.runtime.tensor(np.zeros(shapes[2], "float32"))
    tvm.compile(tuned.module, target="llvm").mod["main"](tvm.runtime.tensor(a), tvm.runtime.tensor(b), out)
    assert np.allclose(out.numpy(), a @ b, rtol=1e-4)
    exported = tuned.export(tmp_path / "exported")
    assert (exported / "run.py").exists() and (exported / "scheduled.py").exists()


def test_the_same_call_gives_the_same_result_and_measures_nothing(
    module: tvm.IRModule, hashed: list[HashMeasurer]
) -> None:
    first = tune_module(module, samples=4, **SMALL)
    seen = [len(each.seen) for each in hashed]
    second = tune_module(module["main"], samples=4, **SMALL)
    assert [len(each.seen) for each in hashed] == seen
    assert second.run_directory == first.run_directory and first.run_directory.parent.name.startswith("main-")
    assert second.latency_secs == first.latency_secs and str(second.trace) == str(first.trace)


def test_a_confirmed_winner_may_be_another_than_the_searchs(
    module: tvm.IRModule, hashed: list[HashMeasurer], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tune_module(module, samples=6, **SMALL, **confirming(0))
    assert not plain.is_confirmed

    class Reversed(HashMeasurer):
        def measure(self, modules: Any, best_secs: float | None) -> Iterator[Measurement]:
            for each in super().measure(modules, best_secs):
                yield each if best_secs is not None else Measurement((1 / each.run_secs[0],))

    monkeypatch.setattr(api, "assemble", partial(assemble, make_measurer=Reversed))
    tuned = tune_module(module, samples=6, **SMALL, **confirming(3))
    assert tuned.is_confirmed and tuned.latency_secs > plain.latency_secs
    assert str(tuned.trace) != str(plain.trace) and tuned.run_directory == plain.run_directory


def test_hydra_stays_as_its_user_has_it(module: tvm.IRModule, hashed: list[HashMeasurer]) -> None:
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        tune_module(module, samples=2, **SMALL)
        assert compose("config", ["seed=7"]).seed == 7
    assert not GlobalHydra.instance().is_initialized()


def test_threads_may_tune_at_once(module: tvm.IRModule, hashed: list[HashMeasurer]) -> None:
    def tuned(seed: int) -> Tuned:
        return tune_module(module, samples=2, seed=seed, **SMALL)

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(tuned, (1, 2))
    assert first.run_directory != second.run_directory


def test_values_are_not_syntax(module: tvm.IRModule, hashed: list[HashMeasurer], tmp_path: Path) -> None:
    strange = tmp_path / "a,b 'c' {d}=[e]\\"
    tuned = tune_module(module, samples=2, results=strange, **SMALL)
    assert tuned.run_directory.is_relative_to(strange)


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("it's", "it's"),
        ("back\\", "back\\"),
        ("\\'", "\\'"),
        ("\\\\'x", "\\\\'x"),
        ("a,b", "a,b"),
        ("null", "null"),
        ("8", "8"),
        (" [x] ", " [x] "),
        ('"', '"'),
    ],
)
def test_every_text_arrives_as_it_is(value: str, kept: str) -> None:
    assert composed([f"device={from_python._written('device', value)}"]).device == kept


def test_values_have_the_types_that_they_have_in_python() -> None:
    given: dict[str, Any] = {
        "minutes": None,
        "stand_ins": False,
        "samples": 3,
        "search.c": 0.5,
        "+model_sets.mine": ["gpt-5.2", "qwen3-8b"],
        "workload.shape": {"batch": 1, "tokens": 2, "inner": 3, "outer": 4},
        "llm.temperature": None,
    }
    config = composed(
        ["workload=deepseek_r1_moe", *(f"{key}={from_python._written(key, value)}" for key, value in given.items())]
    )
    assert (config.minutes, config.stand_ins, config.samples, config.search.c) == (None, False, 3, 0.5)
    assert config.model_sets["mine"] == ["gpt-5.2", "qwen3-8b"] and config.llm.temperature is None
    assert config.workload.shape == given["workload.shape"]
    with pytest.raises(ConfigError, match="seed=.* is of type object, which a configuration cannot hold"):
        from_python._written("seed", object())


@pytest.mark.parametrize(
    ("target", "keys"),
    [
        (None, {}),
        ("llvm", {"target": "cpu"}),
        ({"kind": "llvm", "num-cores": 2}, {"target": "cpu", "target.cores": 2}),
        (
            lambda: tvm.target.Target({"kind": "llvm", "mcpu": "znver4", "num-cores": 1}),
            {"target": "cpu", "target.cores": 1, "target.mcpu": "znver4"},
        ),
        ("cuda", {"target": "gpu"}),
        (lambda: tvm.target.Target("cuda"), {"target": "gpu"}),
        ({"kind": "cuda", "arch": "sm_90"}, {"target": "gpu", "target.arch": "sm_90"}),
    ],
)
def test_tvms_targets_are_keys_of_the_configuration(target: Any, keys: dict[str, Any]) -> None:
    made = target() if isinstance(target, Callable) else target  # type: ignore[arg-type]
    assert from_python.target_keys(made) == keys
    composed([f"{key}={from_python._written(key, value)}" for key, value in keys.items()])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("abacus", "target=abacus is not a target of TVM: "),
        (7, "target=7 is not a target of TVM: "),
        ("c", "target=c is of kind c; choose one of kind llvm or cuda"),
        (
            {"kind": "llvm", "mattr": ["+avx2"]},
            "sets mattr, which this search does not know; give only num-cores and mcpu",
        ),
        ({"kind": "llvm", "mtriple": "aarch64-linux-gnu"}, "sets mtriple"),
    ],
)
def test_a_target_that_cannot_be_tuned_for_is_refused(target: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_python.target_keys(target)


def test_a_bad_key_is_refused_before_anything_is_written(module: tvm.IRModule, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="frobnicate"):
        tune_module(module, frobnicate=3, results=tmp_path / "results")
    with pytest.raises(ConfigError, match="magic"):
        tune_module(module, results=tmp_path / "results", search="magic")
    assert list(tmp_path.iterdir()) == []


def test_minutes_replace_samples(module: tvm.IRModule, hashed: list[HashMeasurer]) -> None:
    tuned = tune_module(module, samples=None, minutes=0.001, **SMALL)
    assert "-n10000-" in tuned.run_directory.name
    (clock,) = (tuned.run_directory.parents[3] / "recordings").rglob("clock.jsonl")
    assert len(read_lines(clock)) == 1


def test_if_nothing_ran_an_error_says_why(
    module: tvm.IRModule, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Failing(HashMeasurer):
        def measure(self, modules: Any, best_secs: float | None) -> Iterator[Measurement]:
            for each in super().measure(modules, best_secs):
                yield each if best_secs is None else Measurement(error="crash", detail="signal 11")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "assemble", partial(assemble, make_measurer=Failing))
    with pytest.raises(UnfinishedError, match=r"none of the 2 measured programs of .* ran \(crash\)"):
        tune_module(module, samples=2, **SMALL)


def test_importing_the_package_imports_no_tvm() -> None:
    code = "import sys, colt_pipeline; print('tvm' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    with pytest.raises(AttributeError, match="has no attribute 'tune_modul'"):
        __import__("colt_pipeline").tune_modul  # noqa: B018
