"""The results as a page of Markdown beside the tables and figures, to which it links."""

from __future__ import annotations

from collections.abc import Sequence

from colt_pipeline.analysis.report.page import environment, facts, noise
from colt_pipeline.analysis.report.sections import WHOLE_MODELS, Pipeline, Section, Table
from colt_pipeline.analysis.tables.files import markdown, shown
from colt_pipeline.analysis.tree.page import PAGES

LEADING = ("speedups", "search_ratios")
"""The tables that the page shows; to the others it links."""


def readme(sections: Sequence[Section], whole_models: Sequence[Table], made_by: Pipeline, page: str) -> str:
    """The page, whose links are relative to the directory that holds tables/ and figures/.

    Args:
        sections: In the order of the page.
        whole_models: Tables of whole models; the first is shown.
        made_by: The pipeline whose stages wrote what is shown.
        page: The address of the report.
    """
    spread = noise(sections)
    return (
        PAGES.overlay(autoescape=False)
        .get_template("results.md.j2")
        .render(
            sections=sections,
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
