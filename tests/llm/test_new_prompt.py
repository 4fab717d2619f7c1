"""What prompts tell: how the current program came about, what was tried, what may be answered, and how far it is."""

import dataclasses
import json
import re

import pytest

from colt_pipeline.llm import prompt
from colt_pipeline.llm.client import Question
from colt_pipeline.llm.embedded import EmbeddedClient
from colt_pipeline.llm.parse import MAX_TRANSFORMATIONS, parse
from colt_pipeline.records import (
    AttemptView,
    ModelSpec,
    ModelView,
    Progress,
    PromptContext,
    Proposal,
    Reply,
    Site,
    StepView,
)
from tests.llm.contexts import CONTEXT, RECORDED, WITH_SITES


def tiled(*factors: int) -> tuple[str, ...]:
    """A trace with one decision, matmul.0."""
    names = ", ".join(f"v{n}" for n in range(len(factors)))
    return (
        'b0 = sch.get_sblock(name="matmul", func_name="main")',
        "l1, l2 = sch.get_loops(block=b0)",
        f"{names} = sch.sample_perfect_tile(loop=l1, n={len(factors)}, max_innermost_factor=64, decision={[*factors]})",
    )


HERE = StepView(tiled(2, 8), "qwen3-8b", 0.5, 2.5e-3)
PROGRESS = Progress(10, 64, "call", measured=8, waiting=3, best_secs=1.5e-3, baseline_secs=6e-3)


def told(context: PromptContext) -> PromptContext:
    """The same with all that today's prompts tell."""
    return dataclasses.replace(
        context,
        base_code="UNOPTIMIZED",
        offer=(*CONTEXT.transformations, ("Parallel", "another grain")),
        path=(StepView(tiled(4, 4), None, 0.75), HERE),
        tried=(
            AttemptView("gpt-5.2", ("TileSize",), "accepted", StepView(tiled(1, 16), "gpt-5.2", 0.375, failed=True)),
            AttemptView("qwen3-8b", (), "not_json", None),
            AttemptView("qwen3-8b", ("Unroll",), "duplicate", None),
            AttemptView("qwen3-8b", ("TileSize",), "accepted", StepView(tiled(16, 1), "qwen3-8b", 0.25), pruned=True),
            AttemptView(None, (), "accepted", StepView(tiled(8, 2), None, 0.625, 1.5e-3)),
        ),
        progress=PROGRESS,
    )


PAPER = told(CONTEXT)
COLT_PLUS = told(WITH_SITES)


def text(context: PromptContext, code: str = "outline", trace: str = "changes") -> str:
    return "\n".join(m["content"] for m in prompt.render(context, code, trace))


@pytest.mark.parametrize(
    "item",
    [
        "Initial program, drawn at random: predicted score 0.7500\n",
        "1. qwen3-8b (8B): matmul.0 [4, 4] -> [2, 8]; predicted score 0.5000 (-0.2500)\n",
        "Predicted score: 0.5000, 0.2500 below its parent's\n",
        "Decisions: matmul.0 = [2, 8]\n",
        "Without a place in it: Parallel\n",
        "- gpt-5.2 (300B): TileSize: matmul.0 [2, 8] -> [1, 16]; predicted score 0.3750 (-0.1250)",
        "- qwen3-8b (8B): no usable answer (not_json)\n",
        "- qwen3-8b (8B): Unroll: led to a program that was known already\n",
        "predicted score 0.2500 (-0.2500); dropped, because regressions persisted\n",
        "- drawn at random: matmul.0 [2, 8] -> [8, 2]; predicted score 0.6250 (+0.1250)",
        "qwen3-8b: parameters=8B, calls=12, hit_rate=0.250, errors=3\n",
        "The current program's turn is that of qwen3-8b (8B).\n",
        "Calls: 10 of 64; 8 programs are measured, 3 wait\n",
        "Leaf depth: 2\n",
        f"Propose 1 to {MAX_TRANSFORMATIONS} transformations",
        "gpt-5.2 makes at least a fifth of all calls",
    ],
)
def test_every_item_is_there(item: str) -> None:
    assert item in text(PAPER)


def test_latencies_are_for_colt_plus_as_the_papers_prompt_has_none() -> None:
    assert "measured 2.5 ms" not in text(PAPER) and "it did not run" not in text(PAPER)
    shown = text(COLT_PLUS)
    assert "predicted score 0.5000 (-0.2500); measured 2.5 ms\n" in shown
    assert "predicted score 0.3750 (-0.1250); it did not run\n" in shown
    assert "Fastest so far: 1.5 ms, 4 times as fast as the unoptimized program" in shown


def test_what_a_run_keeps_comes_first_and_what_changes_most_last() -> None:
    later = dataclasses.replace(
        PAPER,
        depth=7,
        path=PAPER.path[:1],
        tried=(),
        models=tuple(dataclasses.replace(m, calls=99) for m in PAPER.models),
        transformations=PAPER.transformations[:1],
        progress=dataclasses.replace(PROGRESS, spent=60),
    )
    assert prompt.render(later)[0] == prompt.render(PAPER)[0]
    headings = re.findall(r"^## (.+)$", prompt.render(COLT_PLUS)[1]["content"], re.MULTILINE)
    assert headings == [
        "Path to the current program",
        "Current program",
        "Sites of the current program",
        "Tried at the current program",
        "Models so far",
        "Progress",
    ]


