"""What a user's own kernel must be, its inputs and its reference; each unsuitable program is one message."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm.script import from_source

from colt_pipeline.errors import ConfigError
from colt_pipeline.space import Space
from colt_pipeline.workloads.catalogue import build, rebuild, recipe
from colt_pipeline.workloads.own import of_program
from colt_pipeline.workloads.program_files import bound, read_program
from colt_pipeline.workloads.workload import Workload
from tests.workloads.kernels import DOUBLED, GEMM_FILE, ROWS, kernel
from tests.workloads.operators import gemm, taken

pytestmark = pytest.mark.tvm

BUFFER = 'T.Buffer((8, 8), "{}")'
PARAMETERS = f"A: {BUFFER.format('float32')}, C: {BUFFER.format('float32')}"


def own(text: str) -> Workload:
    return of_program("mine", from_source(text), {})


def typed(left: str, out: str) -> str:
    return kernel(f'C[vi, vj] = T.Cast("{out}", A[vi, vj])', f"A: {BUFFER.format(left)}, C: {BUFFER.format(out)}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            kernel("C[vi, vj] = A[vi, vj] * s", f"{PARAMETERS}, s: T.float32"),
            r"the parameter s is not a buffer \(a scalar",
        ),
        (kernel("C[vi, vj] = A[vi, vj]", f"{PARAMETERS}, p: T.handle"), r"the parameter p is not a buffer \(a pointer"),
        (ROWS, "the sizes n of A are symbolic; bind them: workload.bind"),
        (kernel("T.evaluate(A[vi, vj])"), r"mine stores to none of its parameters \(A, C\)"),
        (kernel("A[vi, vj] = A[vi, vj] + T.float32(1)"), "mine reads its output A before it writes it: it works in pl"),
        (kernel("C[vi, vj] = C[vi, vj] + A[vi, vj]"), "mine reads its output C before it writes it"),
        (kernel('C[vi, vj] = T.call_extern("float32", "sinf", A[vi, vj])'), "mine has call_extern, which TVM cannot"),
        (kernel('C[vi, vj] = T.call_pure_extern("float32", "sinf", A[vi, vj])'), "mine has call_pure_extern"),
        (kernel('C[vi, vj] = T.call_packed("f", A[vi, vj])'), "mine has tvm_call_packed"),
        (
            kernel('T.sblock_attr({"pragma_import_c": "int x;"})\n            C[vi, vj] = A[vi, vj]'),
            "mine has pragma_import_c",
        ),
        (
            kernel("C[vi, vj] = A[vi, vj]").replace('sblock("C")', 'sblock("C-1")'),
            "mine has a block named 'C-1', which no schedule can",
        ),
        (
            kernel("T.evaluate(T.tvm_throw_last_error())\n            C[vi, vj] = A[vi, vj]"),
            "mine has tvm_throw_last_er",
        ),
        (
            kernel("B[vi, vj] = B[vi, vj] + A[vi, vj]").replace(
                "    for", "    B = T.decl_buffer((8, 8), data=C.data)\n    for"
            ),
            "mine: B is another name for the memory of a buffer",
        ),
        (
            kernel("C[vi, vj] = A[vi, vj]", f"C: {BUFFER.format('float32')}, a: T.handle").replace(
                "    for", "    A = T.match_buffer(a, (8, 8), strides=(16, 1))\n    for"
            ),
            "the parameter A has strides; leave them out",
        ),
        (typed("int4", "float32"), "the parameter A is int4; use one of float64, float32"),
        (typed("float32", "float8_e4m3fn"), "the output C is float8_e4m3fn; outputs may be float64"),
        (
            kernel("C[vi, vj] = A[vi, vj]", f'{PARAMETERS}, N: T.Buffer((0, 8), "float32")'),
            r"the parameter N has the shape \(0, 8\) and no elements",
        ),
    ],
)
def test_what_cannot_be_tuned_is_one_message(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        own(text)
    assert "\n" not in str(error.value)


def test_a_reduction_and_a_later_block_may_read_an_output() -> None:
    text = kernel("C[vi, vj] = A[vi, vj]") + (
        '    for i, j in T.grid(8, 8):\n        with T.sblock("D"):\n'
        '            vi, vj = T.axis.remap("SS", [i, j])\n            D[vi, vj] = C[vi, vj] * T.float32(2)\n'
    )
    workload = own(text.replace(PARAMETERS, f"{PARAMETERS}, D: {BUFFER.format('float32')}"))
    inputs = workload.inputs()
    copied, doubled = workload.expected(inputs)
    np.testing.assert_array_equal(copied, inputs[0])
    np.testing.assert_array_equal(doubled, 2 * inputs[0])
    summed = of_program("mine", bound(from_source(ROWS), {"n": 6}, "rows"), {"n": 6})
    np.testing.assert_allclose(summed.expected(summed.inputs())[0], summed.inputs()[0].sum(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "body", ["C[vi, vj] = T.sqrt(A[vi, vj])", "with T.sblock('inner'):\n                C[vi // 2, vj] = A[vi, vj]"]
)
def test_a_reference_with_nan_is_an_error(body: str) -> None:
    workload = own(kernel(body))
    with pytest.raises(ConfigError, match=r"mine: unscheduled, it leaves NaN or infinity in C.*workload.inputs"):
        workload.expected(workload.inputs())


def test_the_reference_leaves_the_program_as_it_is() -> None:
    """TVM's schedules can change the program that they were made from."""
    main = gemm("float32", "float32", "float32", turned=True)
    before = tvm_ffi.structural_hash(main)
    workload = of_program("mine", main, {})
    a, b = workload.inputs()
    np.testing.assert_allclose(workload.expected([a, b])[0], a @ b.T, rtol=1e-4, atol=1e-5)
    assert tvm_ffi.structural_hash(main) == before
    assert len(Space(workload.module, {"kind": "llvm", "num-cores": 2})._designs.traces) == 3


