"""Models in ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

from colt_pipeline.errors import ConfigError
from tests.workloads.models.common import read, run

pytestmark = pytest.mark.tvm

FLOAT = TensorProto.FLOAT
RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((48, 64), dtype=np.float32) / 7
NEXT = RNG.standard_normal((64, 48), dtype=np.float32) / 8


def value(name: str, shape: Sequence[int | str | None] | None, dtype: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def saved(
    directory: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    initializers: Sequence[Any] = (),
    opset: int = 17,
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = directory / "mine.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def product(directory: Path, rows: int | str | None = 4, left: str = "a.b", right: str = "a_b", **changed: Any) -> Path:
    """Two products, whose weights have these names."""
    nodes = [
        helper.make_node("MatMul", ["x", left], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", right], ["y"]),
    ]
    weights = [numpy_helper.from_array(WEIGHT, left), numpy_helper.from_array(NEXT, right)]
    given: dict[str, Any] = {"inputs": [value("x", [rows, 48])], "initializers": weights, **changed}
    return saved(directory, nodes, given["inputs"], [value("y", [rows, 48])], given["initializers"])


def external(name: str, dims: Sequence[int], dtype: int = FLOAT, **at: object) -> Any:
    tensor = TensorProto(name=name, data_type=dtype, data_location=TensorProto.EXTERNAL)
    tensor.dims.extend(dims)
    for key, said in at.items():
        tensor.external_data.add(key=key, value=str(said))
    return tensor


@pytest.mark.parametrize(
    ("left", "right"), [("a.b", "a_b"), ("onnx::MatMul_7", "7"), ("a_b!", "a.b!"), ("x_", "x__1"), ("é", "weight 1")]
)
def test_names_that_no_identifier_may_have(tmp_path: Path, left: str, right: str) -> None:
    model = read(product(tmp_path, left=left, right=right))
    assert [w.shape for w in model.weights()] == [WEIGHT.shape, NEXT.shape]
    run(model)


def test_initializers_among_the_inputs(tmp_path: Path) -> None:
    path = product(tmp_path, inputs=[value("a_b", None), value("x", [4, 48]), value("a.b", [48, 64])])
    whole = run(read(path))
    assert len(whole.model.inputs_of_main) == 1
    assert len(whole.tasks) == 2


def test_sizes_are_bound_by_name(tmp_path: Path) -> None:
    path = product(tmp_path, "batch size")
    with pytest.raises(
        ConfigError, match=r"value: batch_size \(dimension 0 of x\); bind them, .* workload.bind.batch_"
    ):
        read(path)
    with pytest.raises(ConfigError, match=r"workload.bind.batch_size=0: sizes must be at least 1"):
        read(path, sizes={"batch_size": 0})
    with pytest.raises(ConfigError, match=r"workload.bind.b=1: the model in .* has the symbolic sizes batch_size"):
        read(path, sizes={"b": 1})
    assert run(read(path, sizes={"batch_size": 3})).model.inputs()[0].shape == (3, 48)
    unnamed = product(tmp_path, None)
    with pytest.raises(ConfigError, match="without a value: x_0"):
        read(unnamed)
    assert read(unnamed, sizes={"x_0": 2}).inputs()[0].shape == (2, 48)


def test_sizes_reach_what_is_computed_from_them(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["b"]),
        helper.make_node("Concat", ["b", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    constants = [numpy_helper.from_array(np.array([n]), name) for name, n in (("zero", 0), ("rest", -1))]
    path = saved(tmp_path, nodes, [value("x", ["b", 3, 4])], [value("y", ["b", 12])], constants)
    assert not run(read(path, sizes={"b": 5})).model.weights()


def test_data_in_another_file(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(b"\0" * 8 + WEIGHT.tobytes() + NEXT.tobytes())
    length = WEIGHT.nbytes
    weights = [
        external("a.b", WEIGHT.shape, location="w.data", offset=8, length=length),
        external("a_b", NEXT.shape, location="w.data", offset=8 + length),
    ]
    model = read(product(tmp_path, initializers=weights))
    assert all(isinstance(w, np.memmap) for w in model.weights())
    run(model)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (external("a.b", (48, 64), location="none"), "the data of a.b cannot be read from none: it is not a file"),
        (external("a.b", (48, 64)), "cannot be read from None: it is not a file"),
        (external("a.b", (48, 64), location="../out"), r"from \.\./out: it lies outside of the model's directory"),
        (external("a.b", (48, 64), location="/etc/hosts"), "it lies outside"),
        (external("a.b", (48, 64), location="w.data", offset=1), "it has 12288 bytes of 12289"),
        (external("a.b", (48, 64), location="w.data", offset=-1), "offset -1 .* do not match"),
        (external("a.b", (48, 64), location="w.data", offset="q"), "invalid literal"),
        (external("a.b", (48, 64), location="w.data", length=9), "length 9 do not match"),
        (external("a.b", (-48, -64), location="w.data"), r"shape \(-48, -64\) of float32"),
        (external("a.b", (1 << 62, 1 << 62), location="w.data"), "it has 12288 bytes of"),
        (external("a.b", (48, 64), TensorProto.STRING, location="w.data"), "a.b is external data of the type object"),
        (external("a.b", (48, 64), 99, location="w.data"), "the type 99 of a.b is unknown"),
        (TensorProto(name="a.b", data_type=FLOAT, dims=[48, 64], raw_data=b"1234"), "does not have its shape"),
        (TensorProto(name="a.b", data_type=FLOAT, dims=[1 << 40, 64], raw_data=b"1234"), "does not have its shape"),
    ],
)
def test_data_that_is_not_there(tmp_path: Path, tensor: Any, message: str) -> None:
    directory = tmp_path / "models"
    directory.mkdir()
    for path in (tmp_path / "out", directory / "w.data"):
        path.write_bytes(WEIGHT.tobytes())
    with pytest.raises(ConfigError, match=message):
        read(product(directory, initializers=[tensor, numpy_helper.from_array(NEXT, "a_b")]))


def test_no_link_leads_out(tmp_path: Path) -> None:
    directory = tmp_path / "models"
    directory.mkdir()
    (tmp_path / "out").write_bytes(WEIGHT.tobytes())
    (directory / "w.data").symlink_to(tmp_path / "out")
    with pytest.raises(ConfigError, match="it lies outside"):
        read(product(directory, initializers=[external("a.b", WEIGHT.shape, location="w.data")]))


def test_external_data_of_an_operator(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(WEIGHT.tobytes())
    nodes = [
        helper.make_node("Constant", [], ["w"], value=external("w", WEIGHT.shape, location="w.data")),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    whole = run(read(saved(tmp_path, nodes, [value("x", [4, 48])], [value("y", [4, 64])])))
    assert whole.tasks[0].constants == (1,)
    nodes[0] = helper.make_node("Constant", [], ["w"], value=external("w", WEIGHT.shape, location="/etc/hosts"))
    with pytest.raises(ConfigError, match="it lies outside"):
        read(saved(tmp_path, nodes, [value("x", [4, 48])], [value("y", [4, 64])]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an ONNX model: it has no operators"),
        (b"hello, world", "is not an ONNX model: "),
        (b"\x08\x07", "is not an ONNX model: it has no operators"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "mine.onnx"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read(path)


def test_operators_that_tvm_does_not_import(tmp_path: Path) -> None:
    inputs, outputs = [value("x", [4, 8])], [value("y", [4, 8])]
    unknown = saved(tmp_path, [helper.make_node("Det", ["x"], ["y"])], inputs, outputs)
    with pytest.raises(ConfigError, match="has an operator that TVM does not import: .*: Det"):
        read(unknown)
    broken = saved(tmp_path, [helper.make_node("Relu", ["nowhere"], ["y"])], inputs, outputs)
    with pytest.raises(ConfigError, match=r"TVM cannot import workload.source=.*nowhere"):
        read(broken)
    rankless = saved(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], [value("x", None)], outputs)
    with pytest.raises(ConfigError, match="the input x must be a tensor of known dimensions"):
        read(rankless)


def test_quantized_products(tmp_path: Path) -> None:
    integers = RNG.integers(-8, 8, (48, 64), dtype=np.int8)
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    inputs, outputs = [value("x", [4, 48], TensorProto.INT8)], [value("y", [4, 64], TensorProto.INT32)]
    path = saved(tmp_path, [node], inputs, outputs, [numpy_helper.from_array(integers, "w")])
    try:
        model = read(path)
    except ConfigError as error:
        assert "TVM" in str(error)  # noqa: PT017
    else:
        run(model)


def test_what_the_referee_cannot_run(tmp_path: Path) -> None:
    """As the model is read before it is run, this must be a message of its own."""
    path = product(tmp_path)
    model = read(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises((ConfigError, onnx.checker.ValidationError, Exception)):
        model.reference(model.inputs())


def test_indices_are_within_the_table(tmp_path: Path) -> None:
    table = numpy_helper.from_array(RNG.standard_normal((3, 128), dtype=np.float32), "table")
    inputs, outputs = [value("i", [4, 6], TensorProto.INT64)], [value("y", [4, 6, 128])]
    whole = run(read(saved(tmp_path, [helper.make_node("Gather", ["table", "i"], ["y"])], inputs, outputs, [table])))
    assert whole.model.inputs()[0].max() == 2
