"""Packed traces restore the same bytes and take less space."""

from __future__ import annotations

import numpy as np
import pytest

from colt_pipeline.errors import SpaceError
from colt_pipeline.records import canonical_json
from colt_pipeline.space.traces import pack, unpack
from tests.space.small import space


def test_real_traces_come_back_byte_for_byte_and_smaller() -> None:
    traces = [program.trace_json for program in space("deepseek_r1_moe").initial(8, np.random.default_rng(0))]
    packed = pack(traces)
    assert unpack(packed.instructions, packed.traces) == traces
    assert len(canonical_json(packed.to_json())) < len("".join(traces)) / 2


def test_an_instruction_is_written_once() -> None:
    packed = pack(['[[["A",[1]],["B",[]]],[]]', '[[["B",[]],["A",[1]],["A",[2]]],[[0,[1,2]]]]'])
    assert packed.instructions == [["A", [1]], ["B", []], ["A", [2]]]
    assert packed.traces == [[[0, 1], []], [[1, 0, 2], [[0, [1, 2]]]]]


@pytest.mark.parametrize("traces", [None, ["[]"], [[[7], []]], [[["x"], []]], [[]]])
def test_anything_else_is_an_error_that_shows_it(traces: object) -> None:
    with pytest.raises(SpaceError, match="invalid packed traces"):
        unpack([["A"]], traces)
