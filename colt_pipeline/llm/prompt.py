"""Prompt context -> chat messages (every item of the paper's appendix B, in our own words).

The fixed part comes first, so that a provider's prompt cache can serve it (unless the order is seeded).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from colt_pipeline.llm.compact import shorten
from colt_pipeline.records import Message, PromptContext, digest, written

_TEMPLATES = Environment(
    loader=PackageLoader("colt_pipeline.llm"), undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
)


@dataclass(frozen=True)
class Style:
    """How much of the programs is shown, and with which templates."""

    view: Callable[[PromptContext], PromptContext]
    suffix: str
    """Suffix of its template names."""


STYLES: dict[str, Style] = {"full": Style(lambda context: context, ""), "compact": Style(shorten, "_compact")}
"""``prompt.code`` -> style."""


def render(context: PromptContext, code: str = "full") -> list[Message]:
    """The system and the user message.

    Raises:
        jinja2.UndefinedError: a template uses a name that the context lacks.
    """
    style = STYLES[code]
    shown = style.view(context)
    values = {f.name: getattr(shown, f.name) for f in fields(shown)}
    return [
        {"role": role, "content": _TEMPLATES.get_template(f"{role}{style.suffix}.j2").render(values).strip() + "\n"}
        for role in ("system", "user")
    ]


def _seeded(context: PromptContext, seed: int) -> PromptContext:
    """Transformations and models shuffled by (seed, context), so that no entry keeps a favourable position."""
    rng = np.random.default_rng([seed, int(digest(written(context)), 16)])
    return replace(
        context,
        transformations=tuple(context.transformations[i] for i in rng.permutation(len(context.transformations))),
        models=tuple(context.models[i] for i in rng.permutation(len(context.models))),
    )


ORDERS: dict[str, Callable[[PromptContext, int], PromptContext]] = {
    "listed": lambda context, seed: context,
    "seeded": _seeded,
}
"""``prompt.order`` -> (context, seed of the run) -> context with its options in that order."""
