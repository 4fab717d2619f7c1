"""Traces from files: what TVM makes may be loaded, and nothing else is built."""

from __future__ import annotations

import hashlib
import itertools
import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm.s_tir import Schedule
from tvm.s_tir.schedule import Trace

from colt_pipeline.errors import SpaceError
from colt_pipeline.measurement.cuda import cuda_target
from colt_pipeline.space import Program, Space
from colt_pipeline.traces import check_trace_json
from colt_pipeline.workloads.catalogue import build
from tests.space.small import CPU, GPU, SHAPES
from tests.support import SMALL

pytestmark = pytest.mark.tvm

TARGETS = {
    "cpu": CPU,
    "cpu with AVX512": {"kind": "llvm", "num-cores": 4, "mcpu": "cascadelake"},
    "gpu": GPU,
    "gpu with asynchronous copies": cuda_target("sm_90"),
}
EVIL = "define void @planted() {\n  ret void\n}\n@llvm.global_ctors = appending global [1 x i8] zeroinitializer\n"


@cache
def programs(name: str, target: str) -> tuple[Space, list[Program]]:
    """Samples of a small workload, and what some transformations make of them."""
    here, rng = Space(build(name, SHAPES.get(name, SMALL[name])).module, TARGETS[target]), np.random.default_rng(3)
    found = here.initial(2, rng)
    found += [here.rollout(start, 6, rng, 4, "fixed") for start in found]
    return here, found


@pytest.mark.parametrize(
    ("name", "target"),
    [
        *itertools.product([*SHAPES, "batched_matmul_nt", "depthwise_conv"], ["cpu", "gpu with asynchronous copies"]),
        ("deepseek_r1_moe", "cpu with AVX512"),
        ("deepseek_r1_moe", "gpu"),
    ],
)
def test_what_the_rules_and_mutators_make_may_be_loaded(name: str, target: str) -> None:
    here, found = programs(name, target)
    for program in found:
        check_trace_json(program.trace_json)
        assert here.rebuild(program.trace_json).key == program.key
    assert len({program.key for program in found}) > 2


def planted(trace_json: str, key: str = "pragma_import_llvm", text: str = EVIL) -> str:
    """The trace with an annotation of its last loop."""
    instructions, decisions = json.loads(trace_json)
    *_, loop = (i[3][-1] for i in instructions if i[0] == "Split")
    return json.dumps([[*instructions, ["Annotate", [loop, f'"{text}"'], [key], []]], decisions])


@pytest.mark.parametrize("key", ["pragma_import_llvm", "pragma_import_c", "pragma_unroll", "software_pipeline"])
def test_a_planted_annotation_is_refused_by_name(key: str) -> None:
    here, found = programs("deepseek_r1_moe", "cpu")
    with pytest.raises(SpaceError, match=f"key '{key}'"):
        here.rebuild(planted(found[0].trace_json, key))


def test_a_permitted_instruction_that_no_design_space_has_is_refused() -> None:
    here, found = programs("deepseek_r1_moe", "cpu")
    instructions, decisions = json.loads(found[0].trace_json)
    instructions.append(["GetSBlock", [], ["matmul", "main"], ["b9999"]])
    check_trace_json(json.dumps([instructions, decisions]))
    with pytest.raises(SpaceError, match="no design space"):
        here.rebuild(json.dumps([instructions, decisions]))


@settings(max_examples=40)
@given(st.data())
def test_foreign_decisions_give_a_program_or_one_error(data: st.DataObject) -> None:
    here, found = programs("flux_conv", data.draw(st.sampled_from(["cpu", "gpu"])))
    instructions, decisions = json.loads(data.draw(st.sampled_from(found)).trace_json)
    entry: Any = data.draw(st.sampled_from(decisions))
    number = st.sampled_from([-2, -1, 0, 1, 2, 3, 7, 64, 2**31 - 1])
    entry[1] = [data.draw(number) for _ in entry[1]] if isinstance(entry[1], list) else data.draw(number)
    try:
        program = here.rebuild(json.dumps([instructions, decisions]))
    except SpaceError:
        return
    assert here.load(program.key, program.trace_json) is program


def annotated(text: str) -> Program:
    """A program into which `text` was put past all checks."""
    here, found = programs("deepseek_r1_moe", "cpu")
    schedule = Schedule(here.module, debug_mask="none")
    Trace.apply_json_to_schedule(json.loads(planted(found[0].trace_json, text=text)), schedule)
    return Program(schedule, schedule.trace)


def test_a_key_covers_what_the_text_leaves_out() -> None:
    one, other = annotated(EVIL), annotated(EVIL.replace("planted", "another"))
    assert one.text == other.text and "Metadata omitted" in one.text
    assert one.key != other.key and annotated(EVIL).key == one.key


def test_a_key_is_the_hash_of_a_text_that_leaves_nothing_out() -> None:
    for target in ("cpu", "gpu"):
        for program in programs("flux_conv", target)[1]:
            assert program.key == hashlib.sha256(program.text.encode()).hexdigest()
