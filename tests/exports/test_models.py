"""A whole model, exported: it runs without TVM's compiler, and is made of the file that its run names."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colt_pipeline.config.compose import composed
from colt_pipeline.config.schema import Config, MeasureConfig, WorkloadConfig
from colt_pipeline.export import main
from colt_pipeline.records import Measurement
from colt_pipeline.runs.layout import run_directory
from stages.benchmarks.hashes import HashMeasurer
from tests.exports.programs import build, run, run_built

pytestmark = pytest.mark.tvm

MODEL = """
@I.ir_module
class Module:
    @R.function
    def main(
        x: R.Tensor((16, 64), "float32"), u: R.Tensor((64, 32), "float32"), v: R.Tensor((32, 64), "float32")
    ) -> R.Tuple(R.Tensor((16, 64), "float32"), R.Tensor((16, 32), "float32")):
        with R.dataflow():
            y = R.nn.relu(R.matmul(x, u))
            z = R.matmul(y, v)
            out = (z, y)
            R.output(out)
        return out
"""
"""Two kernels, each with a weight of 8 KiB, and two outputs."""
HALF = """
@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor((16, 64), "float32"), u: R.Tensor((64, 64), "bfloat16")) -> R.Tensor((16, 64), "float32"):
        with R.dataflow():
            y = R.matmul(R.astype(x, "bfloat16"), u, out_dtype="float32")
            R.output(y)
        return y
"""
SHORT = ("workload=own_model", "prepack=true", "space=extended", "model_set=2", "samples=8", "search.batch_size=2")
FILES = {"README.md", "export.json", "main.cc", "model.so", "run.py", "vector_math.py"}


def write_model(path: Path, seed: int, model: str = MODEL) -> None:
    """The model as a file, with random weights as constants."""
    import tvm
    from tvm import relax

    from colt_pipeline.workloads.data import numpy_dtype

    module = tvm.script.from_source(model)
    rng = np.random.default_rng(seed)
    shapes = {p.name: tuple(int(n) for n in p.ty.shape) for p in module["main"].params[1:]}
    types = {p.name: numpy_dtype(str(p.ty.dtype.dtype)) for p in module["main"].params}
    drawn = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    weights = {name: tvm.runtime.tensor(values.astype(types[name])) for name, values in drawn.items()}
    bound = relax.transform.BindParams("main", weights)(module)
    path.write_text(tvm.ir.save_json(bound))


def whole(
    workload: WorkloadConfig,
    prepack: bool,
    modules: Mapping[str, Any],
    target: dict[str, Any],
    settings: MeasureConfig,
    beside: bool,
) -> list[Measurement]:
    return [Measurement((0.01,), max_relative_error=0.0), Measurement((0.04,), max_relative_error=0.0)]


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, others: Path) -> tuple[Config, Path]:
    """The configuration of a model's run, and the model's file. Tests copy the run and never change it."""
    from colt_pipeline.whole_model.job import tune

    place = tmp_path_factory.mktemp("model")
    source = place / "layers.json"
    write_model(source, 0)
    config = composed((f"results={place / 'results'}", f"pretraining={others}", f"workload.source={source}", *SHORT))
    tune(config, HashMeasurer, whole)
    return config, source


@pytest.fixture
def run_dir(tuned: tuple[Config, Path], tmp_path: Path) -> Path:
    """A copy of the run, with its recording."""
    config, _ = tuned
    results = shutil.copytree(config.results, tmp_path / "results")
    return run_directory(results, config.experiment, config.run)


@pytest.fixture(scope="module")
def export(tuned: tuple[Config, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's export. Tests copy it and never change it."""
    config, _ = tuned
    out = tmp_path_factory.mktemp("export") / "layers"
    database = out.parent / "database"
    run_dir = run_directory(config.results, config.experiment, config.run)
    assert main([str(run_dir), "--out", str(out), "--database", str(database)]) == 0
    return out


def test_a_model_becomes_a_library_that_runs(export: Path, tuned: tuple[Config, Path]) -> None:
    assert {path.name for path in export.iterdir() if path.is_file()} == FILES
    manifest = json.loads((export / "export.json").read_text())
    assert len(manifest["programs"]) == 2 and all(manifest["programs"].values())
    assert [path.name for path in sorted((export / "weights").iterdir())] == ["0000.npy", "0001.npy"]
    shapes = [np.load(path).shape for path in (export / "weights").iterdir()]
    assert all(np.prod(shape) == 2048 for shape in shapes) and any(len(shape) > 2 for shape in shapes), "packed"
    assert (export / "model.so").stat().st_size < 1 << 20
    here = str(Path(tuned[0].results).parent).encode()
    assert [path for path in export.rglob("*") if path.is_file() and here in path.read_bytes()] == []
    done = run(export)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.partition(",")[0] for line in done.stdout.splitlines()[:2]] == ["output_0: right", "output_1: right"]
    assert "median of 15, warm" in done.stdout


def test_wrong_weights_are_seen(export: Path, tmp_path: Path) -> None:
    wrong = Path(shutil.copytree(export, tmp_path / "wrong"))
    first = wrong / "weights" / "0000.npy"
    values = np.load(first)
    np.save(first, values + 1)
    done = run(wrong)
    assert done.returncode == 1 and "WRONG" in done.stdout
    np.save(first, values.reshape(-1))
    done = run(wrong)
    assert done.returncode == 1 and "weights/0000.npy is not float32 of shape" in done.stderr
    first.unlink()
    done = run(wrong)
    assert done.returncode == 1 and "weights/0000.npy is missing" in done.stderr


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_the_same_in_cpp(export: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(export, tmp_path / "built"))
    build(copy)
    done = run_built(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": right, relative error") == 2
    second = copy / "weights" / "0001.npy"
    np.save(second, np.load(second) + 1)
    done = run_built(copy)
    assert done.returncode == 1 and "WRONG" in done.stdout


