"""The results as a Markdown page that links to the tables and figures next to it."""

from __future__ import annotations

from collections.abc import Sequence

from colt_pipeline.analysis.report.beside import TITLE, Beside
from colt_pipeline.analysis.report.page import environment, facts, noise
from colt_pipeline.analysis.report.sections import WHOLE_MODELS, Pipeline, Section, Table
from colt_pipeline.analysis.tables.files import markdown, shown
from colt_pipeline.analysis.tree.page import PAGES

LEADING = ("speedups", "search_ratios")
"""The tables shown on the page; it links to the others."""


def readme(
    sections: Sequence[Section], pair: Beside | None, whole_models: Sequence[Table], made_by: Pipeline, page: str
) -> str:
    """The page as Markdown, with links relative to the directory that contains tables/ and figures/.

    Args:
        sections: in the order of the page.
        pair: two of them side by side, shown before the measured one; None for no such pair.
        whole_models: tables of whole models, of which the first is shown.
        made_by: the pipeline whose stages wrote what is shown.
        page: the address of the report.
    """
    spread = noise(sections)
    return (
        PAGES.overlay(autoescape=False)
        .get_template("results.md.j2")
        .render(
            sections=sections,
            pair=pair,
            pair_title=TITLE,
            whole_models=whole_models,
            whole_models_name=WHOLE_MODELS,
            leading=LEADING,
            command=made_by.command("report"),
            studies=made_by.path is None,
            page=page,
            environment=markdown(shown(environment(sections))),
            noise=markdown(shown(spread)) if len(spread) else "",
            markdown=markdown,
            **facts(sections),
        )
    )
