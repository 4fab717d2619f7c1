"""The report and its short form, from what the stages wrote to files."""

from __future__ import annotations

import os
from pathlib import Path

from colt_pipeline.analysis.report.page import pinned, report_html
from colt_pipeline.analysis.report.readme import readme
from colt_pipeline.analysis.report.sections import Pipeline, read_sections, read_whole_models
from colt_pipeline.analysis.tree.run import read_run
from colt_pipeline.errors import ConfigError


def write_report(
    results: Path, out: Path, run: Path | None, pipeline: Path | None, constraints: Path, summary: Path | None
) -> None:
    """What the stages wrote below `results` -> the page `out`, and `summary`.

    Args:
        results: Holds data/, tables/ and figures/ of the experiments.
        out: The file to write.
        run: The run directory whose tree is drawn; None: no tree.
        pipeline: Where the stages that wrote `results` are defined, relative to the project; None: in its dvc.yaml.
        constraints: The file that pins the versions of packages.
        summary: A file in `results` for what is shown in Markdown, see `readme`; None: it is not written.

    Raises:
        ConfigError: Something is missing or broken, or a file cannot be written.
        RunDirError: `run` is not a run directory.
        JournalError: Its journal is broken.
    """
    made_by = Pipeline(pipeline)
    sections, whole_models = read_sections(results, made_by), read_whole_models(results, made_by)
    page = report_html(sections, whole_models, pinned(constraints), None if run is None else read_run(run))
    _write(page, out, "--out")
    if summary is not None:
        address = Path(os.path.relpath(out, summary.parent)).as_posix()
        _write(readme(sections, whole_models, made_by, address), summary, "--readme")


def _write(text: str, path: Path, flag: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another file with {flag}") from error
