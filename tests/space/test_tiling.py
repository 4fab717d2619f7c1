"""What tile factors alone tell: refusals of schedules that TVM refuses too, and design spaces that nothing fits."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import tvm
from tvm.s_tir.schedule import Trace

from colt_pipeline.measurement.cuda import cuda_target
from colt_pipeline.measurement.lowered import lowered_kernels
from colt_pipeline.space import Space
from colt_pipeline.space.generate import generate
from colt_pipeline.space.replay import replay
from colt_pipeline.space.threads import _ways, draw_tiles, misfit, share_that_fits
from colt_pipeline.space.tiling import refused, tiled_blocks
from colt_pipeline.workloads.catalogue import build
from tests.space.small import GPU, SHAPES, gpu_space

pytestmark = pytest.mark.tvm

LARGER = SHAPES | {
    "llama3_8b_attention_core": {"heads": 8, "kv_heads": 2, "head_dim": 64, "tokens": 64, "context": 128}
}
BIG_PRIME = {"batch": 1, "tokens": 16, "inner": 64, "outer": 4099}


@pytest.mark.parametrize("arch", ["sm_75", "sm_90"])  # from sm_80 on there are software pipelines
@pytest.mark.parametrize("name", ["deepseek_r1_moe", "flux_conv", "llama3_8b_attention_core"])
def test_what_is_refused_without_a_replay_fails_in_a_replay(name: str, arch: str) -> None:
    space = Space(build(name, LARGER[name]).module, cuda_target(arch))
    designs = generate(space.module, cuda_target(arch))
    rng = np.random.default_rng(0)
    outcomes: Counter[tuple[bool, bool]] = Counter()

    def compare(trace: Trace) -> bool:
        """Whether the target accepts `trace`."""
        early = refused(designs.module, designs.context.target, trace)
        accepted = replay(designs, trace) is not None
        assert not (early and accepted), trace
        outcomes[early, accepted] += 1
        return accepted

    for draw in range(24):
        compare(draw_tiles(designs.traces[draw % len(designs.traces)], rng))
    program = space.initial(1, rng)[0]
    trace = program.trace
    for seed in range(1, 51):
        mutated = space._mutate(program, trace, "TileSize", seed)
        assert mutated is not None
        if compare(mutated) and seed % 3 == 0:
            trace = mutated
    assert outcomes[True, False] and outcomes[False, True]
    assert outcomes[False, False] <= 0.1 * outcomes.total()  # with grouped heads some fetches have dynamic extents


def test_each_cause_is_found() -> None:
    module = build("deepseek_r1_moe", SHAPES["deepseek_r1_moe"]).module
    designs = generate(module, cuda_target("sm_90"))
    design = max(designs.traces, key=lambda trace: tiled_blocks(trace)[0].stages)
    block = tiled_blocks(design)[0]
    batch, tokens, outer, inner = (block.tiles[position] for position in range(4))
    good = {batch: [1, 1, 1, 1, 1], tokens: [4, 1, 4, 1, 1], outer: [4, 1, 16, 1, 1], inner: [16, 4, 2]}
    bad = {
        "threads": {tokens: [16, 1, 1, 1, 1]},
        "iterations": {inner: [1, 64, 2]},
        "shared": {tokens: [1, 1, 4, 4, 1], outer: [1, 1, 16, 4, 1], inner: [2, 64, 1]},
    }
    assert not refused(module, designs.context.target, Trace(design.insts, good))
    for change in bad.values():
        assert refused(module, designs.context.target, Trace(design.insts, good | change))
    assert not block.threads_fit(good | bad["threads"])
    assert block.pipelines_once(good | bad["iterations"])
    assert block.shared_bytes(good | bad["shared"], module) == block.stages * 4 * 64 * (16 + 64)


@pytest.mark.parametrize("name", ["flux_conv", "llama3_8b_attention_core"])
def test_shared_bytes_are_those_of_the_lowered_kernels(name: str) -> None:
    space = gpu_space(name)
    for program in space.initial(3, np.random.default_rng(0)):
        blocks = tiled_blocks(program.trace)
        factors = {tile: program.trace.get_decision(tile) for block in blocks for tile in block.tiles.values()}
        kernels = lowered_kernels(program.schedule.mod, tvm.target.Target(GPU))
        lowered = sorted(kernel.shared_bytes for kernel in kernels if kernel.shared_bytes)
        assert lowered == sorted(block.shared_bytes(factors, space.module) for block in blocks)


@pytest.mark.parametrize(("extent", "most"), [(24, 4), (17, 8), (36, 64), (1, 64)])
def test_ways_are_those_of_an_enumeration(extent: int, most: int) -> None:
    divisors = [d for d in range(1, extent + 1) if extent % d == 0]
    tilings = [f for f in product(divisors, repeat=5) if np.prod(f) == extent and f[-1] <= most]
    assert _ways(extent, 5, most) == Counter(f[2] for f in tilings)


def test_the_share_that_fits_is_that_of_random_tilings() -> None:
    design = generate(build("deepseek_r1_moe", SHAPES["deepseek_r1_moe"]).module, GPU).traces[0]
    block = tiled_blocks(design)[0]
    choices = list(product(*(_ways(extent, 5, 64).items() for extent in (1, 16, 64))))
    tilings = [(math.prod(f for f, _ in choice), math.prod(n for _, n in choice)) for choice in choices]
    fitting = sum(number for threads, number in tilings if 32 <= threads <= 1024)
    assert share_that_fits(design, block) == pytest.approx(fitting / sum(number for _, number in tilings))
    assert misfit(design) == ""


def test_extents_without_a_permitted_number_of_threads_get_programs_without_tiles(
    caplog: pytest.LogCaptureFixture,
) -> None:
    space = Space(build("deepseek_r1_moe", BIG_PRIME).module, GPU)
    assert "without MultiLevelTiling: no tiling of block matmul (1 x 16 x 4099) has 32 to 1024 threads" in caplog.text
    programs = space.initial(3, np.random.default_rng(0))
    assert len(programs) == 3
    for program in programs:
        assert 'thread="threadIdx.x"' in program.text and "sample_perfect_tile" not in str(program.trace)
        names = [t.name for t in space.applicable(program)]
        assert "ThreadBinding" in names and "TileSize" not in names


def test_a_design_that_hardly_any_tiling_fits_is_named() -> None:
    shape = BIG_PRIME | {"tokens": 8, "outer": 4 * 4099}  # 32 threads: all factors 2 in one place
    space = Space(build("deepseek_r1_moe", shape).module, GPU)
    assert "sample_perfect_tile" not in str(space.initial(1, np.random.default_rng(0))[0].trace)
