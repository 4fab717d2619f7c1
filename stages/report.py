"""Write the report: one page with the figures, the tables, a tree, and where the numbers come from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.aggregate import read_tidy
from colt_pipeline.analysis.findings import limits, model_set_findings, search_findings
from colt_pipeline.analysis.labels import display_order
from colt_pipeline.analysis.report import Figure, Section, Table, pinned, read_figure, report_html, stage_command
from colt_pipeline.analysis.tree import read_run
from colt_pipeline.errors import ConfigError
from stages import run_stage
from stages.figures import FIGURES
from stages.tables import CAPTIONS, MODEL_SETS, SEARCHES, TABLES

EXPERIMENTS = {
    "search": (SEARCHES, "Searches at equal samples"),
    "unseen": (SEARCHES, "Workloads that played no part in the development"),
    "long": (SEARCHES, "Twice as many samples"),
    "routers": (SEARCHES, "Who answers next"),
    "cpu": (MODEL_SETS, "The paper's experiment, in small"),
    "local": (MODEL_SETS, "A real model, far too small"),
}
"""Experiment -> (what it compares, title), in the order of the page."""

RUNS = {MODEL_SETS: "tune_", SEARCHES: "compare@"}
"""What is compared -> the stage that makes its runs, before the experiment's name."""

FINDINGS = {MODEL_SETS: model_set_findings, SEARCHES: search_findings}
"""What is compared -> what is said of it."""

FIRST = (
    *("speedups", "search_speedups", "search_ratios", "comparisons", "statistics", "samples_to_reach"),
    *("best_latencies", "invocation_rates", "call_counts", "paper_comparison"),
)
"""The order of tables; others follow by name."""


def write_report(results: Path, out: Path, project: Path | None, run: Path | None) -> None:
    """Data and figures below `results` and a run directory -> the page `out`.

    Args:
        results: Holds data/ and figures/ of EXPERIMENTS.
        out: The file to write.
        project: Holds dvc.yaml, for the commands, and constraints.txt; None: this directory.
        run: The run directory whose tree is drawn.

    Raises:
        ConfigError: Something is missing or broken, or `out` cannot be written.
        RunDirError: `run` is no run directory.
        JournalError: Its journal is broken.
    """
    if run is None:
        raise ConfigError("whose tree shall be drawn? Add --run RESULTS/runs/EXPERIMENT/WORKLOAD/RUN")
    project = project or Path()
    tree, versions = read_run(run), pinned(project / "constraints.txt")
    sections = [_section(results, project / "dvc.yaml", name) for name in EXPERIMENTS]
    page = report_html(sections, tree, versions)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(page.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}; choose another file with --out") from error


def _section(results: Path, pipeline: Path, name: str) -> Section:
    compare, title = EXPERIMENTS[name]
    tidy = read_tidy(results / "data" / name)
    steps = (RUNS[compare] + name, *(f"{step}@{name}" for step in ("aggregate", "figures", "tables")))
    tune, aggregate, draw, tabulate = (stage_command(pipeline, step) for step in steps)
    stem, _, figure_caption, _ = FIGURES[compare]
    picture = read_figure(results / "figures" / name / f"{stem}.svg", draw)
    tables = [
        Table(_title(table), f"{what}: {CAPTIONS[compare](tidy)}.", tabulate, frame)
        for table, what in ((table, TABLES[table][1]) for table in display_order(TABLES, FIRST))
        if compare in TABLES[table][2] and len(frame := TABLES[table][0](tidy))
    ]
    return Section(
        name=name,
        title=title,
        tidy=tidy,
        commands=(tune, aggregate),
        findings=tuple(FINDINGS[compare](tidy)),
        limits=tuple(limits(tidy)),
        figure=Figure(_title(stem), figure_caption(tidy), draw, picture),
        tables=tuple(tables),
    )


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.report --results results --run results/runs/EXPERIMENT/... --out results/report.html``."""
    also = {"project": "directory of dvc.yaml and constraints.txt (default: this one)", "run": "run directory to draw"}
    return run_stage(write_report, "results", __doc__, argv, also=also)


if __name__ == "__main__":
    sys.exit(main())
