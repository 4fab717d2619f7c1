"""Many cheap draws with real TVM: valid, distinct, near what they come from, and the same on any number of cores."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from colt_pipeline.serialization import canonical_json
from colt_pipeline.space import Program, Space, trace_text
from colt_pipeline.space import replay as replay_module
from colt_pipeline.space.decisions import plain
from colt_pipeline.workloads.catalogue import build
from tests.space.small import CPU, GPU, SHAPES, gpu_space, space
from tests.support import printed_elsewhere

pytestmark = pytest.mark.tvm

EXTENDED = ("row_fusion", "register_tiles", "packing", "padding", "sound")


@lru_cache
def extended(name: str) -> Space:
    return Space(build(name, SHAPES[name]).module, CPU, EXTENDED)


SPACES = [*(space(name) for name in ("flux_attention", "flux_conv")), *map(extended, SHAPES), gpu_space("flux_conv")]
here_and_there = pytest.mark.parametrize("here", SPACES, ids=range(len(SPACES)))


def drawn(here: Space, seed: int = 0) -> tuple[list[Program], list[Program]]:
    """Fresh ones, and some near them."""
    rng = np.random.default_rng(seed)
    fresh = here.designs(6, rng)
    return fresh, [program for _, program in here.make(here.sketches(fresh, 16, rng), 16, frozenset())]


def structures(programs: list[Program]) -> list[str]:
    return [program.key for program in programs]


@here_and_there
def test_draws_are_valid_and_rebuilt_from_their_traces(here: Space) -> None:
    fresh, near = drawn(here)
    assert fresh and near
    elsewhere = Space(here.module, GPU if here._designs.on_gpu else CPU, here._designs.switches)
    for program in (*fresh[:2], *near[:4]):
        assert elsewhere.load(program.key, program.trace_json).text == program.text
        assert here.load(program.key, program.trace_json) is program


@here_and_there
def test_a_draw_has_no_trace_in_text_until_somebody_asks(here: Space) -> None:
    for program in here.designs(2, np.random.default_rng(4)):
        assert "trace_json" not in vars(program)


@here_and_there
def test_a_sketch_is_the_program_that_is_made_of_it(here: Space) -> None:
    rng = np.random.default_rng(2)
    sketched = here.sketches(here.designs(6, rng), 16, rng)
    made = here.make(sketched, len(sketched), frozenset())
    assert made and {sketch for sketch, _ in made} <= set(sketched)
    for sketch, program in made:
        if program.decisions.values == sketch.values:  # TVM moves impossible locations
            assert program.design == sketch.point.design
            assert np.array_equal(program.point.coordinates, sketch.point.coordinates)


@here_and_there
def test_what_is_known_or_invalid_is_replaced_by_the_next_sketch(here: Space) -> None:
    rng = np.random.default_rng(2)
    sketched = here.sketches(here.designs(6, rng), 16, rng)
    keys = [program.key for _, program in here.make(sketched, len(sketched), frozenset())]
    assert len(set(keys)) == len(keys)
    count = len(keys) // 2
    assert [program.key for _, program in here.make(sketched, count, frozenset())] == keys[:count]
    assert [program.key for _, program in here.make(sketched, count, set(keys[:2]))] == keys[2 : 2 + count]
    assert here.make(sketched, len(sketched), set(keys)) == []


@here_and_there
def test_sketches_are_distinct_and_near_their_parents(here: Space) -> None:
    rng = np.random.default_rng(3)
    programs = here.designs(8, rng)
    sketched = here.sketches(programs, 60, rng)
    known = {(p.design, p.decisions.values) for p in programs}
    assert len({(s.point.design, s.values) for s in sketched} - known) == len(sketched)
    for sketch in sketched:
        parents = [programs[n] for n in sketch.parents]
        assert {p.design for p in parents} == {sketch.point.design}
        values = zip(sketch.values, *(p.decisions.values for p in parents), strict=True)
        changed = sum(value not in of_parents for value, *of_parents in values)
        assert changed == 0 if len(parents) == 2 else 1 <= changed <= 3


def test_the_number_of_cores_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(replay_module, "usable_cores", lambda cores=cores: cores)
        replay_module._copies.cache_clear()
        here = Space(build("flux_conv", SHAPES["flux_conv"]).module, CPU, EXTENDED)  # others remember what they drew
        found.append([structures(programs) for programs in drawn(here)])
    replay_module._copies.cache_clear()
    assert found[0] == found[1]


def test_another_process_draws_the_same() -> None:
    code = (
        "from tests.space.test_draws import drawn, extended, structures\n"
        "print(*(key for programs in drawn(extended('flux_attention')) for key in structures(programs)))"
    )
    here = [key for programs in drawn(extended("flux_attention")) for key in structures(programs)]
    assert printed_elsewhere(code).split() == here


@here_and_there
def test_a_trace_in_json_is_tvms(here: Space) -> None:
    for program in (p for programs in drawn(here, 1) for p in programs):
        assert program.trace_json == canonical_json(plain(program.trace.as_json()))
        made = program.decisions.made(program.decisions.values)
        assert trace_text.text(made) == trace_text.text(program.trace)


@here_and_there
def test_nothing_comes_from_nothing(here: Space) -> None:
    rng = np.random.default_rng(0)
    assert here.sketches([], 4, rng) == here.make([], 4, frozenset()) == here.designs(0, rng) == []
