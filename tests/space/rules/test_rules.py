"""What the additions to TVM's design space find, that their programs are right, and what a search may decide."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm.s_tir import Schedule

from colt_pipeline.records import Edit
from colt_pipeline.space import Program, Space, trace_text
from colt_pipeline.space import additions as table
from colt_pipeline.space.additions import additions
from colt_pipeline.space.generate import generate
from colt_pipeline.traces import check_trace_json
from colt_pipeline.workloads.catalogue import build
from colt_pipeline.workloads.own import of_program
from colt_pipeline.workloads.workload import Workload
from tests.space.rules.kernels import FUSED, NEITHER, TILED, attention, convolution
from tests.workloads.operators import gemm
from tests.workloads.test_operators import HERE, errors, run

pytestmark = pytest.mark.tvm

ALL = ("vector_math", "row_fusion", "register_tiles", "packing", "padding", "sound")
MADE = {**FUSED, **TILED}


@cache
def workload(name: str) -> Workload:
    return of_program("kernel", {**MADE, **NEITHER}[name](), {})


def found(made: Workload, switches: tuple[str, ...] = ALL) -> list[str]:
    fresh = Schedule(made.module, debug_mask="none")
    return [addition.switch for addition in additions("llvm", switches) if addition.applies(fresh)]


def kinds(made: Workload, switches: tuple[str, ...]) -> set[str]:
    """The kinds of instructions in the design spaces."""
    return {inst.kind.name for trace in generate(made.module, HERE, switches).traces for inst in trace.insts}


@pytest.mark.parametrize("name", MADE)
def test_programs_of_the_rules_are_right_and_can_be_loaded_again(name: str) -> None:
    made = workload(name)
    space = Space(made.module, HERE, ALL)
    assert "Vectorize" in kinds(made, ALL)
    inputs = made.inputs()
    expected = made.expected(inputs)
    for program in space.initial(2, np.random.default_rng(0)):
        check_trace_json(program.trace_json)
        assert space.rebuild(program.trace_json).key == program.key
        assert max(errors(made, run(program.schedule.mod, made, inputs), expected)) <= 1


@pytest.mark.parametrize("name", MADE)
def test_a_pattern_is_found_by_structure(name: str) -> None:
    fused = name in FUSED or name == "scores are an output"  # the rule finds out only when it moves the blocks
    assert found(workload(name))[0] == ("row_fusion" if fused else "register_tiles")


@pytest.mark.parametrize("name", NEITHER)
def test_other_programs_keep_the_design_spaces_of_tvm(name: str) -> None:
    made = workload(name)
    assert found(made) == []
    texts = [[str(t) for t in generate(made.module, HERE, switches).traces] for switches in ((), ("row_fusion",))]
    assert texts[0] == texts[1]


def test_without_switches_the_space_is_that_of_tvm() -> None:
    made = workload("convolution")
    assert found(made, ()) == []
    assert "Vectorize" not in kinds(made, ())
    assert {"MultiLevelTiling", "AutoInline"} <= {
        type(rule).__name__ for rule in generate(made.module, HERE, ()).context.space_generator.sch_rules
    }


@pytest.mark.parametrize(
    ("name", "switch", "instruction"),
    [("transposed operand", "packing", "TransformLayout"), ("depthwise", "padding", "DecomposePadding")],
)
def test_a_switch_turns_its_addition_off(name: str, switch: str, instruction: str) -> None:
    without = tuple(other for other in ALL if other != switch)
    assert instruction in kinds(workload(name), ALL)
    assert instruction not in kinds(workload(name), without)
    assert "Vectorize" in kinds(workload(name), without)


def test_without_row_fusion_attention_gets_register_tiles() -> None:
    assert found(workload("attention"), tuple(other for other in ALL if other != "row_fusion")) == ["register_tiles"]


def test_a_rule_that_fails_leaves_the_program_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    """The scores of this chain are needed outside of its loops."""
    made = of_program("kernel", attention(kept=True), {})  # not generated before, so that the warning comes
    assert "Vectorize" in kinds(made, ALL)
    assert "the design space has no row_fusion" in caplog.text


def test_a_pattern_that_cannot_be_looked_for_is_not_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(sch: Schedule) -> bool:
        raise ValueError("no root block")

    monkeypatch.setattr(table, "ADDITIONS", [table.Addition("row_fusion", "llvm", fails, lambda switches: [])])
    made = of_program("kernel", gemm("float32", "float32", "float32", 8, 8, 8), {})
    assert generate(made.module, HERE, ("row_fusion",)).has_choice
    assert "the design space has no row_fusion: no root block" in caplog.text


def tiled_by_hand(space: Space, start: Program) -> Iterator[tuple[Edit, Program]]:
    """The program with each site's decision replaced by another one."""
    for site in space.sites(start):
        if site.extent:
            other = (site.extent, *(1,) * (len(site.now) - 1))
        else:
            other = (next(choice for choice in site.choices if choice not in site.now),)
        edit = Edit(site.transformation, site, other)
        changed = space.apply(start, [edit], np.random.default_rng(0), 1, lambda key: False)
        if isinstance(changed, list):
            yield edit, changed[0]


