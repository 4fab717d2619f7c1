"""Many cheap draws with real TVM: valid, distinct, near what they come from, and the same on any number of cores."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from colt_pipeline.records import canonical_json
from colt_pipeline.space import Program, Space
from colt_pipeline.space import replay as replay_module
from colt_pipeline.space.decisions import Decisions, decided, plain
from colt_pipeline.workloads.catalogue import build
from tests.space.small import CPU, SHAPES, gpu_space, space
from tests.support import printed_elsewhere

pytestmark = pytest.mark.tvm

EXTENDED = ("row_fusion", "register_tiles", "packing", "padding", "sound")


@lru_cache
def extended(name: str) -> Space:
    return Space(build(name, SHAPES[name]).module, CPU, EXTENDED)


SPACES = [*(space(name) for name in ("flux_attention", "flux_conv")), *map(extended, SHAPES), gpu_space("flux_conv")]
here_and_there = pytest.mark.parametrize("here", SPACES, ids=range(len(SPACES)))


def drawn(here: Space, seed: int = 0) -> tuple[list[Program], list[Program], list[Program]]:
    """Fresh ones, some near them, and some between them."""
    rng = np.random.default_rng(seed)
    fresh = here.designs(6, rng)
    return fresh, here.mutants(fresh, 8, rng, 3), here.crossed([(a, b) for a in fresh for b in fresh], rng)


def structures(programs: list[Program]) -> list[str]:
    return [program.key for program in programs]


@here_and_there
def test_draws_are_valid_distinct_and_rebuilt_from_their_traces(here: Space) -> None:
    fresh, near, between = drawn(here)
    assert fresh and near
    for programs in (fresh, near, between):
        assert len({p.structure for p in programs}) == len(programs)
    elsewhere = Space(here.module, here._designs.context.target.export(), here._designs.switches)
    for program in (*fresh[:2], *near[:2], *between[:2]):
        assert elsewhere.load(program.key, program.trace_json).text == program.text
        assert here.load(program.key, program.trace_json) is program


@here_and_there
def test_a_draw_has_no_text_until_somebody_asks(here: Space) -> None:
    for program in here.designs(2, np.random.default_rng(4)):
        assert {"text", "key", "trace_json"}.isdisjoint(vars(program))


@here_and_there
def test_mutants_differ_in_few_decisions_from_a_parent(here: Space) -> None:
    rng = np.random.default_rng(2)
    [parent] = here.designs(1, rng)
    for program in here.mutants([parent], 6, rng, 1):
        pairs = zip(parent.decisions.values, program.decisions.values, strict=True)
        assert program.design == parent.design and sum(a != b for a, b in pairs) == 1


@here_and_there
def test_offspring_have_every_decision_from_a_parent(here: Space) -> None:
    rng = np.random.default_rng(3)
    parents = here.designs(8, rng)
    pairs = [(a, b) for a in parents for b in parents]
    for program in here.crossed(pairs, rng):
        assert any(
            program.design == a.design
            and all(v in both for v, *both in zip(*(p.decisions.values for p in (program, a, b)), strict=True))
            for a, b in pairs
            if a.design == b.design
        )


def test_the_number_of_cores_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(replay_module, "usable_cores", lambda cores=cores: cores)
        replay_module._copies.cache_clear()
        found.append([structures(programs) for programs in drawn(extended("flux_conv"))])
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
        assert decided(program.design, Decisions.of(program.trace)) == program.trace_json
        assert str(program.decisions.made(program.decisions.values)) == str(program.trace)


@here_and_there
def test_nothing_comes_from_nothing(here: Space) -> None:
    rng = np.random.default_rng(0)
    assert here.mutants([], 4, rng) == here.crossed([], rng) == here.designs(0, rng) == []
