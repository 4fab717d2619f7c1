"""Compact prompts keep loops, annotations, blocks and decisions in a third of the text; stand-ins can read them."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from colt_pipeline.llm.client import Question
from colt_pipeline.llm.compact import decisions, outline, shorten
from colt_pipeline.llm.embedded import EmbeddedClient
from colt_pipeline.llm.knowledge import nests
from colt_pipeline.llm.parse import parse
from colt_pipeline.llm.prompt import render
from colt_pipeline.records import ModelSpec, ProgramView, PromptContext, Proposal, Rejection
from colt_pipeline.space import Space
from tests.llm.contexts import RECORDED
from tests.space.small import gpu_space, space
from tests.support import ROOT

PLAIN = dataclasses.replace(RECORDED, sites=())


def text(context: PromptContext, code: str = "compact") -> str:
    return "\n".join(m["content"] for m in render(context, code))


def test_an_outline_keeps_loops_annotations_and_blocks() -> None:
    assert outline(RECORDED.lineage[0].code).splitlines() == [
        "for n_0_i_0_j_0_n_1_i_1_j_1_fused in T.parallel(8, "
        'annotations={"pragma_auto_unroll_max_step": 16, "pragma_unroll_explicit": 1})',
        " for n_2_init, i_2_init, j_2_init, n_3_init, i_3_init in T.grid(1, 2, 64, 1, 4)",
        "  for j_3_fused_init in T.vectorized(16)",
        '   T.sblock("matmul_init")',
        " for k_0, n_2, i_2, j_2, k_1, n_3, i_3 in T.grid(128, 1, 2, 64, 32, 1, 4)",
        "  for j_3_fused in T.vectorized(16)",
        '   T.sblock("matmul_update")',
    ]


def test_an_outline_keeps_what_a_gpu_and_annotated_blocks_add() -> None:
    code = """
def main(A: T.Buffer((4,), "float32")):
    A_shared = T.sblock_alloc_buffer((4,), scope="shared")
    for i in T.thread_binding(2, thread="blockIdx.x"):
        for k_0 in range(8):
            for j in T.unroll(4):
                with T.sblock("A_shared"):
                    v = T.axis.spatial(4, j)
                    T.where(i < 2)
                    T.sblock_attr({"buffer_dim_align": [[0, 0, 32, 8]]})
                    A_shared[v] = A[v]
    for j in range(4):
        with T.sblock("out"):
            A[j] = A_shared[j]
