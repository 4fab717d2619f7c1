"""How blocks are read: axes, operands, contractions, and vectors."""

from __future__ import annotations

import pytest
import tvm
from tvm import te
from tvm.s_tir import Schedule

from colt_pipeline.space.rules.register_tiles import has_tiles
from colt_pipeline.space.rules.row_fusion import find_chain
from colt_pipeline.space.rules.structure import is_expensive, lanes, structure, unit
from tests.space.rules.kernels import attention, convolution, mlp
from tests.workloads.operators import gemm, program, tensor

pytestmark = pytest.mark.tvm


def schedule(function: tvm.tirx.PrimFunc) -> Schedule:
    return Schedule(tvm.IRModule({"main": function}), debug_mask="none")


def test_a_matrix_product_has_two_operands_and_one_reduced_axis() -> None:
    sch = schedule(gemm("float32", "float32", "float32", 16, 32, 64, turned=True))
    found = structure(sch, sch.get_sblock("matmul"))
    assert found is not None and found.is_contraction
    assert (found.extents, found.reduced, found.output) == ((16, 32, 64), {2}, (0, 1))
    assert [(o.dims, o.axes) for o in found.operands] == [((0, 2), {0, 2}), ((1, 2), {1, 2})]
    assert not any(found.shared(axis) for axis in found.spatial)


def test_a_window_is_no_direct_index() -> None:
    sch = schedule(convolution(depthwise=True))
    found = structure(sch, sch.get_sblock("DepthwiseConv2d"))
    assert found is not None and found.is_contraction
    assert found.operands[0].dims[-2:] == (None, None)
    assert found.operands[0].axes == set(range(6))
    assert [axis for axis in found.spatial if found.shared(axis) and found.extents[axis] > 1] == [1]


def test_a_block_whose_loops_were_changed_has_no_structure() -> None:
    sch = schedule(gemm("float32", "float32", "float32", 16, 32, 64))
    block = sch.get_sblock("matmul")
    assert structure(sch, block) is not None
    sch.split(sch.get_loops(block)[0], [None, 4])
    assert structure(sch, block) is None


def test_rows_of_a_softmax_are_no_contractions_and_some_work_is_worth_keeping() -> None:
    sch = schedule(attention())
    names = ("scores", "logits", "peak", "weight", "total", "attend", "context")
    found = {name: structure(sch, sch.get_sblock(name)) for name in names}
    assert [name for name, s in found.items() if s is not None and s.is_contraction] == ["scores", "context"]
    assert [name for name in names if is_expensive(sch, sch.get_sblock(name))] == ["weight", "attend"]


@pytest.mark.parametrize(("extent", "vector", "rows"), [(64, 16, 4), (56, 28, 4), (35, 7, 1), (6, 6, 3), (31, 31, 1)])
def test_vectors_and_units_divide_what_they_divide(extent: int, vector: int, rows: int) -> None:
    assert (lanes(extent), unit(extent)) == (vector, rows)


def test_a_chain_ends_where_its_rows_end() -> None:
    chain = find_chain(schedule(attention(heads=4, shared_by=2, tokens=32, context=64, causal=True)))
    assert chain is not None
    assert (chain.outer, chain.row, chain.rows, chain.columns, chain.last) == (2, 1, 16, 16, "context")
    assert list(chain.blocks) == ["scores", "logits", "peak", "weight", "total", "attend"]
    assert [o.name for o in chain.given("scores")] == ["Q"]
    normalized = find_chain(schedule(mlp(normalized=True)))
    assert normalized is not None and list(normalized.blocks) == ["squares", "given", "first", "active"]


@pytest.mark.parametrize(
    "function",
    [attention(heads=2, tokens=16), mlp(rows=32), attention(dim=3), gemm("float32", "float32", "float32")],
    ids=["two blocks of rows", "two blocks of rows of an MLP", "three columns", "one product"],
)
def test_what_would_leave_cores_idle_or_has_no_vectors_is_no_chain(function: tvm.tirx.PrimFunc) -> None:
    assert find_chain(schedule(function)) is None


def test_a_chain_is_row_wise_to_its_end() -> None:
    x, up, mixed, down = tensor("X", 64, 16), tensor("U", 16, 32), tensor("M", 32, 3, 32), tensor("D", 32, 32)
    a, b, t, k = (te.reduce_axis((0, n), name) for n, name in ((16, "a"), (32, "b"), (3, "t"), (32, "k")))
    first = te.compute((64, 32), lambda i, j: te.sum(x[i, a] * up[a, j], axis=a), name="first")
    between = te.compute((64, 32), lambda i, j: te.sum(first[i, b] * mixed[b, t, j], axis=[b, t]), name="between")
    last = te.compute((64, 32), lambda i, j: te.sum(between[i, k] * down[k, j], axis=k), name="last")
    assert find_chain(schedule(program(x, up, mixed, down, last))) is None


def test_a_scalar_product_has_neither_chain_nor_tiles() -> None:
    x, y, k = tensor("X", 64), tensor("Y", 64), te.reduce_axis((0, 64), "k")
    sch = schedule(program(x, y, te.compute((), lambda: te.sum(x[k] * y[k], axis=k), name="dot")))
    assert find_chain(sch) is None
    assert not has_tiles(sch)
