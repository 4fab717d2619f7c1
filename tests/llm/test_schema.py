"""The schema of answers is strict, small, and accepts exactly the parser's names and shapes."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from colt_pipeline.llm.schema import answer_schema
from colt_pipeline.records import PromptContext, Site
from tests.llm.contexts import CONTEXT, RECORDED, WITH_SITES

STRICT = {"type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "minItems", "maxItems"}


def parts(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All schemas within a schema."""
    yield schema
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    for part in inner + ([schema["items"]] if "items" in schema else []):
        yield from parts(part)


def test_bare_names_and_models() -> None:
    assert answer_schema(CONTEXT) == {
        "type": "object",
        "properties": {
            "transformations": {
                "type": "array",
                "items": {"type": "string", "enum": ["TileSize", "Unroll"]},
                "minItems": 1,
                "maxItems": 16,
            },
            "next_model": {"type": "string", "enum": ["gpt-5.2", "qwen3-8b"]},
        },
        "required": ["transformations", "next_model"],
        "additionalProperties": False,
    }


def test_a_model_alone_names_no_next_model() -> None:
    schema = answer_schema(dataclasses.replace(CONTEXT, models=CONTEXT.models[:1]))
    assert schema["required"] == ["transformations"] == list(schema["properties"])


def test_sites_of_one_shape_share_a_branch() -> None:
    sites = (
        *WITH_SITES.sites,
        Site("TileSize", "matmul.j", (4, 1, 1, 16), 64, 64),
        Site("ComputeLocation", "pad", (-1,), choices=(-2, -1, 0)),  # not on offer
    )
    branches = answer_schema(dataclasses.replace(WITH_SITES, sites=sites))["properties"]["transformations"]["items"]
    assert branches["anyOf"][0] == {"type": "string", "enum": ["TileSize", "Unroll"]}
    assert [branch["properties"] for branch in branches["anyOf"][1:]] == [
        {
            "name": {"type": "string", "enum": ["TileSize"]},
            "site": {"type": "string", "enum": labels},
            "decision": {"type": "array", "items": {"type": "integer"}, "minItems": count, "maxItems": count},
        }
        for labels, count in ((["matmul.i", "matmul.j"], 4), (["matmul.k"], 2))
    ] + [
        {
            "name": {"type": "string", "enum": ["Unroll"]},
            "site": {"type": "string", "enum": ["unroll"]},
            "decision": {"type": "integer", "enum": [0, 16, 64, 512]},
        }
    ]


@pytest.mark.parametrize("context", [CONTEXT, WITH_SITES, RECORDED], ids=["names", "sites", "recorded"])
def test_the_schema_is_strict(context: PromptContext) -> None:
    for part in parts(answer_schema(context)):
        assert set(part) <= STRICT
        assert "type" in part or "anyOf" in part
        assert part.get("enum", [True])
        if part.get("type") == "object":
            assert part["required"] == list(part["properties"])
            assert part["additionalProperties"] is False


def test_the_schema_of_a_matrix_product_costs_few_tokens() -> None:
    assert len(json.dumps(answer_schema(RECORDED), separators=(",", ":"))) / 4 < 400
