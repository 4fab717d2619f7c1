"""The results in short, as a Markdown page that links to the tables and figures next to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from colt_pipeline.analysis.report.lead import Lead
from colt_pipeline.analysis.report.page import environment, facts, findings, noise, title
from colt_pipeline.analysis.report.sections import WHOLE_MODELS, Results, Section, Table
from colt_pipeline.analysis.tables.files import Cells, markdown, shown
from colt_pipeline.analysis.tree.page import PAGES

LEADING = ("speedups", "ratios")
"""Of these, the first that an experiment has is shown; the page links to the others."""


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
            leading={section.name: _leading(section) for section in sections},
            command=results.pipeline.command("report"),
            page=page,
            findings=markdown(shown(found)) if len(found) else "",
            environment=markdown(shown(environment(sections))),
            noise=markdown(shown(spread)) if len(spread) else "",
            markdown=markdown,
            **facts(sections),
        )
    )


def _leading(section: Section) -> list[Table]:
    found = [table for name in LEADING for table in section.tables if table.name == name]
    return [replace(table, cells=_last(table.cells)) for table in found[:1]]


def _last(cells: Cells) -> Cells:
    """Only the rows after the last sample, if there are several checkpoints."""
    if "samples" not in cells.header:
        return cells
    column = cells.header.index("samples")
    last = max((int(row[column]) for row in cells.rows), default=0)
    return cells._replace(rows=[row for row in cells.rows if row[column] == str(last)])
