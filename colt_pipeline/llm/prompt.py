"""Prompt context -> chat messages (every item of the paper's section 3.3 and appendix B, in our own words).

What stays the same throughout a run comes first, then what stays the same longest, so that a provider's prompt cache
can serve as much as possible (unless the order is seeded). Where the program has sites
whose decisions an answer may take, the templates are those of ``colt_plus``, otherwise those of ``paper``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from colt_pipeline.llm.compact import changes, labelled, outline, shorten
from colt_pipeline.llm.parse import MAX_TRANSFORMATIONS
from colt_pipeline.records import Message, PromptContext
from colt_pipeline.serialization import digest, written

_TEMPLATES = Environment(
    loader=PackageLoader("colt_pipeline.llm"), undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False
)


_GAP = re.compile(r"\n{3,}")
"""What the parts of a template that have nothing to say leave behind."""


@dataclass(frozen=True)
class Style:
    """How much of the programs is shown."""

    base: Callable[[str], str]
    """The unoptimized program."""
    current: Callable[[str], str]
    """The current program."""
    legacy: Callable[[PromptContext], PromptContext] = lambda context: context
    legacy_suffix: str = ""


STYLES: dict[str, Style] = {
    "outline": Style(base=str, current=outline),
    "full": Style(base=str, current=str),
    "compact": Style(base=outline, current=outline, legacy=shorten, legacy_suffix="_compact"),
}
"""``prompt.code`` -> style."""


def render(context: PromptContext, code: str = "outline", trace: str = "changes") -> list[Message]:
    """The system and the user message.

    Args:
        context: what to tell.
        code: see ``prompt.code``.
        trace: see ``prompt.trace``.

    Raises:
        jinja2.UndefinedError: a template uses a name that the context lacks.
    """
    style = STYLES[code]
    if context.progress is None:
        shown = style.legacy(context)
        names, values = f"legacy_{{}}{style.legacy_suffix}.j2", _fields(shown)
    else:
        names = f"{'colt_plus' if context.sites else 'paper'}_{{}}.j2"
        values = _fields(context) | _views(context, style, trace) | {"shown": code}
    gaps = "\n\n" if context.progress is not None else r"\g<0>"
    return [{"role": role, "content": _text(names.format(role), values, gaps)} for role in ("system", "user")]


def _text(template: str, values: Mapping[str, Any], gaps: str) -> str:
    return _GAP.sub(gaps, _TEMPLATES.get_template(template).render(values).strip()) + "\n"


def _views(context: PromptContext, style: Style, trace: str) -> dict[str, Any]:
    """The programs as they are shown."""
    histories = [step.history for step in reversed(context.path)]
    return {
        "most": MAX_TRANSFORMATIONS,
        "base_code": style.base(context.base_code),
        "code": style.current(context.lineage[0].code),
        "decisions": [f"{label} = {value}" for label, value in labelled(histories[0], context.sites)],
        "traces": histories[:3] if trace == "full" else [],
        "changes": partial(changes, sites=context.sites, current=histories[0]),
    }


def _fields(context: PromptContext) -> dict[str, Any]:
    return {f.name: getattr(context, f.name) for f in fields(context)}


def _seeded(context: PromptContext, seed: int) -> PromptContext:
    """Transformations and models shuffled by (seed, context), so that no entry keeps a favourable position."""
    rng = np.random.default_rng([seed, int(digest(written(context)), 16)])
    transformations = tuple(context.transformations[i] for i in rng.permutation(len(context.transformations)))
    models = tuple(context.models[i] for i in rng.permutation(len(context.models)))
    offer = tuple(context.offer[i] for i in rng.permutation(len(context.offer)))
    return replace(context, transformations=transformations, models=models, offer=offer)


ORDERS: dict[str, Callable[[PromptContext, int], PromptContext]] = {
    "listed": lambda context, seed: context,
    "seeded": _seeded,
}
"""``prompt.order`` -> (context, seed of the run) -> context with its options in that order."""