@pytest.mark.parametrize("name", ["attention", "many rows", "depthwise"])
def test_every_tile_can_be_edited_down_to_one(name: str) -> None:
    made = workload(name)
    space = Space(made.module, HERE, ALL)
    (start,) = space.initial(1, np.random.default_rng(1))
    inputs = made.inputs()
    expected = made.expected(inputs)
    edited = list(tiled_by_hand(space, start))
    assert {edit.name for edit, _ in edited} >= {"TileSize", "Unroll"}
    for edit, program in edited:
        assert edit.site is not None
        now = {site.label: site.now for site in space.sites(program)}
        assert now[edit.site.label] == edit.decision
        assert max(errors(made, run(program.schedule.mod, made, inputs), expected)) <= 1


def test_mutators_find_tiles_and_unrolling() -> None:
    space = Space(workload("attention").module, HERE, ALL)
    (start,) = space.initial(1, np.random.default_rng(0))
    assert [t.name for t in space.applicable(start)] == ["TileSize", "Unroll", "Parallel"]
    changed = space.apply(start, [Edit("TileSize")], np.random.default_rng(0), 8, lambda key: key == start.key, 3)
    assert isinstance(changed, list) and len({program.key for program in changed}) > 1


def test_sites_have_the_names_of_blocks_and_loops() -> None:
    labels = {}
    for name, made in {"attention": attention(), "convolution": convolution()}.items():
        space = Space(of_program(name, made, {}).module, HERE, ALL)
        (start,) = space.initial(1, np.random.default_rng(0))
        labels[name] = {site.label.split(".")[0] for site in space.sites(start)}
    assert labels["attention"] == {"context", "scores", "parallel", "unroll"}
    assert {"conv2d_nchw", "parallel", "unroll"} <= labels["convolution"]


@pytest.mark.parametrize("name", ["depthwise", "transposed operand", "attention"])
def test_the_steps_of_a_schedule_are_python_that_makes_it_again(name: str) -> None:
    """TVM itself cannot print how padding is decomposed."""
    space = Space(workload(name).module, HERE, ALL)
    (program,) = space.initial(1, np.random.default_rng(0))
    again = Schedule(space.module, debug_mask="none")
    exec("\n".join(trace_text.steps(program.schedule.trace)), {"sch": again})
    assert tvm_ffi.structural_equal(again.mod, program.schedule.mod)
    assert len(program.history) > 20
    assert program.trace_json == space.rebuild(program.trace_json).trace_json


def test_programs_that_differ_in_a_decision_have_different_texts() -> None:
    space = Space(workload("depthwise").module, HERE, ALL)
    programs = space.initial(4, np.random.default_rng(0))
    assert len({trace_text.text(program.trace) for program in programs}) == len(programs) == 4
    assert not any("object at" in trace_text.text(program.trace) for program in programs)


def registers(module: tvm.IRModule) -> set[str]:
    """The scopes of a module's buffers."""
    text = module.script()
    return {scope for scope in ("local", "shared") if f'scope="{scope}"' in text}


def test_sums_are_local_and_statements_are_vectors() -> None:
    made = of_program("product", gemm("float32", "float32", "float32", 64, 64, 64), {})
    for program in Space(made.module, HERE, ALL).initial(3, np.random.default_rng(0)):
        assert registers(program.schedule.mod) == {"local"}
        assert "T.vectorized(16)" in program.text


def test_all_cores_have_work() -> None:
    """Whatever is decided, the outermost loop has a share for each core."""
    module = build("llama3_8b_attention", {"batch": 1, "tokens": 16, "inner": 256, "outer": 512}).module
    target: dict[str, Any] = {**HERE, "num-cores": 4}
    for program in Space(module, target, ALL).initial(8, np.random.default_rng(0)):
        parallel = [line for line in program.text.splitlines() if "T.parallel(" in line]
        assert any(int(re.split("[,)]", line.split("T.parallel(")[1])[0]) >= 4 for line in parallel)
