"""The paper's experiment on a GPU as measured, beside the same experiment with estimated latencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from colt_pipeline.analysis.report.sections import Figure, Pipeline, Section, Table
from colt_pipeline.analysis.tables.files import shown
from colt_pipeline.analysis.tables.paper import COMPARED, GPU, GPU_TABLE, SOURCE, paper_beside

TITLE = "On a GPU: measured beside estimated"
FIGURE = "speedup_curves"
"""The paper's figure 4."""
NUMBERS = (1, GPU_TABLE)
"""The paper's tables with runs on its GPU."""


@dataclass(frozen=True)
class Beside:
    """Two sections about the paper's experiment on a GPU, of which only the first was measured."""

    measured: Section
    estimated: Section
    tables: tuple[Table, ...]
    """The paper's tables with the numbers of both."""

    @property
    def said(self) -> str:
        """Which device each is about."""
        return (
            f"{self.measured.name} was measured on {self.measured.devices}. {self.estimated.name} was not measured: "
            f"its latencies are computed for {self.estimated.devices}, and no kernel ran. The paper's GPU is an {GPU}. "
            "Speedups on different devices are not comparable in absolute terms."
        )

    @property
    def figures(self) -> tuple[tuple[Section, Figure], ...]:
        """The paper's figure 4 from each section, with the section that it is from."""
        both = (self.measured, self.estimated)
        return tuple((section, figure) for section in both for figure in section.figures if figure.name == FIGURE)


def beside(sections: Sequence[Section], pipeline: Pipeline) -> Beside | None:
    """The first measured and the first estimated of the sections with the paper's table of runs on a GPU.

    Returns:
        None if there are not both.
    """
    on_gpu = [section for section in sections if _name(GPU_TABLE) in {table.name for table in section.tables}]
    measured = [section for section in on_gpu if set(section.tidy.runs["measurement"]) == {"measured"}]
    estimated = [section for section in on_gpu if section.estimated]
    if not measured or not estimated:
        return None
    tables = tuple(_table(number, measured[0], estimated[0], pipeline) for number in NUMBERS)
    return Beside(measured[0], estimated[0], tuple(table for table in tables if table.cells.rows))


def _name(number: int) -> str:
    return f"paper_table_{number}"


def _table(number: int, measured: Section, estimated: Section, pipeline: Pipeline) -> Table:
    said = "; ".join(
        f"{heading}: experiment {section.name}, {section.said.caption}"
        for heading, section in (("measured", measured), ("not measured", estimated))
    )
    return Table(
        name=_name(number),
        title=f"Table {number}, measured beside estimated",
        caption=f"Table {number} of {SOURCE}, {COMPARED[number]}; {said}; paper: {GPU}.",
        command=pipeline.command("report"),
        cells=shown(paper_beside(measured.tidy, estimated.tidy, number)),
    )
