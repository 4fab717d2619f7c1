"""The results in short, as a Markdown page that links to the tables and figures next to it."""

from __future__ import annotations

from collections.abc import Sequence

from colt_pipeline.analysis.report.lead import Lead
from colt_pipeline.analysis.report.page import environment, facts, findings, noise, title
from colt_pipeline.analysis.report.sections import WHOLE_MODELS, Results
from colt_pipeline.analysis.tables.files import markdown, shown
from colt_pipeline.analysis.tree.page import PAGES

LEADING = ("speedups", "ratios")
"""The tables shown on the page; it links to the others."""


def readme(results: Results, leading: Sequence[Lead], page: str) -> str:
    """The page as Markdown, with links relative to the directory that contains tables/ and figures/.

    Args:
        results: what the page shows.
        leading: the sentences at its top, see `leads`.
        page: the address of the report.
    """
    sections = results.sections
    found, spread = findings(sections), noise(sections)
    return (
        PAGES.overlay(autoescape=False)
        .get_template("results.md.j2")
        .render(
            title=title(results.pipeline),
            studies=results.pipeline.studies,
            leads=leading,
            sections=sections,
            whole_models=results.whole_models,
            whole_models_name=WHOLE_MODELS,
            leading=LEADING,
            command=results.pipeline.command("report"),
            page=page,
            findings=markdown(shown(found)) if len(found) else "",
            environment=markdown(shown(environment(sections))),
            noise=markdown(shown(spread)) if len(spread) else "",
            markdown=markdown,
            **facts(sections),
        )
    )
