"""The space with real TVM: deterministic, lossless, clean text."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.s_tir import meta_schedule as ms

from colt_pipeline.errors import SpaceError
from colt_pipeline.records import Edit, Rejection
from colt_pipeline.space import Program, Space
from colt_pipeline.space import drawn as drawn_module
from colt_pipeline.workloads.catalogue import build
from tests.space.small import CPU, SHAPES, space
from tests.support import printed_elsewhere

pytestmark = pytest.mark.tvm


def walk(name: str, steps: int = 25) -> list[str]:
    """Keys along a seeded random walk."""
    here, rng = space(name), np.random.default_rng(7)
    programs = here.initial(3, rng)
    keys = [p.key for p in programs]
    program = programs[0]
    for _ in range(steps):
        names = [t.name for t in here.applicable(program)]
        edits = [Edit(names[i]) for i in rng.integers(len(names), size=3)]
        grown = here.apply(program, edits, rng, 3, set().__contains__)
        if not isinstance(grown, Rejection):
            program = grown[0]
        keys.append(program.key)
    return keys


@pytest.fixture(scope="module")
def walks_elsewhere() -> dict[str, list[str]]:
    """The walk of every shape in another process."""
    code = "import sys; from tests.space.test_program import walk\nfor name in sys.argv[1:]: print(*walk(name))"
    lines = printed_elsewhere(code, *SHAPES).splitlines()
    return {name: line.split() for name, line in zip(SHAPES, lines, strict=True)}


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_seed_gives_the_same_programs_in_another_process(
    name: str, walks_elsewhere: dict[str, list[str]]
) -> None:
    here = walk(name)
    assert len(set(here)) > 10
    assert walks_elsewhere[name] == here


def test_a_program_comes_back_from_its_trace() -> None:
    here, there, rng = space("flux_conv"), space("flux_conv"), np.random.default_rng(1)
    program = here.rollout(here.initial(1, rng)[0], 6, rng, 4, mode="fixed")
    loaded = there.load(program.key, program.trace_json)
    assert (loaded.text, loaded.history, loaded.trace_json) == (program.text, program.history, program.trace_json)


def test_a_trace_that_gives_another_program_is_refused() -> None:
    here, rng = space("flux_conv"), np.random.default_rng(1)
    program = here.initial(1, rng)[0]
    with pytest.raises(SpaceError, match="another program"):
        here.load("0" * 64, program.trace_json)


def test_transformations_change_what_they_say() -> None:
    here, rng = space("flux_attention"), np.random.default_rng(5)
    program = here.initial(1, rng)[0]
    # ComputeLocation needs a movable block, which not every design of this small shape has.
    assert {"TileSize", "Unroll", "Parallel"} <= {t.name for t in here.applicable(program)}
    for name, line in {"TileSize": "sample_perfect_tile", "Unroll": "sample_categorical"}.items():
        grown = here.apply(program, [Edit(name)], rng, 8, {program.key}.__contains__)
        assert not isinstance(grown, Rejection)
        [changed] = grown
        differing = [b for a, b in zip(program.history, changed.history, strict=True) if a != b]
        assert differing and all(line in d for d in differing)


def test_the_table_offers_each_target_its_own() -> None:
    rng = np.random.default_rng(0)
    here = space("deepseek_r1_moe")
    offered = {t.name for p in here.initial(3, rng) for t in here.applicable(p)}
    assert {"TileSize", "Unroll", "Parallel"} <= offered
    assert "ThreadBinding" not in offered


def test_known_programs_are_duplicates_and_impossible_ones_inapplicable() -> None:
    here, rng = space("deepseek_r1_moe"), np.random.default_rng(0)
    program = here.initial(1, rng)[0]
    duplicate = here.apply(program, [Edit("Unroll")], rng, 2, lambda key: True)
    assert isinstance(duplicate, Rejection) and duplicate.kind == "duplicate"
    moved = here.apply(program, [Edit("ComputeLocation")], rng, 2, lambda key: False)
    assert isinstance(moved, Rejection) and moved.kind == "inapplicable" and "ComputeLocation" in moved.detail


def test_text_for_prompts_has_no_noise() -> None:
    here, rng = space("flux_conv"), np.random.default_rng(3)
    program = here.initial(1, rng)[0]
    assert program.code.startswith("@T.prim_func")
    for noise in ("0x", "import", "T.reads", "tiling_structure", "class Module"):
        assert noise not in program.code
    assert all("sch." in line and "0x" not in line for line in program.history)
    assert here.base_code.count("T.grid") == 2  # padding and convolution, unscheduled


def test_runs_of_one_process_share_where_they_begin_and_nothing_else() -> None:
    here, there = space("flux_conv"), space("flux_conv")
    mine, yours = np.random.default_rng(3), np.random.default_rng(3)
    assert here.initial(3, mine)[0] is there.initial(3, yours)[0]
    assert mine.integers(2**60) == yours.integers(2**60)  # the generators are in the same state, too
    assert {p.key for p in here.initial(3, mine)}.isdisjoint(there._programs)


@pytest.mark.parametrize("additions", [(), ("register_tiles", "sound")])
def test_a_program_of_two_traces_has_the_one_that_was_taken(additions: tuple[str, ...]) -> None:
    """Whatever this process has drawn before."""
    module = build("deepseek_r1_moe", SHAPES["deepseek_r1_moe"]).module
    here, there = Space(module, CPU, additions), Space(module, CPU, additions)
    rng = np.random.default_rng(0)
    [start] = here.initial(1, rng)
    site = next(site for site in here.sites(start) if site.label == "parallel")

    def drawn(space: Space, limit: int) -> Program:
        edit = Edit("Parallel", site, (limit,))
        found = space.apply(space.load(start.key, start.trace_json), [edit], rng, 1, lambda key: False)
        assert not isinstance(found, Rejection)
        return found[0]

    first, second = drawn(here, 512), drawn(here, 1024)
    assert first.key == second.key and first.trace_json != second.trace_json
    resumed = there.load(second.key, second.trace_json)
    taken = here.load(second.key, second.trace_json)
    assert taken.history == resumed.history == drawn(there, 1024).history != first.history
    assert here.sites(taken) == there.sites(resumed)


def test_a_trace_that_is_drawn_again_is_not_replayed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    here = space("deepseek_r1_moe")
    [start] = here.initial(1, np.random.default_rng(0))
    drawn = here.apply(start, [Edit("Unroll")], np.random.default_rng(1), 4, {start.key}.__contains__, draws=3)
    monkeypatch.setattr(drawn_module, "realize", lambda *_: pytest.fail("replayed"))
    again = here.apply(start, [Edit("Unroll")], np.random.default_rng(1), 4, {start.key}.__contains__, draws=3)
    assert not isinstance(drawn, Rejection) and again == drawn


@pytest.mark.parametrize("name", SHAPES)
def test_a_look_at_the_instructions_says_what_the_mutator_would(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    here, rng = space(name), np.random.default_rng(0)
    mutator, mutate = here._mutators["ComputeLocation"], ms._ffi_api.MutatorApply
    programs = here.initial(8, rng)
    programs += [here.rollout(start, 4, rng, 4, "fixed") for start in programs]
    found = [any(mutate(mutator, program.trace, seed) for seed in (1, 2)) for program in programs]
    assert found == ["ComputeLocation" in {t.name for t in here.applicable(program)} for program in programs]
    monkeypatch.setattr(ms._ffi_api, "MutatorApply", lambda *_: pytest.fail("tried"))
    without = next((program for program, one in zip(programs, found, strict=True) if not one), None)
    assert without is None or here._mutate(without, without.trace, "ComputeLocation", 1) is None
