"""JSON schema of an answer: what parse.py accepts, as far as a schema can express it.

It stays within OpenAI's strict subset: every property is required, none may be added, and the root is an object. Sites
of equal shape share a branch, because providers count the schema as part of the prompt.
"""

from __future__ import annotations

from typing import Any

from colt_pipeline.llm.parse import MAX_TRANSFORMATIONS
from colt_pipeline.records import PromptContext, Site

Schema = dict[str, Any]


def answer_schema(context: PromptContext) -> Schema:
    """The schema of an answer to this context; the parser checks products and limits of factors."""
    offered = [name for name, _ in context.transformations]
    groups: dict[tuple[str, int | tuple[int, ...]], list[str]] = {}
    for site in context.sites:
        if site.transformation in offered:
            groups.setdefault((site.transformation, _shape(site)), []).append(site.label)
    entries = [_one_of(offered)]
    for (name, shape), labels in groups.items():
        entries.append(_object({"name": _one_of([name]), "site": _one_of(labels), "decision": _decision(shape)}))
    properties: Schema = {
        "transformations": {
            "type": "array",
            "items": {"anyOf": entries} if len(entries) > 1 else entries[0],
            "minItems": 1,
            "maxItems": MAX_TRANSFORMATIONS,
        }
    }
    if len(context.models) > 1:
        properties["next_model"] = _one_of([model.name for model in context.models])
    return _object(properties)


def _shape(site: Site) -> int | tuple[int, ...]:
    """The number of a tile's factors, or the choices of a single number."""
    return len(site.now) if site.extent else site.choices


def _decision(shape: int | tuple[int, ...]) -> Schema:
    if isinstance(shape, int):
        return {"type": "array", "items": {"type": "integer"}, "minItems": shape, "maxItems": shape}
    return {"type": "integer", "enum": list(shape)}


def _one_of(names: list[str]) -> Schema:
    return {"type": "string", "enum": names}


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
