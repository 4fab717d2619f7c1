"""Weights as kernels take them: made once, and once for all that share them."""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax

from colt_pipeline.workloads.models.weights import TRANSFORM, transformed

FIRST = np.arange(6, dtype="float32").reshape(2, 3)
SECOND = FIRST + 10


def transposing(*positions: int) -> tvm.IRModule:
    """Of two weights: these transposed, then the first as it is."""
    builder = relax.BlockBuilder()
    weights = relax.Var("weights", relax.TupleType([relax.TensorType((2, 3), "float32")] * 2))
    with builder.function(TRANSFORM, [weights]):
        with builder.dataflow():
            made = [builder.emit(relax.op.permute_dims(builder.emit(weights[position]))) for position in positions]
            result = builder.emit_output(relax.Tuple([*made, builder.emit(weights[0])]))
        builder.emit_func_output(result)
    return builder.get()


def test_what_is_made_alike_of_the_same_weight_is_one_tensor() -> None:
    first, again, other, plain = transformed([transposing(0, 0, 1)], [FIRST, SECOND])
    assert first.same_as(again) and not first.same_as(other)
    for tensor, expected in ((first, FIRST.T), (other, SECOND.T), (plain, FIRST)):
        np.testing.assert_array_equal(tensor.numpy(), expected)


def test_equal_weights_in_two_places_are_two() -> None:
    first, other, _ = transformed([transposing(0, 1)], [FIRST, FIRST.copy()])
    assert not first.same_as(other)
    np.testing.assert_array_equal(first.numpy(), other.numpy())