@pytest.mark.parametrize(
    ("code", "said", "shown"),
    [
        ("outline", "The unoptimized program is shown as it is, the current one by its loops with", "UNOPTIMIZED"),
        ("full", "The unoptimized program and the current one are shown as they are. A block", "UNOPTIMIZED"),
        ("compact", "Programs are shown by their loops with their extents and annotations and by the", ""),
    ],
)
def test_what_is_said_of_the_programs_is_true_of_how_they_are_shown(code: str, said: str, shown: str) -> None:
    system, _ = prompt.render(PAPER, code)
    assert f"## Reading programs\n{said}" in system["content"]
    assert ("UNOPTIMIZED" in system["content"]) is bool(shown)


def test_before_the_cost_model_predicts_no_score_is_shown() -> None:
    blind = dataclasses.replace(
        PAPER,
        path=tuple(dataclasses.replace(step, score=None) for step in PAPER.path),
        tried=tuple(
            dataclasses.replace(each, child=each.child and dataclasses.replace(each.child, score=None))
            for each in PAPER.tried
        ),
    )
    shown = text(blind)
    assert "Predicted score: none yet" in shown and "matmul.0 [4, 4] -> [2, 8]; no prediction yet\n" in shown
    assert not re.search(r"score:? [0-9]", shown)


def test_names_are_listed_once_and_whole_traces_on_request_only() -> None:
    assert text(PAPER).count("re-split") == 1
    assert "sch.sample_perfect_tile" not in text(PAPER)
    whole = text(PAPER, trace="full")
    assert whole.count("sch.sample_perfect_tile") == 2 and "## Trace of its parent" in whole


def test_the_current_program_is_an_outline_beside_the_whole_unoptimized_one() -> None:
    path = (StepView(RECORDED.lineage[0].history, None, 1.0),)
    context = dataclasses.replace(told(RECORDED), base_code="BODY", path=path, tried=())
    outlined, full = text(context), text(context, code="full")
    assert "BODY" in outlined and "T.axis.spatial(" not in outlined and 'T.sblock("matmul_update")' in outlined
    assert "T.axis.spatial(" in full
    assert "BODY" not in text(context, code="compact")


@pytest.mark.parametrize(
    ("context", "sites"),
    [
        (PAPER, ()),
        (
            COLT_PLUS,
            (
                Site("TileSize", "block.i", (1, 1, 1, 128), extent=128, innermost=64),
                Site("Unroll", "unroll", (0,), choices=(0, 16, 64, 512)),
            ),
        ),
    ],
)
@pytest.mark.parametrize("models", [2, 1])
def test_the_example_of_an_answer_is_one(context: PromptContext, sites: tuple[Site, ...], models: int) -> None:
    shown = prompt.render(dataclasses.replace(context, models=context.models[:models]))[0]["content"]
    example = shown.strip().splitlines()[-1]
    reply = Reply(example, "stop", 0, 0, 0.0, "", "")
    verdict = parse(reply, [name for name, _ in context.offer], [m.name for m in context.models[:models]], sites)
    assert isinstance(verdict, Proposal) and verdict.flaw is None and len(verdict.transformations) == 3
    assert ("next_model" in example) == (models == 2)


def test_a_single_model_is_not_asked_to_choose() -> None:
    alone = text(dataclasses.replace(PAPER, models=PAPER.models[:1]))
    assert "next_model" not in alone and "hit rate" not in alone and "hit_rate" not in alone


def test_another_structure_is_said_rather_than_compared() -> None:
    other = dataclasses.replace(PAPER, path=(StepView((), None, 0.75), HERE))
    assert "1. qwen3-8b (8B): another structure; predicted score" in text(other)


def test_steps_are_named_by_the_sites_of_the_current_program() -> None:
    site = Site("TileSize", "matmul.rows", (2, 8), extent=16, innermost=64)
    assert "1. qwen3-8b (8B): matmul.rows [4, 4] -> [2, 8];" in text(dataclasses.replace(COLT_PLUS, sites=(site,)))


def test_a_stand_in_proposes_nothing_that_has_no_place() -> None:
    model = ModelSpec("gpt-5.2", "embedded", "gpt-5.2", 300.0, True)
    question = Question(model, prompt.render(PAPER), {}, None)
    names = set()
    for occurrence in range(40):
        answer = json.loads(EmbeddedClient().complete(question, occurrence).text)
        names |= set(answer["transformations"])
        assert answer["next_model"] in {m.name for m in PAPER.models}
    assert names == {"TileSize", "Unroll"}


def test_a_model_is_shown_with_its_size_once_it_is_known() -> None:
    unknown = dataclasses.replace(PAPER, models=(*PAPER.models[:1], ModelView("other", 3.0, 0, 0.0, 0, 0)))
    assert "1. qwen3-8b: matmul.0" in text(unknown)
