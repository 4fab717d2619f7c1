"""Prompt context -> chat messages (every item of the paper's appendix B, in our own words).

The fixed part comes first, so that a provider's prompt cache can serve it.
"""

from __future__ import annotations

from dataclasses import fields

from jinja2 import Environment, PackageLoader, StrictUndefined

from colt_pipeline.records import Message, PromptContext

_TEMPLATES = Environment(
    loader=PackageLoader("colt_pipeline.llm"), undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
)


def render(context: PromptContext) -> list[Message]:
    """System and user message.

    Raises:
        jinja2.UndefinedError: a template names something that the context does not have.
    """
    values = {f.name: getattr(context, f.name) for f in fields(context)}
    return [
        {"role": role, "content": _TEMPLATES.get_template(f"{role}.j2").render(values).strip() + "\n"}
        for role in ("system", "user")
    ]