def test_the_reference_sums_in_the_order_of_the_program() -> None:
    """Half precision shows any other order."""
    workload = of_program("mine", gemm("float16", "float16", "float16", 2, 3, 500), {})
    a, b = workload.inputs()
    total = np.zeros((2, 3), np.float16)
    for k in range(500):
        total = total + a[:, k, None] * b[None, k]
    np.testing.assert_array_equal(workload.expected([a, b])[0], total)


def test_a_workload_survives_the_way_to_a_worker() -> None:
    workload = of_program("mine", read_program(GEMM_FILE, None, {}), {})
    again = rebuild(recipe(workload))
    assert (again.hash, again.outputs, again.rtols) == (workload.hash, workload.outputs, workload.rtols)
    assert again.parameters == workload.parameters


def test_inputs_of_a_file_are_used(tmp_path: Path) -> None:
    path = tmp_path / "inputs.npz"
    rows = np.arange(10, dtype=np.int32)
    np.savez(path, x=np.ones((20, 8), np.float32), i=rows)
    workload = of_program("mine", taken("int32", 10)(), {}, path)
    np.testing.assert_array_equal(workload.inputs()[1], rows)
    np.savez(path, x=np.ones((20, 8), np.float32))
    with pytest.raises(ConfigError, match=r"has no array i of shape \(10,\) and type int32"):
        workload.inputs()


@pytest.mark.parametrize("case", ["rubbish", "empty", "npy", "damaged", "objects", "bomb"])
def test_inputs_that_cannot_be_read_are_one_message(tmp_path: Path, case: str) -> None:
    path = tmp_path / "inputs.npz"
    x, rows = np.ones((20, 8), np.float32), np.arange(10, dtype=np.int32)
    if case == "npy":
        with path.open("wb") as file:
            np.save(file, x)
    elif case == "damaged":
        np.savez_compressed(path, x=x, i=rows)
        content = bytearray(path.read_bytes())
        content[50:70] = b"x" * 20
        path.write_bytes(content)
    elif case == "objects":
        np.savez(path, x=x.astype(object), i=rows)
    elif case == "bomb":
        np.savez_compressed(path, x=np.zeros(1 << 18, np.float32), i=rows)
    else:
        path.write_bytes(b"" if case == "empty" else b"rubbish")
    with pytest.raises(ConfigError, match=r"cannot be read as .npz.*; write it with numpy.savez"):
        of_program("mine", taken("int32", 10)(), {}, path).inputs()


@pytest.mark.parametrize("view", [np.uint16, ml_dtypes.bfloat16])
def test_inputs_in_bfloat16_may_be_their_bits(tmp_path: Path, view: type) -> None:
    path = tmp_path / "inputs.npz"
    values = np.linspace(-2, 2, 64).reshape(8, 8).astype(ml_dtypes.bfloat16)
    np.savez(path, A=values.view(view))
    workload = of_program("mine", from_source(typed("bfloat16", "float32")), {}, path)
    np.testing.assert_array_equal(workload.inputs()[0].astype(np.float32), values.astype(np.float32))


def test_a_file_of_the_configuration_is_a_workload() -> None:
    workload = build("gemm", {}, source=str(GEMM_FILE))
    assert workload.is_own
    a, w = workload.inputs()
    assert w.dtype == np.float16
    np.testing.assert_allclose(workload.expected([a, w])[0], np.maximum(a @ w.astype(np.float32), 0), atol=1e-4)


def test_elementwise_programs_leave_nothing_to_tune() -> None:
    assert not Space(own(DOUBLED).module, {"kind": "llvm", "num-cores": 2}).tunable
    assert Space(
        tvm.IRModule({"main": gemm("float32", "float32", "float32")}), {"kind": "llvm", "num-cores": 2}
    ).tunable
