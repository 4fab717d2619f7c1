"""The report and its short form, from the files that the stages wrote."""

from __future__ import annotations

import os
from pathlib import Path

from colt_pipeline.analysis.report.beside import beside
from colt_pipeline.analysis.report.page import pinned, report_html
from colt_pipeline.analysis.report.readme import readme
from colt_pipeline.analysis.report.sections import Pipeline, read_sections, read_whole_models
from colt_pipeline.analysis.tree.run import read_run
from colt_pipeline.errors import ConfigError


def write_report(
    results: Path, out: Path, run: Path | None, pipeline: Path | None, constraints: Path, summary: Path | None
) -> None:
    """Write the report.

    Args:
        results: contains data/, tables/ and figures/ of the experiments.
        out: the file to write.
        run: the run directory whose tree is drawn; None for no tree.
        pipeline: the file that defines the stages that wrote `results`, relative to the project; None = dvc.yaml.
        constraints: the file that pins package versions.
        summary: a Markdown file in `results` for the short form, see `readme`; None for no short form.

    Raises:
        ConfigError: something is missing or invalid, or a file cannot be written.
        RunDirError: `run` is not a run directory.
        JournalError: its journal is corrupt.
    """
    made_by = Pipeline(pipeline)
    sections, whole_models = read_sections(results, made_by), read_whole_models(results, made_by)
    pair = beside(sections, made_by)
    page = report_html(sections, pair, whole_models, pinned(constraints), None if run is None else read_run(run))
    _write(page, out, "--out")
    if summary is not None:
        address = Path(os.path.relpath(out, summary.parent)).as_posix()
        _write(readme(sections, pair, whole_models, made_by, address), summary, "--readme")


def _write(text: str, path: Path, flag: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another file with {flag}") from error
