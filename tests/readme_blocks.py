"""The READMEs' generated blocks: ``python -m tests.readme_blocks`` fills them from the committed files they name.

``<!-- generated: PATH.md#NAME -->`` holds the table of section NAME of a Markdown file, ``PATH.csv`` that of the file.
Filters, all optional, choose columns and rows of either: ``<!-- generated: PATH | COLUMN, COLUMN | COLUMN=VALUE -->``;
several values of one column are alternatives. ``<!-- end -->`` ends a block.
"""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

from colt_pipeline.analysis.tables.files import read_tables
from tests.support import ROOT

_BLOCK = re.compile(r"(<!-- generated: (?P<source>.+?) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)


def readmes() -> list[Path]:
    """All READMEs, the project's own first, including uncommitted ones."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*README.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    return [ROOT / name for name in sorted(set(listed), key=lambda name: (name.count("/"), name))]


def filled(text: str) -> str:
    """`text` with its generated blocks brought up to date."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{_content(block['source'])}\n{block[4]}", text)


def without_blocks(text: str) -> str:
    """`text` without its generated blocks."""
    return _BLOCK.sub("", text)


def _content(source: str) -> str:
    path, *filters = (part.strip() for part in source.split("|"))
    rows = _section(*path.split("#")) if "#" in path else _read_csv(path)
    columns = list(rows[0])
    wanted: dict[str, set[str]] = {}
    for chosen in filters:
        column, equals, value = chosen.partition("=")
        if equals:
            wanted.setdefault(column, set()).add(value)
        else:
            columns = [name.strip() for name in chosen.split(",")]
    rows = [row for row in rows if all(row[column] in values for column, values in wanted.items())]
    return "".join(map(_line, (columns, ["---"] * len(columns), *([row[name] for name in columns] for row in rows))))


def _read_csv(path: str) -> list[dict[str, str]]:
    with (ROOT / path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _section(path: str, name: str) -> list[dict[str, str]]:
    """Rows of a section of ``tables.md``."""
    cells = read_tables((ROOT / path).parent, "dvc repro")[name]
    return [dict(zip(cells.header, row, strict=True)) for row in cells.rows]


def _line(cells: list[str]) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


if __name__ == "__main__":
    for readme in readmes():
        readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
