"""The stand-ins' rules stay within bounds, do what their docstrings say, and are followed more by larger models."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from colt_pipeline.llm import knowledge
from colt_pipeline.llm.client import Question
from colt_pipeline.llm.embedded import EmbeddedClient, broken_rate
from colt_pipeline.llm.knowledge import RULES, Hardware, Nest, Plan, Rule, Tile, nests, plan
from colt_pipeline.llm.parse import parse
from colt_pipeline.llm.prompt import render
from colt_pipeline.records import ModelSpec, Proposal, Rejection, Site
from tests.llm.contexts import WITH_SITES

HARDWARE = Hardware(cores=2, lanes=16, registers=32, l2_bytes=512 << 10)
CHOICES = {"unroll": (0, 16, 64, 512), "parallel": (1, 2, 4, 8, 16, 32, 64, 128)}
SEEDS = range(20)


def tile(label: str, *factors: int, innermost: int = 64) -> Tile:
    return Tile(label, factors, math.prod(factors), innermost)


def matmul(hardware: Hardware = HARDWARE, choices: dict[str, tuple[int, ...]] = CHOICES) -> Nest:
    """256 x 512 with a reduction of 1024, everything outermost."""
    return Nest((tile("m.i", 256, 1, 1, 1),), tile("m.j", 512, 1, 1, 1), (tile("m.k", 1024, 1),), choices, hardware)


@st.composite
def tiles(draw: st.DrawFn, label: str, count: int) -> Tile:
    factors = draw(st.lists(st.sampled_from([1, 1, 2, 3, 4, 5, 7, 8, 16]), min_size=count, max_size=count))
    return tile(label, *factors, innermost=max(factors[-1], draw(st.sampled_from([1, 8, 64]))))


@st.composite
def any_nest(draw: st.DrawFn) -> Nest:
    spatial = [draw(tiles(f"b.s{i}", 4)) for i in range(draw(st.integers(1, 4)))]
    reductions = [draw(tiles(f"b.r{i}", 2)) for i in range(draw(st.integers(0, 3)))]
    hardware = Hardware(
        draw(st.integers(1, 64)),
        draw(st.sampled_from([4, 8, 16])),
        draw(st.sampled_from([16, 32])),
        draw(st.sampled_from([1, 128, 2048])) << 10,
    )
    choices = {name: CHOICES[name] for name in draw(st.sets(st.sampled_from(["unroll", "parallel"])))}
    return Nest(tuple(spatial[:-1]), spatial[-1], tuple(reductions), choices, hardware)


def within_bounds(nest: Nest, decided: Plan) -> None:
    known = {t.label: t for t in (*nest.rows, nest.vector, *nest.reductions)}
    for label, decision in decided.items():
        if label in known:
            loop = known[label]
            site = Site("TileSize", label, loop.factors, loop.extent, loop.innermost)
        else:
            site = Site(label, label, (0,), choices=nest.choices[label])
        assert site.violation(tuple(decision)) is None, (label, decision)


@given(any_nest(), st.lists(st.sampled_from(RULES), max_size=8), st.integers(0, 2**31))
def test_any_rules_in_any_order_stay_within_bounds(nest: Nest, rules: list[Rule], seed: int) -> None:
    decided = plan(nest, rules, np.random.default_rng(seed))
    within_bounds(nest, decided)
    assert decided == plan(nest, rules, np.random.default_rng(seed))
    present = {t.label: list(t.factors) for t in (*nest.rows, nest.vector, *nest.reductions)}
    assert not [label for label, decision in decided.items() if decision == present.get(label)]


def plans(nest: Nest, *rules: Rule) -> list[Plan]:
    """The decisions under each seed, including unchanged ones."""
    present = {t.label: list(t.factors) for t in (*nest.rows, nest.vector, *nest.reductions)}
    return [{**present, **plan(nest, rules, np.random.default_rng(seed))} for seed in SEEDS]


def test_register_tile_fills_registers_with_whole_vectors_and_no_more() -> None:
    found = plans(matmul(), knowledge.register_tile)
    for decided in found:
        vectors, rest = divmod(decided["m.j"][3], 16)
        assert rest == 0 and 1 <= vectors <= 4
        accumulators = vectors * decided["m.i"][3]
        assert 32 * 3 // 4 // 4 <= accumulators <= 32 * 3 // 4
    assert len({str(decided) for decided in found}) > 1  # several choices remain


def test_register_tile_takes_the_widest_vector_there_is_where_none_is_whole() -> None:
    narrow = dataclasses.replace(matmul(), vector=tile("m.j", 12, 1, 1, 1))
    assert {decided["m.j"][3] for decided in plans(narrow, knowledge.register_tile)} == {12}


def test_cache_fit_keeps_the_inner_levels_in_half_of_the_cache() -> None:
    small = dataclasses.replace(HARDWARE, l2_bytes=32 << 10)
    found = plans(matmul(small), knowledge.register_tile, knowledge.cache_fit)
    sizes = [math.prod(decided["m.i"][2:]) * math.prod(decided["m.j"][2:]) * 4 for decided in found]
    assert max(sizes) <= 16 << 10
    assert min(sizes) >= 1 << 10  # and make good use of it


def test_balance_gives_every_core_as_many_pieces_where_the_loops_allow_it() -> None:
    cores = dataclasses.replace(HARDWARE, cores=4)
    inside = dataclasses.replace(matmul(cores), rows=(tile("m.i", 1, 1, 256, 1),), vector=tile("m.j", 1, 1, 32, 16))
    for decided in plans(inside, knowledge.balance):
        assert decided["m.i"][0] * decided["m.j"][0] % 4 == 0
        assert decided["m.i"][1] == decided["m.j"][1] == 1
    odd = dataclasses.replace(matmul(cores), rows=(tile("m.i", 1, 3, 9, 1),), vector=tile("m.j", 5, 1, 1, 1))
    assert {decided["m.i"][0] * decided["m.j"][0] for decided in plans(odd, knowledge.balance)} == {15}


def test_reduction_depth_keeps_stencils_whole_and_gives_long_reductions_a_few_steps() -> None:
    nest = dataclasses.replace(matmul(), reductions=(tile("m.dx", 3, 1), tile("m.k", 1024, 1)))
    found = plans(nest, knowledge.reduction_depth)
    assert {tuple(decided["m.dx"]) for decided in found} == {(1, 3)}
    assert {decided["m.k"][1] for decided in found} == {4, 8, 16, 32}


def test_unrolling_covers_the_register_tile() -> None:
    nest = dataclasses.replace(matmul(), rows=(tile("m.h", 1, 1, 1, 4), tile("m.i", 32, 1, 1, 8)))
    assert {decided["unroll"][0] for decided in plans(nest, knowledge.unrolling)} == {64, 512}
    large = dataclasses.replace(nest, choices={"unroll": (0, 16)})
    assert {decided["unroll"][0] for decided in plans(large, knowledge.unrolling)} == {0}  # no limit suffices
    assert not plan(matmul(choices={}), [knowledge.unrolling], np.random.default_rng(0))


def test_parallel_grain_asks_for_pieces_for_every_core() -> None:
    assert {decided["parallel"][0] for decided in plans(matmul(), knowledge.parallel_grain)} == {64}
    one = dataclasses.replace(matmul(), rows=(), vector=tile("m.j", 1, 1, 32, 16))
    assert {decided["parallel"][0] for decided in plans(one, knowledge.parallel_grain)} == {2}  # the cores
    many = dataclasses.replace(one, hardware=dataclasses.replace(HARDWARE, cores=500))
    assert {decided["parallel"][0] for decided in plans(many, knowledge.parallel_grain)} == {128}  # the most there is
    assert not plan(matmul(choices={}), [knowledge.parallel_grain], np.random.default_rng(0))


def messages(change: Callable[[str], str] = lambda text: text) -> str:
    return change("\n".join(m["content"] for m in render(WITH_SITES)))


def test_a_nest_is_read_from_the_prompt() -> None:
    sites = (*WITH_SITES.sites[:1], Site("TileSize", "matmul.j", (4, 1, 1, 16), 64, 64), *WITH_SITES.sites[1:])
    other = Site("TileSize", "total.s", (16, 2), 32, 64)  # a reduction alone is not a tiled block
    context = dataclasses.replace(WITH_SITES, sites=(*sites, other))
    assert nests("\n".join(m["content"] for m in render(context))) == [
        Nest(
            rows=(tile("matmul.i", 2, 4, 1, 2),),
            vector=tile("matmul.j", 4, 1, 1, 16),
            reductions=(tile("matmul.k", 4, 32),),
            choices={"unroll": (0, 16, 64, 512)},
            hardware=HARDWARE,
        )
    ]


def test_nothing_is_planned_where_the_target_is_no_cpu_or_no_sites_are_listed() -> None:
    assert nests(messages())
    assert not nests("\n".join(m["content"] for m in render(dataclasses.replace(WITH_SITES, sites=()))))
    gpu = "GPU through CUDA, NVIDIA H100, sm_90, at most 1024 threads and 48 KiB of shared memory per block"
    on_gpu = dataclasses.replace(WITH_SITES, target=gpu, hardware="")
    assert not nests("\n".join(m["content"] for m in render(on_gpu)))


def spec(parameters_b: float) -> ModelSpec:
    return ModelSpec(f"m{parameters_b}", "embedded", "m", parameters_b, False)


def verdicts(model: ModelSpec, count: int = 200, depth: int = 2) -> list[Proposal | Rejection]:
    context = dataclasses.replace(
        WITH_SITES,
        transformations=(*WITH_SITES.transformations, ("Parallel", "grain")),
        sites=(*WITH_SITES.sites, Site("Parallel", "parallel", (32,), choices=CHOICES["parallel"])),
        depth=depth,
    )
    client, names, models = EmbeddedClient(), ["TileSize", "Unroll", "Parallel"], [m.name for m in context.models]
    return [
        parse(client.complete(Question(model, render(context), {}), n), names, models, context.sites)
        for n in range(count)
    ]


def decided(found: list[Proposal | Rejection]) -> list[Proposal]:
    """The answers that contain a decision."""
    return [v for v in found if isinstance(v, Proposal) and any(edit.site for edit in v.transformations)]


@pytest.mark.parametrize("parameters_b", [7.0, 20.0, 300.0])
@pytest.mark.parametrize("depth", [1, 2])
def test_no_decision_of_a_stand_in_is_out_of_bounds(parameters_b: float, depth: int) -> None:
    found = verdicts(spec(parameters_b), depth=depth)
    kinds = [v.kind for v in found if isinstance(v, Rejection)]
    assert "bad_decision" not in kinds
    assert len(kinds) / len(found) == pytest.approx(broken_rate(parameters_b), abs=0.08)
    assert decided(found)


def test_larger_stand_ins_follow_the_rules_more_often() -> None:
    tiny, middle, huge = (len(decided(verdicts(spec(n)))) for n in (7.0, 32.0, 300.0))
    assert tiny < middle < huge
    assert huge > 0.85 * 200


def test_a_first_expansion_plans_everything_and_a_later_one_a_little() -> None:
    first, later = (
        np.mean([len(v.transformations) for v in decided(verdicts(spec(300.0), depth=depth))]) for depth in (1, 2)
    )
    assert first > later + 1
