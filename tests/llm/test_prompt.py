"""The prompt contains every item of the paper's appendix B, and nothing that it must not."""

import dataclasses

import pytest
from jinja2 import UndefinedError

from colt_pipeline.config.checks import PROMPT_CODES, PROMPT_ORDERS
from colt_pipeline.llm import prompt
from colt_pipeline.records import PromptContext
from colt_pipeline.serialization import digest
from tests.llm.contexts import CONTEXT, SITES, WITH_SITES


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


@pytest.mark.parametrize(
    ("models", "recorded"),
    [
        (2, "6d82d0f47d73d1159a22da8ca8f43a76baee79c1cc0c275118324a50244a0970"),
        (1, "98339cf54944f5d1035a3644c074b335962748595a4b910f039d765aad72cea5"),
    ],
)
def test_without_sites_the_messages_are_those_of_the_first_recordings(models: int, recorded: str) -> None:
    """Recording keys depend on the messages: if one byte changes, no recorded answer is found."""
    assert digest(prompt.render(dataclasses.replace(CONTEXT, models=CONTEXT.models[:models]))) == recorded


@pytest.mark.parametrize(
    "item",
    [
        "matmul.i: TileSize, 4 factors with product 16, the last at most 64; now [2, 4, 1, 2]\n",
        "matmul.k: TileSize, 2 factors with product 128, the last at most 64; now [4, 32]\n",
        "unroll: Unroll, one of 0, 16, 64, 512; now 16\n",
        "mcpu znver4, 2 cores; vectors of 16 float32, 32 vector registers, 512 KiB of L2 cache per core.",
        "Decisions:\n",
        '"site": "<site>", "decision"',
        "## Sites of the current program",
    ],
)
def test_sites_and_hardware_are_shown_together_or_not_at_all(item: str) -> None:
    assert item in text(WITH_SITES)
    assert item not in text(dataclasses.replace(WITH_SITES, sites=()))


def test_sites_change_with_the_program_and_so_belong_to_the_user_message() -> None:
    other = dataclasses.replace(WITH_SITES, sites=SITES[:1])
    assert prompt.render(other)[0] == prompt.render(WITH_SITES)[0]
    assert prompt.render(other)[1] != prompt.render(WITH_SITES)[1]


def test_a_target_without_hardware_facts_ends_its_line_as_before() -> None:
    gpu = text(dataclasses.replace(WITH_SITES, hardware=""))
    assert "Target: CPU through LLVM, mcpu znver4, 2 cores.\n" in gpu and "## Sites" in gpu


def test_every_choice_of_the_configuration_has_its_row() -> None:
    assert tuple(prompt.STYLES) == PROMPT_CODES
    assert tuple(prompt.ORDERS) == PROMPT_ORDERS


def test_a_listed_order_is_that_of_the_context() -> None:
    assert prompt.ORDERS["listed"](CONTEXT, 3) is CONTEXT


def test_a_seeded_order_follows_from_seed_and_context_and_offers_the_same() -> None:
    seeded = prompt.ORDERS["seeded"]
    names = tuple((letter, "words") for letter in "abcdef")
    contexts = [dataclasses.replace(CONTEXT, transformations=names, depth=depth) for depth in range(40)]
    found = [seeded(context, 0) for context in contexts]
    assert found == [seeded(context, 0) for context in contexts]
    assert found != [seeded(context, 1) for context in contexts]
    for context, shown in zip(contexts, found, strict=True):
        assert sorted(shown.transformations) == sorted(context.transformations)
        assert set(shown.models) == set(context.models)
        assert dataclasses.replace(shown, transformations=names, models=context.models) == context
    assert {shown.transformations[0] for shown in found} == set(names)
    assert {shown.models[0] for shown in found} == set(CONTEXT.models)
