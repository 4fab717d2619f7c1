"""Batches: packed traces restore the same bytes and take less space."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from colt_pipeline.runs.batches import Packed, pack, read_batch, unpack
from colt_pipeline.serialization import canonical_json
from tests.space.small import space

pytestmark = pytest.mark.tvm


def written(packed: Packed) -> dict[str, Any]:
    """The line of a batch."""
    line: dict[str, Any] = json.loads(canonical_json({"key": "0", "measured": 0, **packed.to_json()}))
    return line


def test_real_traces_come_back_byte_for_byte_and_smaller() -> None:
    traces = [program.trace_json for program in space("deepseek_r1_moe").initial(8, np.random.default_rng(0))]
    packed = pack(traces)
    assert read_batch(written(packed)) == ("0", written(packed))
    assert list(unpack(packed)) == traces
    assert len(canonical_json(packed.to_json())) < len("".join(traces)) / 2


def test_an_instruction_is_written_once() -> None:
    packed = pack(['[[["A",[1]],["B",[]]],[]]', '[[["B",[]],["A",[1]],["A",[2]]],[[0,[1,2]]]]'])
    assert packed.instructions == [["A", [1]], ["B", []], ["A", [2]]]
    assert packed.traces == [([0, 1], []), ([1, 0, 2], [[0, [1, 2]]])]


@pytest.mark.parametrize("index", [-1, 1, 10**30])
def test_an_index_of_no_instruction_is_an_error(index: int) -> None:
    packed = Packed([["GetSBlock", [], ["matmul", "main"], ["b0"]]], [([0], []), ([index], [])])
    with pytest.raises(ValueError, match=f"program 1 uses instruction {index} of 1"):
        read_batch(written(packed))


def test_what_may_not_be_applied_is_not_unpacked() -> None:
    packed = pack(['[[["UnsafeSetDType",["b0"],[0,"int8"],[]]],[]]'])
    with pytest.raises(ValueError, match="program 0: instruction 0 of its trace is 'UnsafeSetDType'"):
        read_batch(written(packed))
