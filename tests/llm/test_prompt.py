"""The prompt holds every item of the paper's appendix B, and nothing of what it must not."""

import dataclasses

import pytest
from jinja2 import UndefinedError

from colt_pipeline.llm import prompt
from colt_pipeline.records import ModelView, ProgramView, PromptContext

CONTEXT = PromptContext(
    target="CPU through LLVM, mcpu znver4, 2 cores",
    lineage=(
        ProgramView("for i in T.parallel(4): CURRENT", ("sch.parallel(l1)",), 0.5, "qwen3-8b"),
        ProgramView("for i in range(4): PARENT", ("sch.split(l0)",), 0.25, "gpt-5.2"),
        ProgramView("UNOPTIMIZED", (), None, None),
    ),
    transformations=(("TileSize", "re-split"), ("Unroll", "unroll")),
    sites=(),
    hardware="8 float32 per vector",
    depth=2,
    samples=10,
    budget=300,
    models=(ModelView("gpt-5.2", 300.0, 11, 0.5, 0, 1), ModelView("qwen3-8b", 8.0, 12, 0.25, 3, 0)),
    largest="gpt-5.2",
)


def text(context: PromptContext) -> str:
    return "\n".join(m["content"] for m in prompt.render(context))


@pytest.mark.parametrize(
    "item",
    [
        "CURRENT",
        "PARENT",
        "UNOPTIMIZED",
        "sch.parallel(l1)",
        "sch.split(l0)",
        "Predicted score: 0.5000",
        "Predicted score: 0.2500",
        "Available transformations: TileSize, Unroll",
        "Leaf depth: 2",
        "Samples: 10 of 300",
        "qwen3-8b: parameters=8B, calls=12, hit_rate=0.250, errors=3",
        "gpt-5.2: parameters=300B, calls=11, hit_rate=0.500, errors=0, course_alterations=1",
        "Model at the current program: qwen3-8b",
        "Model at the parent: gpt-5.2",
        "Model at the grandparent: none",
        '"next_model"',
        "a fifth of all calls",
        "mcpu znver4, 2 cores",
    ],
)
def test_every_item_is_there(item: str) -> None:
    assert item in text(CONTEXT)


def test_the_system_message_is_the_fixed_part() -> None:
    later = dataclasses.replace(CONTEXT, depth=7, samples=200, lineage=CONTEXT.lineage[:1])
    assert prompt.render(later)[0] == prompt.render(CONTEXT)[0]
    assert prompt.render(later)[1] != prompt.render(CONTEXT)[1]


def test_a_single_model_is_not_asked_to_choose() -> None:
    alone = text(dataclasses.replace(CONTEXT, models=CONTEXT.models[:1]))
    assert "next_model" not in alone and "hit rate" not in alone and "Model at" not in alone


def test_an_undefined_name_in_a_template_is_an_error() -> None:
    template = prompt._TEMPLATES.from_string("{{ missing }}")
    with pytest.raises(UndefinedError):
        template.render()
