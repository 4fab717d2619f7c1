"""A table as CSV, Markdown and LaTeX files, and its cells as shown to readers."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from colt_pipeline.analysis.tidy import write_csv
from colt_pipeline.errors import ConfigError

_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
)
_LEFT, _RIGHT = ":---", "---:"


class Cells(NamedTuple):
    """A table as shown to readers."""

    header: list[str]
    rows: list[list[str]]
    numeric: list[bool]
    """Which columns are numeric."""


def write_table(frame: pd.DataFrame, caption: str, directory: Path, name: str) -> None:
    """Write `frame` as `name`.csv, .md (caption first) and .tex (caption in \\caption) to `directory`."""
    write_csv(frame, directory / f"{name}.csv")
    cells = shown(frame)
    for suffix, text in (("md", _markdown(cells)), ("tex", _latex(cells, caption))):
        opening = f"{caption}\n\n" if suffix == "md" else ""
        (directory / f"{name}.{suffix}").write_text(opening + text, encoding="utf-8", newline="\n")


def read_table(path: Path, command: str) -> Cells:
    """A table as shown to readers, from the Markdown file that `write_table` wrote.

    Args:
        path: the file.
        command: named by errors as the way to remake it.

    Raises:
        ConfigError: the file is missing or does not contain a table.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; make it with: {command}") from error
    table = [_split(line) for line in lines if line.startswith("| ")]
    if len(table) < 2:
        raise ConfigError(f"{path} does not hold a table; make it with: {command}")
    header, rule, *rows = table
    return Cells(header, rows, [mark == _RIGHT for mark in rule])


def shown(frame: pd.DataFrame) -> Cells:
    """`frame` as shown to readers."""
    header = [str(column) for column in frame.columns]
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return Cells(header, rows, [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes])


def _markdown(cells: Cells) -> str:
    rule = [_RIGHT if right else _LEFT for right in cells.numeric]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (cells.header, rule, *cells.rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _split(line: str) -> list[str]:
    """The cells of a line that `_markdown` wrote; bars inside cells are escaped with a backslash."""
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
