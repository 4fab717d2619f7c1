"""Models as Relax modules: in Python, as JSON, and with weights in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm

from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads.extracted import ExtractedModel
from tests.workloads.models.common import EXTENDED, check, read, run, scheduled

pytestmark = pytest.mark.tvm

HEAD = """
import numpy as np
import tvm
from tvm import relax
from tvm.script import ir as I, relax as R, tirx as T
"""
MLP = (
    HEAD
    + """
@I.ir_module
class Module:
    @R.function
    def main(x: R.Tensor((4, 48), "float32"), w: R.Tensor((48, 64), "float32"), b: R.Tensor((64,), "float32")):
        R.func_attr({"num_input": 1})
        with R.dataflow():
            h = R.matmul(x, w)
            y = R.nn.relu(R.add(h, b))
            R.output(y)
        return y
"""
)
TWICE = (
    HEAD
    + """
@I.ir_module
class Module:
    @T.prim_func(private=True, s_tir=True)
    def first(A: T.Buffer((32, 32)), B: T.Buffer((32, 32)), C: T.Buffer((32, 32))):
        for i, j, k in T.grid(32, 32, 32):
            with T.sblock("C"):
                vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                with T.init():
                    C[vi, vj] = T.float32(0)
                C[vi, vj] = C[vi, vj] + A[vi, vk] * B[vk, vj]

    @T.prim_func(private=True, s_tir=True)
    def second(A: T.Buffer((32, 32)), B: T.Buffer((32, 32)), C: T.Buffer((32, 32))):
        for i, j, k in T.grid(32, 32, 32):
            with T.sblock("C"):
                vi, vj, vk = T.axis.remap("SSR", [i, j, k])
                with T.init():
                    C[vi, vj] = T.float32(0)
                C[vi, vj] = C[vi, vj] + A[vi, vk] * B[vk, vj]

    @R.function
    def main(x: R.Tensor((32, 32), "float32"), w: R.Tensor((32, 32), "float32"), v: R.Tensor((32, 32), "float32")):
        R.func_attr({"num_input": 1})
        cls = Module
        with R.dataflow():
            a = R.call_tir(cls.first, (x, w), R.Tensor((32, 32), "float32"))
            b = R.call_tir(cls.second, (a, v), R.Tensor((32, 32), "float32"))
            c = R.call_tir(cls.first, (b, SECOND), R.Tensor((32, 32), "float32"))
            R.output(c)
        return c
