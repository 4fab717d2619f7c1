"""The report and its short form, from the files that the stages wrote."""

from __future__ import annotations

import os
from pathlib import Path

from colt_pipeline.analysis.report.beside import paper_parts
from colt_pipeline.analysis.report.lead import leads
from colt_pipeline.analysis.report.page import pinned, report_html
from colt_pipeline.analysis.report.readme import readme
from colt_pipeline.analysis.report.real_models import with_real_models
from colt_pipeline.analysis.report.sections import Pipeline, read_results
from colt_pipeline.analysis.tree.run import read_run
from colt_pipeline.errors import ConfigError


def write_report(
    results: Path,
    out: Path,
    run: Path | None,
    pipeline: Path | None,
    constraints: Path,
    summary: Path | None,
    beside: Path | None = None,
) -> None:
    """Write the report.

    Args:
        results: contains data/, tables/ and figures/ of the experiments.
        out: the file to write.
        run: the run directory whose tree is drawn; None for no tree.
        pipeline: the file that defines the stages that wrote `results`, relative to the project; None = dvc.yaml.
        constraints: the file that pins package versions.
        summary: a Markdown file in `results` for the short form, see `readme`; None for no short form.
        beside: contains data/ of the same experiments with other answers, see `with_real_models`; None if nothing does.

    Raises:
        ConfigError: something is missing or invalid, or a file cannot be written.
        RunDirError: `run` is not a run directory.
        JournalError: its journal is corrupt.
    """
    read = read_results(results, Pipeline(pipeline))
    if beside is not None:
        read = with_real_models(read, beside)
    models = () if read.whole_models is None else read.whole_models.models
    leading = leads({section.name: section.tidy for section in read.sections}, models)
    tree = None if run is None else read_run(run)
    _write(report_html(read, leading, paper_parts(read), pinned(constraints), tree), out, "--out")
    if summary is not None:
        address = Path(os.path.relpath(out, summary.parent)).as_posix()
        _write(readme(read, leading, address), summary, "--readme")


def _write(text: str, path: Path, flag: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}; choose another file with {flag}") from error