def test_weights_of_types_that_numpy_lacks_are_stored_as_their_bits(tmp_path: Path, others: Path) -> None:
    from colt_pipeline.whole_model.job import tune

    source, out = tmp_path / "half.json", tmp_path / "out"
    write_model(source, 0, HALF)
    places = (f"results={tmp_path / 'results'}", f"pretraining={others}", f"workload.source={source}")
    config = composed((*places, *SHORT[:4], "samples=2", "search.batch_size=2"))
    tune(config, HashMeasurer, whole)
    assert main([str(run_directory(config.results, config.experiment, config.run)), "--out", str(out)]) == 0
    stored = [np.load(path) for path in (out / "weights").iterdir()]
    assert [values.dtype for values in stored] == [np.uint16]
    done = run(out)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_database_holds_every_tuned_kernel(export: Path) -> None:
    from tvm.s_tir import meta_schedule as ms

    for directory in (export / "database", export.parent / "database"):
        files = (str(directory / name) for name in ("workload.json", "tuning_record.json"))
        database = ms.database.JSONDatabase(*files)
        records = database.get_all_tuning_records()
        assert len(records) == 2
        for record in records:
            assert ms.tir_integration.compile_tir(database, record.workload.mod, record.target) is not None


def test_the_readme_says_what_it_is(export: Path, run_dir: Path) -> None:
    text = (export / "README.md").read_text()
    rows = json.loads((run_dir / "model.json").read_text())["tasks"]
    for words in (
        "| latency | 10 ms, measured whole, warm |",
        "| untuned | 40 ms, measured whole",
        "| speedup | 4.00x |",
        "| reference | TVM, unscheduled |",
        "gpt-5.2 (stand-in)",
        "apache-tvm 0.27",
        "takes the inputs and then the 2 weights",
        "- output_1: float32[16, 32], output",
        "    g++ -O2 main.cc -o main ",
        *(f"| {row['task']} | 1 | {row['shape']} | {row['unoptimized_secs'] * 1e3:.4g} ms |" for row in rows),
    ):
        assert words in text


def test_another_cpu_and_no_compiler(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        for name in ("CXX", "CC"):
            patch.delenv(name, raising=False)
        patch.setenv("PATH", str(tmp_path))
        assert main([str(run_dir), "--out", str(out), "export.mcpu=x86-64"]) == 0
    assert json.loads((out / "export.json").read_text())["target"]["mcpu"] == "x86-64"
    text = (out / "README.md").read_text()
    assert "mcpu=x86-64, num-cores=" in text and "not linked, because this machine has no C compiler" in text
    assert run(out).returncode == 1
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    (link,) = [line.strip() for line in text.splitlines() if line.startswith("    g++ -shared")]
    subprocess.run(link, cwd=out, shell=True, check=True)
    assert run(out).returncode == 0
    assert main([str(run_dir), "--out", str(out)]) == 0, "model.so, linked by hand, is known"


def test_the_model_is_read_from_the_file_that_was_tuned(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = json.loads((run_dir / "source.json").read_text())
    moved = shutil.copy(known["source"], tmp_path / "moved.json")

    def export(*more: str) -> str:
        status = main([str(run_dir), "--out", str(tmp_path / "out"), *more])
        captured = capsys.readouterr()
        return captured.err if status else ""

    (run_dir / "source.json").write_text(json.dumps({**known, "source": str(tmp_path / "gone.json")}))
    assert "gone.json, which is not there; name it with workload.source=FILE" in export()
    assert export(f"workload.source={moved}") == ""
    write_model(tmp_path / "gone.json", 1)
    assert "gone.json has changed since" in export()
    assert export(f"workload.source={tmp_path / 'gone.json'}") == "", "other weights, but the same kernels"
    assert run(tmp_path / "out").returncode == 0
    write_model(tmp_path / "other.json", 0, MODEL.replace("(16, ", "(8, "))
    assert "is not the model that" in export(f"workload.source={tmp_path / 'other.json'}")
    (run_dir / "source.json").write_text("{}")
    assert "does not name the files of a model" in export()
    (run_dir / "source.json").unlink()
    assert "does not say where its model is" in export()
    assert export(f"workload.source={moved}") == ""


def test_a_run_that_does_not_fit_is_one_message(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(run_dir: Path, *more: str) -> str:
        assert main([str(run_dir), "--out", str(tmp_path / "out"), *more]) == 1
        return capsys.readouterr().err

    kernel = next(path.parent for path in run_dir.glob("*/events.jsonl"))
    assert "is the run of one kernel" in export(kernel, "workload.source=model.py")
    summary = json.loads((run_dir / "model.json").read_text())
    summary["tasks"][0]["best_secs"] *= 2
    (run_dir / "model.json").write_text(json.dumps(summary))
    assert "the search went on since, or the recording is not beside the run" in export(run_dir)
    (run_dir / "model.json").write_text("{}")
    assert "is not the run of a model" in export(run_dir)
    (run_dir / "model.json").unlink()
    assert "has no model.json yet" in export(run_dir)
    assert not (tmp_path / "out").exists()
