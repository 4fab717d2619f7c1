"""The directory of an export: complete or not there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

from colt_pipeline.errors import ExportError
from colt_pipeline.serialization import strict_json, typed

MANIFEST = "export.json"
"""Its presence marks an export; it lists the files."""


class _Manifest(TypedDict):
    files: list[str]


@contextmanager
def replacing(out: Path, facts: dict[str, Any]) -> Iterator[tuple[Path, list[str]]]:
    """A new directory that takes the place of `out` when the block ends without an exception.

    Args:
        out: a name that is free, an empty directory or an earlier export.
        facts: what the manifest says beside the files.

    Yields:
        The directory, and a list for the names of further files: those that the export's own programs will make.

    Raises:
        ExportError: `out` holds something else.
    """
    check(out)
    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}-") as name:
        new, old = Path(name) / "new", Path(name) / "old"
        new.mkdir()
        made: list[str] = []
        yield new, made
        files = sorted(path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file())
        manifest = {**facts, "files": sorted({MANIFEST, *files}), "made": sorted(made)}
        (new / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
        check(out)
        try:
            if place.exists():
                place.rename(old)
            new.rename(place)
        finally:
            if old.exists() and not place.exists():
                old.rename(place)


def check(out: Path) -> None:
    """Check that nothing of anybody's is lost when `out` is replaced.

    Raises:
        ExportError: it is a file, or has files that no export writes.
    """
    if out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file; name a directory with --out")
    found = _files(out)
    if not found:
        return
    try:
        manifest = strict_json((out / MANIFEST).read_bytes())
        ours = {*typed(_Manifest, manifest)["files"], *manifest["made"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise ExportError(f"{out} is not empty and not an earlier export; name another directory with --out") from None
    if strange := sorted(found - ours):
        raise ExportError(
            f"{out} is an earlier export, but {strange[0]} is none of its files; move it away, or name another "
            "directory with --out"
        )


def _files(out: Path) -> set[str]:
    if not out.is_dir():
        return set()
    paths = (path.relative_to(out) for path in out.rglob("*") if not path.is_dir())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts}
