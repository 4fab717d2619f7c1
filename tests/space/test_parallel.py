"""The limit for the parallel loop is drawn as TVM draws it."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.s_tir import meta_schedule as ms

from colt_pipeline.space import trace_text
from colt_pipeline.space.decisions import ordered
from tests.space.small import SHAPES, space

pytestmark = pytest.mark.tvm


@pytest.mark.parametrize("name", SHAPES)
def test_every_seed_gives_tvms_draw(name: str) -> None:
    here, rng = space(name), np.random.default_rng(1)
    tvms, found = here._mutators["Parallel"], 0
    for program in here.initial(4, rng):
        for seed in rng.integers(1, 2**31 - 1, size=8).tolist():
            trace = here._mutate(program, program.trace, "TileSize", seed) or program.trace
            for moved in (program.trace, trace):
                expected = ms._ffi_api.MutatorApply(tvms, ordered(moved, program.design), seed)
                drawn = here._mutate(program, moved, "Parallel", seed)
                assert (drawn and trace_text.text(drawn)) == (expected and trace_text.text(expected))
                found += drawn is not None
    assert found
