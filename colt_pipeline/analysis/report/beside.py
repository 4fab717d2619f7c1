"""The paper's figures and tables beside ours, one part for each of its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from colt_pipeline.analysis.notes import set_by_construction, with_notes
from colt_pipeline.analysis.report.sections import Figure, Pipeline, Results, Section, Table
from colt_pipeline.analysis.tables.files import shown
from colt_pipeline.analysis.tables.paper import COMPARED, GPU, GPU_TABLE, SOURCE, paper_beside, paper_figure

CURVES = "speedup_curves"
"""Our figure that repeats the paper's figures 2 to 4."""
_TABLE, _SPEEDUPS = "paper_table_", "paper_speedups"
_GPU_TABLES = (1, GPU_TABLE)
"""The paper's tables with runs on its GPU."""


@dataclass(frozen=True)
class Part:
    """Figures and tables of the paper in one of its settings, repeated by one experiment or by two."""

    title: str
    sections: tuple[Section, ...]
    """Two are the same experiment, measured and then estimated."""
    said: str
    """What must be known to compare the sections; "" for a single one."""
    figures: tuple[tuple[Section, Figure], ...]
    """With the section that each is from."""
    tables: tuple[Table, ...]


def paper_parts(results: Results) -> list[Part]:
    """The parts that `results` repeat, in the order of the page; none for studies."""
    if results.pipeline.studies:
        return []
    repeating = [section for section in results.sections if _figures(section) or _tables(section)]
    pair = _pair(repeating)
    parts = [_part(section) for section in repeating if section not in pair]
    if not pair:
        return parts
    place = sum(section not in pair for section in repeating[: repeating.index(pair[0])])
    return [*parts[:place], _beside(*pair, results.pipeline), *parts[place:]]


def rest(section: Section, parts: Sequence[Part]) -> Section:
    """The section without the figures and tables that one of the parts shows."""
    own = [part for part in parts if section in part.sections]
    above = {figure.name for part in own for _, figure in part.figures}
    above |= {table.name for part in own for table in part.tables}
    return replace(
        section,
        figures=tuple(figure for figure in section.figures if figure.name not in above),
        tables=tuple(table for table in section.tables if table.name not in above),
    )


def _part(section: Section) -> Part:
    figures, tables = _figures(section), _tables(section)
    return Part(_title(section, tables), (section,), "", tuple((section, figure) for figure in figures), tables)


def _beside(measured: Section, estimated: Section, pipeline: Pipeline) -> Part:
    said = (
        f"{measured.name} was measured on {measured.devices}. {estimated.name} was not measured: its latencies are "
        f"computed for {estimated.devices}, and no kernel ran. The paper's GPU is an {GPU}. Speedups on different "
        "devices are not comparable in absolute terms."
    )
    both = (measured, estimated)
    figures = tuple((section, figure) for section in both for figure in _figures(section))
    tables = tuple(table for number in _GPU_TABLES if (table := _table(number, *both, pipeline)).cells.rows)
    return Part(f"{_title(measured, tables)}, measured and estimated", both, said, figures, tables)


def _pair(sections: Sequence[Section]) -> tuple[Section, Section] | tuple[()]:
    """The first measured and the first estimated section with the paper's table of runs on a GPU, if there are both."""
    on_gpu = [section for section in sections if _name(GPU_TABLE) in {table.name for table in section.tables}]
    measured = [section for section in on_gpu if set(section.tidy.runs["measurement"]) == {"measured"}]
    estimated = [section for section in on_gpu if section.estimated]
    return (measured[0], estimated[0]) if measured and estimated else ()


def _figures(section: Section) -> tuple[Figure, ...]:
    if paper_figure(section.tidy) is None:
        return ()
    return tuple(figure for figure in section.figures if figure.name == CURVES)


def _tables(section: Section) -> tuple[Table, ...]:
    return tuple(table for table in section.tables if table.name == _SPEEDUPS or table.name.startswith(_TABLE))


def _title(section: Section, tables: Sequence[Table]) -> str:
    """Such as "Figure 2 and tables 1 and 3"."""
    numbers = [table.name.removeprefix(_TABLE) for table in tables if table.name.startswith(_TABLE)]
    parts = [] if (number := paper_figure(section.tidy)) is None else [f"figure {number}"]
    if numbers:
        parts.append(f"table{'s' if len(numbers) > 1 else ''} {' and '.join(numbers)}")
    return " and ".join(parts or ["speedups"]).capitalize()


def _name(number: int) -> str:
    return f"{_TABLE}{number}"


def _table(number: int, measured: Section, estimated: Section, pipeline: Pipeline) -> Table:
    return Table(
        name=_name(number),
        title=f"Table {number} of the paper beside ours, measured and not measured",
        caption=with_notes(f"{SOURCE}: {COMPARED[number]}.", (set_by_construction,), measured.tidy),
        key=f"measured: {measured.key}; not measured: {estimated.key}",
        command=pipeline.command("report"),
        cells=shown(paper_beside(measured.tidy, estimated.tidy, number)),
    )