"""
    assert outline(code).splitlines() == [
        'for i in T.thread_binding(2, thread="blockIdx.x")',
        " for k_0 in range(8)",
        "  for j in T.unroll(4)",
        '   T.sblock("A_shared")',
        '    T.sblock_attr({"buffer_dim_align": [[0, 0, 32, 8]]})',
        "for j in range(4)",
        ' T.sblock("out")',
    ]


@pytest.mark.parametrize("path", sorted((ROOT / "results/workloads").glob("*.txt")), ids=lambda path: path.stem)
def test_an_outline_of_a_workload_holds_all_its_blocks_and_loops(path: Path) -> None:
    code = path.read_text()
    short = outline(code)
    for pattern in (r'^ *with T\.(sblock\("\w+"\))', r"^ *(for .+ in T\.\w+\(.+\)):"):
        found = re.findall(pattern, code, re.MULTILINE)
        assert found and re.findall(pattern.replace("with ", "").rstrip(":"), short, re.MULTILINE) == found
    assert "Buffer" not in short and "axis" not in short


def test_decisions_are_read_from_a_trace() -> None:
    assert decisions(RECORDED.lineage[0].history) == [
        ("matmul.0", "[1, 1, 1, 1]"),
        ("matmul.1", "[2, 1, 2, 4]"),
        ("matmul.2", "[4, 1, 64, 16]"),
        ("matmul.3", "[128, 32]"),
        ("parallel", "8"),
        ("unroll", "16"),
    ]
    assert decisions(()) == []


def test_decisions_of_other_kinds() -> None:
    history = (
        'b0 = sch.get_sblock(name="pad", func_name="main")',
        "b1, = sch.get_producers(block=b0)",
        "l3 = sch.sample_compute_location(block=b0, decision=-1)",
        "l4 = sch.sample_compute_location(block=b1, decision=2)",
        "l5, = sch.get_loops(block=b0)",
        "v6, v7 = sch.sample_perfect_tile(loop=l5, n=2, max_innermost_factor=64, decision=[2, 33])",
        "v8 = sch.sample_categorical(candidates=[1, 2, 3, 4], probs=[0.25, 0.25, 0.25, 0.25], decision=3)",
        'sch.annotate(block_or_loop=b0, ann_key="meta_schedule.cooperative_fetch", ann_val=v8)',
        "v9 = sch.sample_categorical(candidates=[32, 64], probs=[0.5, 0.5], decision=1)",
        "l10, l11 = sch.split(loop=l5, factors=[None, v9], preserve_unit_iters=True, disable_predication=False)",
    )
    assert decisions(history) == [("pad", "-1"), ("b1", "2"), ("pad.0", "[2, 33]"), ("threads", "64")]


def test_with_sites_an_ancestor_shows_what_differs_by_the_names_of_the_sites() -> None:
    current, parent, grandparent = shorten(RECORDED).lineage
    assert current.history == ()
    assert parent.history == (
        "matmul.i = [2, 4, 1, 2]",
        "matmul.j = [1, 4, 64, 16]",
        "matmul.k = [2048, 2]",
        "parallel = 1",
        "unroll = 0",
    )
    assert grandparent.history == (*parent.history[:3], "parallel = 32", "unroll = 0")


def test_without_sites_every_program_shows_its_decisions() -> None:
    current, parent, _ = shorten(PLAIN).lineage
    assert current.history[1] == "matmul.1 = [2, 1, 2, 4]" and len(current.history) == len(parent.history) == 6


def test_sites_that_do_not_agree_with_the_trace_give_it_no_names() -> None:
    other = dataclasses.replace(RECORDED, sites=RECORDED.sites[1:])
    assert shorten(other).lineage[1].history[0] == "matmul.1 = [2, 4, 1, 2]"


def test_an_ancestor_of_another_structure_keeps_its_own_names() -> None:
    cut = dataclasses.replace(RECORDED.lineage[1], history=RECORDED.lineage[1].history[:6])
    short = shorten(dataclasses.replace(RECORDED, lineage=(RECORDED.lineage[0], cut)))
    assert short.lineage[1].history == ("matmul.0 = [1, 1, 1, 1]",)


@pytest.mark.parametrize("models", [1, 3, 8])
def test_a_compact_prompt_is_less_than_half_of_a_full_one(models: int) -> None:
    context = dataclasses.replace(RECORDED, models=RECORDED.models[:models])
    assert len(text(context)) / 4 < 1500
    assert len(text(context)) < 0.4 * len(text(context, "full"))


@pytest.mark.parametrize(
    "item",
    [
        "## Current program\nPredicted score: 0.7939\n",
        "## Parent\nPredicted score: 0.4087\n",
        "Decisions: matmul.i = [2, 4, 1, 2]; ",
        "Available transformations: TileSize, Unroll, Parallel\n",
        "Leaf depth: 3\n",
        "Samples: 50 of 64\n",
        "matmul.k: TileSize, 2 factors with product 4096, the last at most 64; now [128, 32]\n",
        "qwen3-8b: parameters=8B, calls=20, hit_rate=0.300, errors=2\n",
        "course_alterations=8\n",
        "expanded by: deepseek-r1-distill-qwen-7b, deepseek-r1-distill-qwen-7b, gpt-5-mini\n",
        "- Unroll: choose another limit",
        "mcpu znver3, 2 cores; vectors of 8 float32",
        "gpt-5.2 about a fifth of all calls",
        '"next_model": "<model>"',
    ],
)
def test_every_item_is_in_a_compact_prompt(item: str) -> None:
    assert item in text(RECORDED)


def test_a_compact_prompt_of_a_single_model_asks_for_no_other() -> None:
    alone = text(dataclasses.replace(RECORDED, models=RECORDED.models[:1]))
    assert "next_model" not in alone and "hit_rate" not in alone and "expanded by" not in alone


def test_the_unoptimized_program_has_no_decisions() -> None:
    base = ProgramView("for i in range(4):\n    pass", (), None, None)
    short = text(dataclasses.replace(RECORDED, lineage=(RECORDED.lineage[0], base)))
    assert "## Parent\nPredicted score: not applicable (the unoptimized program)\nfor i in range(4)\n\n" in short


def test_the_fixed_part_of_a_compact_prompt_comes_first() -> None:
    later = dataclasses.replace(RECORDED, depth=7, lineage=RECORDED.lineage[:1], sites=RECORDED.sites[:2])
    assert render(later, "compact")[0] == render(RECORDED, "compact")[0]


def test_the_rules_find_the_same_nests_in_a_compact_prompt() -> None:
    assert nests(text(RECORDED)) == nests(text(RECORDED, "full")) != []


def stand_in_verdicts(context: PromptContext, parameters_b: float) -> list[Proposal | Rejection]:
    model = ModelSpec("m", "embedded", "m", parameters_b, False)
    question = Question(model, render(context, "compact"), {})
    names, models = [name for name, _ in context.transformations], [m.name for m in context.models]
    replies = (EmbeddedClient().complete(question, n) for n in range(100))
    return [parse(reply, names, models, context.sites) for reply in replies]


@pytest.mark.parametrize("context", [RECORDED, PLAIN], ids=["sites", "names"])
def test_stand_ins_answer_compact_prompts(context: PromptContext) -> None:
    found = stand_in_verdicts(context, 300.0)
    decided = [any(e.site for e in v.transformations) for v in found if isinstance(v, Proposal) and v.next_model]
    assert len(decided) == len(found)  # the largest model's answers are never broken
    assert (sum(decided) > 60) == bool(context.sites)


def test_stand_ins_see_in_an_outline_what_is_missing() -> None:
    bare = dataclasses.replace(PLAIN.lineage[0], code="for i in range(4):\n    pass")
    without = dataclasses.replace(PLAIN, lineage=(bare, *PLAIN.lineage[1:]))
    starts = [
        [tuple(map(str, v.transformations[:2])) for v in stand_in_verdicts(shown, 300.0) if isinstance(v, Proposal)]
        for shown in (without, PLAIN)
    ]
    assert set(starts[0]) == {("Parallel", "Unroll")}
    assert starts[1].count(("Parallel", "Unroll")) < 20


@pytest.mark.tvm
@pytest.mark.parametrize("make", [space, gpu_space])
@pytest.mark.parametrize("name", ["deepseek_r1_moe", "flux_attention"])
def test_the_decisions_of_real_traces_are_those_of_their_sites(make: Callable[[str], Space], name: str) -> None:
    here = make(name)
    for program in here.initial(2, np.random.default_rng(0)):
        expected = [site.shown(site.now) for site in here.sites(program)]
        assert expected and [how for _, how in decisions(program.history)] == expected
        assert outline(program.code).count("T.sblock(") == program.code.count("with T.sblock(")
