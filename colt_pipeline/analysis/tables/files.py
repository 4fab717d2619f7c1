"""The tables of an experiment as files, and their cells as shown to readers.

Each table is a CSV file; all of them together are a Markdown page, with their names as headings, and a file for LaTeX's
``\\input``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from colt_pipeline.analysis.index import Entry, write_index
from colt_pipeline.analysis.tidy import write_csv
from colt_pipeline.errors import ConfigError

MARKDOWN, LATEX = "tables.md", "tables.tex"

_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
)
"""In LaTeX's default encoding a bare > prints as an inverted question mark."""
_LEFT, _RIGHT = ":---", "---:"
_HEADING = "## "


class Cells(NamedTuple):
    """A table as shown to readers."""

    header: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    """Which columns are numeric."""


def write_files(tables: Mapping[Entry, pd.DataFrame], directory: Path) -> None:
    """Write each table as NAME.csv, all as MARKDOWN and LATEX, and their index, creating the directory if needed."""
    for entry, frame in tables.items():
        write_csv(frame, directory / f"{entry.name}.csv")
    write_index(tables, directory)
    cells = {entry: shown(frame) for entry, frame in tables.items()}
    sections = ["# Tables\n\nEach is also a CSV file of its name, with all digits.\n"]
    latex = []
    for entry, own in cells.items():
        said = f"{entry.title} ({entry.key}). {entry.caption}"
        sections.append(f"{_HEADING}{entry.name}\n\n{said}\n\n{markdown(own)}")
        latex.append(f"% {entry.name}\n{_latex(own, said)}")
    for name, parts in ((MARKDOWN, sections), (LATEX, latex)):
        (directory / name).write_text("\n".join(parts), encoding="utf-8", newline="\n")


def read_tables(directory: Path, command: str) -> dict[str, Cells]:
    """Each table as shown to readers, from the MARKDOWN that `write_files` wrote.

    Args:
        directory: where `write_files` wrote.
        command: named by errors as the way to remake the file.

    Returns:
        Name -> cells.

    Raises:
        ConfigError: the file is missing, or one of its headings has no table below it.
    """
    path = directory / MARKDOWN
    try:
        _, *sections = f"\n{path.read_text(encoding='utf-8')}".split(f"\n{_HEADING}")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; make it with: {command}") from error
    tables = {}
    for section in sections:
        name, *lines = section.splitlines()
        table = [_split(line) for line in lines if line.startswith("| ")]
        if len(table) < 2:
            raise ConfigError(f"{path} does not contain the table {name}; make it with: {command}")
        header, rule, *rows = table
        tables[name] = Cells(header, rows, [mark == _RIGHT for mark in rule])
    return tables


def shown(frame: pd.DataFrame) -> Cells:
    """`frame` as shown to readers."""
    header = [str(column) for column in frame.columns]
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return Cells(header, rows, [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes])


def markdown(cells: Cells) -> str:
    """The table in Markdown, with a line each for header, rule and rows."""
    rule = [_RIGHT if right else _LEFT for right in cells.numeric]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (cells.header, rule, *cells.rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _split(line: str) -> list[str]:
    """The cells of a line that `markdown` wrote; bars inside cells are escaped with a backslash."""
    return [cell.replace("\\|", "|") for cell in line.removeprefix("| ").removesuffix(" |").split(" | ")]


def _latex(cells: Cells, caption: str) -> str:
    header, *rows = (" & ".join(cell.translate(_LATEX) for cell in row) + r" \\" for row in (cells.header, *cells.rows))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption.translate(_LATEX)}}}",
            rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in cells.numeric)}}}",
            r"\hline",
            header,
            r"\hline",
            *rows,
            r"\hline",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _cell(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return "-"
    if isinstance(value, float):
        return f"{value:.2f}" if value == 0 or abs(value) >= 0.1 else f"{value:.3g}"
    return str(value)