"""
)


def written(directory: Path, text: str) -> Path:
    path = directory / "mine.py"
    path.write_text(text)
    return path


def values(directory: Path, **arrays: np.ndarray) -> Path:
    np.savez(directory / "weights.npz", **arrays)  # type: ignore[arg-type]
    return directory / "weights.npz"


def square(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((32, 32), dtype=np.float32) / 5


W = np.random.default_rng(1).standard_normal((48, 64), dtype=np.float32)
B = np.ones(64, np.float32)


def test_weights_in_a_file(tmp_path: Path) -> None:
    model = read(written(tmp_path, MLP), weights=values(tmp_path, w=W, b=B, other=B))
    (task,) = run(model).tasks
    assert task.constants == (1,)
    inputs = model.inputs()
    np.testing.assert_allclose(model.reference(inputs)[0], np.maximum(inputs[0] @ W + B, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"w": W}, r"weights.npz lacks b of workload.source="),
        ({}, "lacks b, w of"),
        ({"w": W.T, "b": B}, r"w has shape \(64, 48\) and type float32; .* needs \(48, 64\) and float32"),
        ({"w": W.astype(np.float64), "b": B}, "type float64"),
        ({"w": np.array([None]), "b": B}, r"cannot be read as .npz: Object arrays cannot be loaded"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(written(tmp_path, MLP), weights=values(tmp_path, **arrays))


def test_files_of_weights_that_are_none(tmp_path: Path) -> None:
    path = written(tmp_path, MLP)
    with pytest.raises(ConfigError, match=r"has 2 weights as parameters \(num_input=1\); give their values"):
        read(path)
    for content in (b"", b"PK\x03\x04 no archive", b"\x93NUMPY"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(ConfigError, match=r"bad.npz cannot be read as .npz"):
            read(path, weights=tmp_path / "bad.npz")
    with pytest.raises(ConfigError, match="none.npz cannot be read"):
        read(path, weights=tmp_path / "none.npz")


def test_weights_of_safetensors(tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.numpy")
    path, weights = written(tmp_path, MLP), tmp_path / "w.safetensors"
    files.save_file({"w": W, "b": B}, weights)
    assert [w.shape for w in read(path, weights=weights).weights()] == [W.shape, B.shape]
    weights.write_bytes(b"\xff" * 40)
    with pytest.raises(ConfigError, match=r"w.safetensors cannot be read as .safetensors"):
        read(path, weights=weights)


def test_json_and_constants(tmp_path: Path) -> None:
    text = HEAD + (
        "def made():\n"
        "    x = relax.Var('x', relax.TensorType((4, 48), 'float32'))\n"
        "    b = relax.BlockBuilder()\n"
        "    with b.function('main', [x]):\n"
        "        with b.dataflow():\n"
        "            w = relax.const(np.ones((48, 64), 'float32'))\n"
        "            h = b.emit(relax.op.matmul(x, w))\n"
        "            y = b.emit_output(relax.op.add(h, relax.const(np.float32(2))))\n"
        "        b.emit_func_output(y)\n"
        "    return b.get()\n"
    )
    model = read(written(tmp_path, text))
    whole = run(model)
    assert whole.tasks[0].constants == (1,)
    assert [v.shape for v in whole.values] == [(48, 64)]
    path = tmp_path / "mine.json"
    path.write_text(tvm.ir.save_json(model.module))
    run(read(path))
    path.write_text(tvm.ir.save_json(ExtractedModel(model).tasks[0].main))
    with pytest.raises(ConfigError, match="holds no Relax module"):
        read(path)


def test_equal_functions_are_one_task(tmp_path: Path) -> None:
    path = written(tmp_path, TWICE.replace("SECOND", "w"))
    whole = ExtractedModel(read(path, weights=values(tmp_path, w=square(1), v=square(2))), True)
    (task,) = whole.tasks
    assert (task.weight, sorted(task.names), task.constants) == (3, ["first", "second"], (1,))
    check(whole.model, whole, {})
    modules = scheduled(whole, EXTENDED)
    check(whole.model, whole, modules)
    functions = whole.ready(modules).module.functions
    assert all("is_scheduled" in str(f.attrs) for f in functions.values() if isinstance(f, tvm.tirx.PrimFunc))


def test_a_constant_is_one_at_every_call(tmp_path: Path) -> None:
    path = written(tmp_path, TWICE.replace("SECOND", "a"))
    whole = ExtractedModel(read(path, weights=values(tmp_path, w=square(1), v=square(2))), True)
    assert {t.name: (t.weight, t.constants) for t in whole.tasks} == {"first": (2, ()), "second": (1, (1,))}
    check(whole.model, whole, scheduled(whole, EXTENDED))


def test_symbolic_sizes(tmp_path: Path) -> None:
    text = MLP.replace('(4, 48), "float32"), w', '("n", 48), "float32"), w')
    path, weights = written(tmp_path, text), values(tmp_path, w=W, b=B)
    with pytest.raises(ConfigError, match=r"without a value: n \(dimension 0 of x\)"):
        read(path, weights=weights)
    for n in (1, 5):
        assert run(read(path, weights=weights, sizes={"n": n})).model.inputs()[0].shape == (n, 48)


def test_which_function(tmp_path: Path) -> None:
    other = MLP + MLP.partition("class Module:")[2].replace("def main", "def other")
    path, weights = written(tmp_path, other), values(tmp_path, w=W, b=B)
    with pytest.raises(ConfigError, match=r"holds several Relax functions; .* main, other"):
        read(path, weights=weights)
    with pytest.raises(ConfigError, match="workload.function=third is not in"):
        read(path, "third", weights)
    run(read(path, "other", weights))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold one Relax module, or one function .*; it holds neither"),
        ("def a(): ...\ndef b(): ...", "it holds a, b; choose one with"),
        ("def a(): raise SystemExit(3)", "a raised SystemExit: 3"),
        ("def a(): return 1 / 0", "a raised ZeroDivisionError: division by zero"),
        ("def a(n): ...", "a raised TypeError: .* missing 1 required"),
        ("def a(): ...", "a returned NoneType; return a Relax module, or"),
        ("def a(:", "cannot be executed: SyntaxError"),
        (
            MLP.replace('x: R.Tensor((4, 48), "float32")', 'x: R.Tuple(R.Tensor((4, 48), "float32"))').replace(
                "R.matmul(x,", "R.matmul(x[0],"
            ),
            "the parameter x must be a tensor of known dimensions",
        ),
        (
            MLP.replace('x: R.Tensor((4, 48), "float32")', 'x: R.Tensor(dtype="float32")'),
            "the parameter x must be a tensor of known dimensions",
        ),
    ],
)
def test_files_that_hold_no_model(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(written(tmp_path, text), weights=values(tmp_path, w=W, b=B))
