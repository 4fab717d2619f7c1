"""Sampling sites with real TVM: their descriptions, and that an edit sets exactly what it names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tvm.s_tir.schedule import Trace

from colt_pipeline.records import Edit, Rejection, Site
from colt_pipeline.space import Program, Space
from colt_pipeline.space.generate import generate
from colt_pipeline.space.sites import find_sites
from colt_pipeline.workloads.catalogue import build
from tests.space.small import CPU, gpu_space, space

pytestmark = pytest.mark.tvm

SMALL_SHAPES = ("deepseek_r1_moe", "flux_conv", "flux_attention")


def some(name: str, count: int = 1, seed: int = 0) -> tuple[Space, list[Program]]:
    here = space(name)
    return here, here.initial(count, np.random.default_rng(seed))


def by_label(here: Space, program: Program) -> dict[str, Site]:
    return {site.label: site for site in here.sites(program)}


def set_at(here: Space, program: Program, site: Site, *decision: int) -> list[Program] | Rejection:
    edit = Edit(site.transformation, site, decision)
    return here.apply(program, [edit], np.random.default_rng(0), 4, {program.key}.__contains__)


def test_the_sites_of_a_matrix_product() -> None:
    here, [program] = some("deepseek_r1_moe")
    tiles = {"matmul.n": (1, 4), "matmul.i": (16, 4), "matmul.j": (64, 4), "matmul.k": (128, 2)}  # extent, factors
    sites = here.sites(program)
    assert [(s.transformation, s.label) for s in sites] == [
        *(("TileSize", label) for label in tiles),
        ("Parallel", "parallel"),
        ("Unroll", "unroll"),
    ]
    for site in sites[:4]:
        extent, count = tiles[site.label]
        assert (site.extent, len(site.now), math.prod(site.now), site.innermost) == (extent, count, extent, 64)
        assert not site.choices
    assert sites[4].choices == tuple(2**n for n in range(11))
    assert sites[5].choices == (0, 16, 64, 512)


@pytest.mark.parametrize("name", SMALL_SHAPES)
def test_labels_are_unique_and_present_decisions_are_those_of_the_trace(name: str) -> None:
    here, programs = some(name, 3)
    for program in programs:
        sites = here.sites(program)
        assert len({site.label for site in sites}) == len(sites)
        assert all(site.violation(site.now) is None for site in sites)
        drawn = [line for line in program.history if "sch.sample_" in line]
        tiles = [s.now for s in sites if s.extent]
        assert len(drawn) == sum(site.transformation != "Parallel" for site in sites)
        shown = [line.split("decision=")[1].rstrip(")") for line in drawn if "perfect_tile" in line]
        assert [str(list(now)) for now in tiles] == shown


@pytest.mark.parametrize("name", SMALL_SHAPES)
def test_sites_survive_a_trace_in_json(name: str) -> None:
    here, programs = some(name, 2)
    there = space(name)
    for program in programs:
        assert there.sites(there.load(program.key, program.trace_json)) == here.sites(program)


@pytest.mark.parametrize(
    ("name", "label", "decision"),
    [
        ("deepseek_r1_moe", "matmul.j", (2, 2, 2, 8)),
        ("deepseek_r1_moe", "matmul.k", (16, 8)),
        ("flux_conv", "conv2d.dx", (3, 1)),
        ("flux_conv", "conv2d.f", (1, 1, 1, 16)),
        ("deepseek_r1_moe", "unroll", (64,)),
        ("flux_conv", "unroll", (0,)),
        ("deepseek_r1_moe", "parallel", (4,)),
    ],
)
def test_an_edit_sets_its_decision_and_no_other(name: str, label: str, decision: tuple[int, ...]) -> None:
    here, [program] = some(name)
    before = by_label(here, program)
    assert before[label].now != decision
    grown = set_at(here, program, before[label], *decision)
    assert not isinstance(grown, Rejection)
    [child] = grown
    after = by_label(here, child)
    assert after[label].now == decision
    assert {key: s.now for key, s in after.items() if key != label} == {
        key: s.now for key, s in before.items() if key != label
    }
    assert here.load(child.key, child.trace_json) is child
    assert space(name).load(child.key, child.trace_json).text == child.text


def test_a_compute_location_is_set_or_moved_to_a_possible_one_by_tvm() -> None:
    here, [program] = some("flux_conv")
    site = by_label(here, program)["pad"]
    assert site.transformation == "ComputeLocation" and site.choices[:3] == (-2, -1, 0)
    reached = {site.now[0]: site.now[0]}
    for location in site.choices:
        if location != site.now[0]:
            grown = set_at(here, program, site, location)
            if not isinstance(grown, Rejection):
                reached[location] = by_label(here, grown[0])["pad"].now[0]
    possible = {location for location, now in reached.items() if location == now}
    assert possible >= {-2, -1} and any(location > 0 for location in possible)
    assert set(reached.values()) == possible


def test_edits_at_several_sites_all_hold_and_open_ones_are_drawn_beside_them() -> None:
    here, [program] = some("flux_conv")
    sites = by_label(here, program)
    fixed = [Edit("TileSize", sites["conv2d.f"], (1, 2, 2, 4)), Edit("Unroll", sites["unroll"], (64,))]
    grown = here.apply(program, [*fixed, Edit("Parallel")], np.random.default_rng(0), 4, lambda key: False, draws=3)
    assert not isinstance(grown, Rejection)
    assert len({p.key for p in grown}) == len(grown) == 3
    for child in grown:
        after = by_label(here, child)
        assert after["conv2d.f"].now == (1, 2, 2, 4) and after["unroll"].now == (64,)


def test_an_edit_without_an_open_decision_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    here, [program] = some("deepseek_r1_moe")
    site = by_label(here, program)["unroll"]
    tried, once = [], Space._changed

    def counting(self: Space, *arguments: Any) -> Trace | Rejection:
        tried.append(arguments)
        return once(self, *arguments)

    monkeypatch.setattr(Space, "_changed", counting)
    duplicate = here.apply(
        program, [Edit("Unroll", site, (64,))], np.random.default_rng(0), 4, lambda key: True, draws=4
    )
    assert isinstance(duplicate, Rejection) and duplicate.kind == "duplicate"
    assert len(tried) == 1
    here.apply(program, [Edit("Unroll")], np.random.default_rng(0), 4, lambda key: True, draws=4)
    assert len(tried) == 1 + 4 * 4


def test_draws_are_distinct_new_and_as_many_as_wanted_where_there_are_as_many() -> None:
    here, [program] = some("deepseek_r1_moe")
    rng = np.random.default_rng(0)
    grown = here.apply(program, [Edit("TileSize")], rng, 4, {program.key}.__contains__, draws=5)
    assert not isinstance(grown, Rejection)
    keys = [p.key for p in grown]
    assert len(set(keys)) == len(keys) == 5 and program.key not in keys
    few = here.apply(program, [Edit("Unroll")], rng, 8, {program.key}.__contains__, draws=8)
    assert not isinstance(few, Rejection)
    assert len(few) == 3  # the other limits of unrolling


def test_an_exhaustive_rollout_is_a_program_of_the_space_and_repeats() -> None:
    here, [program] = some("deepseek_r1_moe")
    ends = [here.rollout(program, 20, np.random.default_rng(3), 4, mode="exhaustive") for _ in range(2)]
    assert ends[0].key == ends[1].key != program.key
    assert here.rollout(program, 0, np.random.default_rng(3), 4, mode="exhaustive") is program


def test_on_cuda_cooperative_fetch_is_no_site() -> None:
    here = gpu_space("deepseek_r1_moe")
    [program] = here.initial(1, np.random.default_rng(0))
    assert sum("cooperative_fetch" in line for line in program.history) == 2
    sites = by_label(here, program)
    assert list(sites) == ["matmul.n", "matmul.i", "matmul.j", "matmul.k", "unroll"]
    assert [len(s.now) for s in sites.values()] == [5, 5, 5, 3, 1]
    assert sites["unroll"].transformation == "Unroll" and 1024 in sites["unroll"].choices
    grown = set_at(here, program, sites["unroll"], 16 if sites["unroll"].now != (16,) else 0)
    assert not isinstance(grown, Rejection)
    assert by_label(here, grown[0])["unroll"].now in ((16,), (0,))


def notes(name: str, **shape: int) -> list[dict[str, str]]:
    """What the tiles of each extended design count, by label."""
    module = build(name, shape).module
    designs = generate(module, CPU, ("row_fusion", "register_tiles", "packing", "padding")).traces
    found = [[site for _, site in find_sites(module, trace).values()] for trace in designs]
    return [{site.label: site.note for site in sites if site.extent} for sites in found]


def test_tiles_of_vectors_and_groups_say_so() -> None:
    row, vector = "counts groups of 4, unrolled; last factor unrolled", "counts vectors of 16; last factor unrolled"
    assert {"matmul.i_0": row, "matmul.j_0_1": vector, "matmul.k_0": "counts groups of 4, unrolled"} in notes(
        "llama3_8b_attention", batch=1, tokens=16, inner=64, outer=128
    )
    assert notes("flux_attention", heads=2, kv_heads=2, head_dim=32, tokens=64, context=64)[0] == {
        "context.i_0": "counts groups of 16",
        "context.e_0": vector,
        "scores.ax2_0": row,
    }
    convolution = notes("flux_conv", batch=1, channels=8, filters=16, height=16, width=32)
    assert all(design["conv2d.i_1"] == "counts single iterations" for design in convolution)


def test_tiles_of_tvm_have_nothing_to_explain() -> None:
    for name in ("flux_conv", "flux_attention"):
        here, (program,) = some(name)
        assert not any(site.note for site in here.sites(program))


def test_what_may_be_decided_is_on_offer() -> None:
    module = build("flux_attention", {"heads": 2, "kv_heads": 2, "head_dim": 32, "tokens": 64, "context": 64}).module
    here = Space(module, CPU, ("row_fusion",))
    for program in here.initial(20, np.random.default_rng(0)):
        offered = {transformation.name for transformation in here.applicable(program)}
        assert {site.transformation for site in here.sites(program)} <= offered
