"""TVM's CUDA space: samples that pass verification, transformations, the bound baseline."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

from colt_pipeline.errors import SpaceError
from colt_pipeline.records import Edit, Rejection
from colt_pipeline.space import draws as draws_module
from colt_pipeline.space.generate import generate
from colt_pipeline.space.threads import _factorize, draw_tiles
from colt_pipeline.workloads.catalogue import build
from tests.space.small import GPU, SHAPES, gpu_space

pytestmark = pytest.mark.tvm


@pytest.mark.parametrize("name", ["deepseek_r1_moe", "flux_conv", "flux_attention", "llama3_8b_attention_core"])
def test_samples_are_bound_verified_and_reloadable(name: str) -> None:
    here = gpu_space(name)
    programs = here.initial(2, np.random.default_rng(0))
    again = gpu_space(name)
    for program in programs:
        assert 'thread="threadIdx.x"' in program.text
        assert again.load(program.key, program.trace_json).text == program.text
    assert [p.key for p in gpu_space(name).initial(2, np.random.default_rng(0))] == [p.key for p in programs]
    assert 'thread="blockIdx.x"' in str(here.baseline.script())


def test_transformations_change_programs_and_cpu_ones_are_not_offered() -> None:
    here = gpu_space("flux_attention")
    program = here.initial(1, np.random.default_rng(0))[0]
    names = [t.name for t in here.applicable(program)]
    assert "TileSize" in names and "ThreadBinding" in names
    assert not {"Parallel", "ComputeLocation"} & set(names)
    for name in names:
        grown = here.apply(program, [Edit(name)], np.random.default_rng(1), 16, {program.key}.__contains__)
        if isinstance(grown, Rejection):
            assert grown.kind in ("inapplicable", "duplicate") and name != "TileSize"
        else:
            assert [p.key for p in grown] != [program.key]


@pytest.mark.parametrize(
    ("extent", "count", "most"), [(4096, 5, 64), (7168, 3, 64), (17, 5, 64), (1, 5, 64), (66, 2, 8)]
)
def test_factors_multiply_to_the_extent(extent: int, count: int, most: int) -> None:
    rng = np.random.default_rng(0)
    draws = {tuple(_factorize(extent, count, most, rng)) for _ in range(50)}
    for factors in draws:
        assert math.prod(factors) == extent and len(factors) == count and factors[-1] <= most
    assert len(draws) > 1 or extent in (1,)


def test_drawn_tiles_keep_the_threads_within_bounds() -> None:
    module = build("deepseek_r1_moe", SHAPES["deepseek_r1_moe"]).module
    designs = generate(module, GPU).traces
    rng = np.random.default_rng(0)
    for _ in range(20):
        trace = draw_tiles(designs[0], rng)
        assert 32 <= threads(trace) <= 1024


def threads(trace: Any) -> int:
    """The product of the third factors of the spatial tiles (structure SSSRRSRS)."""
    tiles = [trace.get_decision(i) for i in trace.insts if i.kind.name == "SamplePerfectTile"]
    return math.prod(int(t[2]) for t in tiles if len(t) == 5)


def test_nothing_valid_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    here = gpu_space("deepseek_r1_moe")
    monkeypatch.setattr(draws_module, "surely_refused", lambda *_: True)
    with pytest.raises(SpaceError, match="no valid initial program in 1024 samples of 1 design spaces"):
        here.initial(1, np.random.default_rng(0))


def test_sampling_is_patient_until_the_first_program(monkeypatch: pytest.MonkeyPatch) -> None:
    here = gpu_space("deepseek_r1_moe")
    draws = itertools.count(1)
    monkeypatch.setattr(draws_module, "surely_refused", lambda *_: next(draws) <= 600)
    # Samples are cached by seed. Beyond 512 draws one program is enough.
    assert len(here.initial(2, np.random.default_rng(7))) == 1
    assert next(draws) > 601


def test_sampling_gives_up_after_128_replays(monkeypatch: pytest.MonkeyPatch) -> None:
    here = gpu_space("deepseek_r1_moe")
    replays: list[int] = []
    monkeypatch.setattr(draws_module, "replay", lambda *_: replays.append(1))
    with pytest.raises(SpaceError, match="no valid initial program"):
        here.initial(4, np.random.default_rng(0))
    assert len(replays) == 128
