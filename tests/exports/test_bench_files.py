"""The programs that come with a library: they load it without TVM's compiler, and accept right results only."""

from __future__ import annotations

import runpy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exports.programs import build, run, run_built

pytestmark = pytest.mark.tvm

TYPES = {
    **{"float64": 1e-10, "float32": 1e-4, "float16": 2e-2, "bfloat16": 5e-2, "float8_e4m3fn": 0.1, "float8_e5m2": 0.2},
    **dict.fromkeys(("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"), 0.0),
}
"""Type of an output -> its tolerance."""
ROWS, TERMS = 5, 7


def workload() -> Any:
    """Row sums of a float32, a bfloat16 and an int8 matrix, rounded to integers, once for each type of output."""
    from tvm import te

    from colt_pipeline.workloads.workload import Workload

    types = {"A": "float32", "B": "bfloat16", "C": "int8"}
    matrices = [te.placeholder((ROWS, TERMS), dtype, name=name) for name, dtype in types.items()]
    k = te.reduce_axis((0, TERMS), name="k")

    def term(i: Any) -> Any:
        a, b, c = (te.abs(matrix[i, k].astype("float32")) for matrix in matrices)
        return te.sum(te.trunc(a) + te.trunc(b) + te.trunc(c / 100), axis=k)

    def cast(dtype: str) -> Callable[[Any], Any]:
        return lambda i: total[i].astype(dtype)

    def reference(*arrays: Any) -> list[Any]:
        a, b, c = (np.abs(array.astype(np.float32)) for array in arrays)
        return [(np.trunc(a) + np.trunc(b) + np.trunc(c / 100)).sum(axis=1)] * len(TYPES)

    total = te.compute((ROWS,), term, name="total")
    outputs = [te.compute((ROWS,), cast(dtype), name=f"out_{dtype}") for dtype in TYPES]
    main = te.create_prim_func([*matrices, *outputs])
    return Workload("many types", {}, main, reference, 0, tuple(TYPES.values()), is_own=True)


def written(directory: Path) -> Path:
    """The library and its programs in a new directory."""
    import tvm

    from colt_pipeline.exports.bench_files import write_bench
    from colt_pipeline.exports.library import identifier, write_library

    directory.mkdir()
    kernel = workload()
    target = {"kind": "llvm", "num-cores": 2, "mcpu": str(tvm.target.codegen.llvm_get_system_cpu())}
    name = identifier(kernel.name)
    assert write_library(directory, kernel.module, name, target, vector_math=False) == ""
    write_bench(directory, kernel, name, 2)
    return directory


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the outputs whose reference is kept as float64, all but one element are checked."""
    with pytest.MonkeyPatch.context() as limits:
        limits.setattr("colt_pipeline.exports.bench_files.WHOLE_BYTES", 4 * ROWS)
        limits.setattr("colt_pipeline.exports.bench_files.SAMPLED", ROWS - 1)
        return written(tmp_path_factory.mktemp("bench") / "many")


def test_every_type_is_checked_in_python(bench: Path) -> None:
    done = run(bench)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0].partition(" ")[0] for line in lines] == [*(f"out_{t}" for t in TYPES), "many_types"]
    sampled = [line for line in lines if f" ({ROWS - 1} elements of it): right" in line]
    assert len(sampled) == len([dtype for dtype in TYPES if "int" in dtype or dtype == "float64"])
    assert len(np.load(bench / "data" / "3_out_float64_positions.npy")) == ROWS - 1
    assert all(": right, relative error" in line for line in lines[:-1])
    assert "median of 15, warm, 2 threads" in lines[-1]


@pytest.fixture(scope="module")
def program(bench: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which the C++ program is built, as its head says."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    copy = tmp_path_factory.mktemp("built") / "many"
    shutil.copytree(bench, copy)
    build(copy)
    return copy


def test_every_type_is_checked_in_cpp(program: Path) -> None:
    done = run_built(program)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": right, relative error") == len(TYPES)
    assert "many_types: " in done.stdout


@pytest.mark.parametrize("dtype", TYPES)
def test_one_wrong_element_is_seen(program: Path, tmp_path: Path, dtype: str) -> None:
    shutil.copytree(program, tmp_path / "wrong")
    position = 3 + list(TYPES).index(dtype)
    path = tmp_path / "wrong" / "data" / f"{position}_out_{dtype}.npy"
    expected = np.load(path)
    expected[-1] *= 1.5
    np.save(path, expected)
    done = run_built(tmp_path / "wrong")
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if "WRONG" in line] == [
        line for line in done.stdout.splitlines() if line.startswith(f"{position}_")
    ]


def test_a_wrong_result_is_seen_in_python(bench: Path, tmp_path: Path) -> None:
    shutil.copytree(bench, tmp_path / "wrong")
    path = tmp_path / "wrong" / "data" / "3_out_float64.npy"
    np.save(path, np.load(path) + 1)
    done = run(tmp_path / "wrong")
    assert done.returncode == 1
    assert done.stdout.startswith("out_float64 (4 elements of it): WRONG") and done.stdout.count("WRONG") == 1


def test_a_missing_input_is_a_message_of_the_cpp_program(program: Path, tmp_path: Path) -> None:
    shutil.copytree(program, tmp_path / "lacking")
    (tmp_path / "lacking" / "data" / "0_A.npy").unlink()
    done = run_built(tmp_path / "lacking")
    assert done.returncode == 1
    assert done.stderr == "error: data/0_A.npy is missing; run: python run.py --save-inputs\n"


def test_inputs_that_are_not_random_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from colt_pipeline.workloads.data import numpy_dtype
    from colt_pipeline.workloads.workload import Workload

    types = ("float32", "bfloat16", "int8")
    values = [np.full((ROWS, TERMS), number + 1, np.float32).astype(numpy_dtype(t)) for number, t in enumerate(types)]
    monkeypatch.setattr(Workload, "inputs", lambda self: values)
    directory = written(tmp_path / "mine")
    assert {"0_A.npy", "1_B.npy", "2_C.npy"} <= {path.name for path in (directory / "data").iterdir()}
    done = run(directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": right, relative error") == len(TYPES)


@pytest.mark.parametrize("dtype", [*TYPES, "bool"])
def test_inputs_are_those_of_the_workload(bench: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from colt_pipeline.workloads.data import random_values

    monkeypatch.setenv("TVM_NUM_THREADS", "2")
    monkeypatch.setenv("TVM_FFI_DISABLE_TORCH_C_DLPACK", "1")
    again = runpy.run_path(str(bench / "run.py"))["random_input"](4, (3, 5), dtype)
    ours = random_values((3, 5), dtype, np.random.default_rng([2026, 4]))
    assert again.dtype == ours.dtype and again.tobytes() == ours.tobytes()
