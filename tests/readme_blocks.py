"""The READMEs' generated blocks: ``python tests/readme_blocks.py`` fills them from the committed files they name.

``<!-- generated: PATH -->`` holds a Markdown file as it is. For a CSV file two filters, both optional, choose columns
and rows: ``<!-- generated: PATH.csv | COLUMN, COLUMN | COLUMN=VALUE -->``. ``<!-- end -->`` ends a block.
"""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

from support import ROOT

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
    if not path.endswith(".csv"):
        return (ROOT / path).read_text(encoding="utf-8")
    with (ROOT / path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = list(rows[0])
    for chosen in filters:
        column, equals, value = chosen.partition("=")
        if equals:
            rows = [row for row in rows if row[column] == value]
        else:
            columns = [name.strip() for name in chosen.split(",")]
    return "".join(
        _line(cells) for cells in (columns, ["---"] * len(columns), *([r[c] for c in columns] for r in rows))
    )


def _line(cells: list[str]) -> str:
    escaped = (cell.replace("|", r"\|") for cell in cells)
    return f"| {' | '.join(escaped)} |\n"


if __name__ == "__main__":
    for readme in readmes():
        readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
