"""Write the report: one page with the figures, the tables, a tree, and where the numbers come from."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from colt_pipeline.analysis.labels import display_order
from colt_pipeline.analysis.report.findings import course_findings, limits, model_set_findings, search_findings
from colt_pipeline.analysis.report.page import (
    Figure,
    Section,
    Table,
    pinned,
    read_figure,
    report_html,
    stage_command,
    stage_keys,
)
from colt_pipeline.analysis.tables.end_to_end import TABLES as WHOLE_MODEL_TABLES
from colt_pipeline.analysis.tables.end_to_end import model_caption
from colt_pipeline.analysis.tables.paper import COMPARED
from colt_pipeline.analysis.tidy import read_tidy
from colt_pipeline.analysis.tree.run import read_run
from colt_pipeline.errors import ConfigError
from colt_pipeline.runs.jsonl import read_lines
from stages import end_to_end, run_stage
from stages.figures import FIGURES
from stages.tables import CAPTIONS, MODEL_SETS, SEARCHES, TABLES

TITLES = {
    "search": "Searches at equal samples",
    "unseen": "Workloads that played no part in the development",
    "long": "Twice as many samples",
    "routers": "Who answers next",
    "lambda": "How much small models are preferred",
    "controls": "What is COLT's own share",
    "cpu": "The paper's experiment, in small",
    "seeds": "The paper's experiment with three seeds, on two workloads",
    "largest_llama70b": "The paper's experiment with Llama-3.3-70B as the largest model, in small",
    "gpu": "The paper's experiment on a GPU, in small",
    "local": "A real model, far too small",
}
"""Experiment -> title, in the order of the page; others of dvc.yaml follow under their names."""

RUNS = {MODEL_SETS: "tune@", SEARCHES: "compare@"}
"""What is compared -> the stage that makes its runs, before the experiment's name."""

FINDINGS = {MODEL_SETS: (model_set_findings, course_findings), SEARCHES: (search_findings, course_findings)}
"""What is compared -> what is said of it."""

FIRST = (
    *("speedups", "search_speedups", "search_ratios", "comparisons", "statistics", "samples_to_reach"),
    *(
        "best_latencies",
        "invocation_rates",
        "call_counts",
        "paper_speedups",
        *(f"paper_table_{number}" for number in COMPARED),
    ),
    *("alterations_and_chance", "recorded_times"),
)
"""The order of tables; others follow by name."""


def write_report(results: Path, out: Path, project: Path | None, run: Path | None) -> None:
    """Data and figures below `results` and a run directory -> the page `out`.

    Args:
        results: Holds data/ and figures/ of the experiments that stage `tables` has in dvc.yaml, and tables/end_to_end.
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
    experiments = stage_keys(project / "dvc.yaml", "tables")
    names = display_order(experiments, TITLES)
    sections = [_section(results, project / "dvc.yaml", name, experiments[name]) for name in names]
    page = report_html(sections, tree, versions, _whole_models(results, project / "dvc.yaml"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(page.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror}; choose another file with --out") from error


def _section(results: Path, pipeline: Path, name: str, compare: str) -> Section:
    tidy = read_tidy(results / "data" / name)
    steps = (RUNS[compare] + name, *(f"{step}@{name}" for step in ("aggregate", "figures", "tables")))
    tune, aggregate, draw, tabulate = (stage_command(pipeline, step) for step in steps)
    common = CAPTIONS[compare](tidy)
    figures = [
        Figure(_title(stem), f"{what}: {common}", draw, read_figure(results / "figures" / name / f"{stem}.svg", draw))
        for stem, (data_of, what, _, comparisons_of) in FIGURES.items()
        if compare in comparisons_of and len(data_of(tidy))
    ]
    tables = [
        Table(_title(table), f"{what}: {common}.", tabulate, frame)
        for table, what in ((table, TABLES[table][1]) for table in display_order(TABLES, FIRST))
        if compare in TABLES[table][2] and len(frame := TABLES[table][0](tidy))
    ]
    return Section(
        name=name,
        title=TITLES.get(name, _title(name)),
        tidy=tidy,
        commands=(tune, aggregate),
        findings=tuple(text for findings in FINDINGS[compare] for text in findings(tidy)),
        limits=tuple(limits(tidy)),
        caption=common,
        figures=tuple(figures),
        tables=tuple(tables),
    )


def _whole_models(results: Path, pipeline: Path) -> list[Table]:
    """The tables of whole models; none where the pipeline tunes none."""
    models = read_lines(results / "tables" / "end_to_end" / end_to_end.FILE)
    if not models:
        return []
    command = stage_command(pipeline, "end_to_end_tables")
    return [
        Table(_title(name), f"{title}: {model_caption(models)}.", command, table(models))
        for name, (table, title) in WHOLE_MODEL_TABLES.items()
    ]


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m stages.report --results results --run results/runs/EXPERIMENT/... --out results/report.html``."""
    also = {"project": "directory of dvc.yaml and constraints.txt (default: this one)", "run": "run directory to draw"}
    return run_stage(write_report, "results", __doc__, argv, also=also)


if __name__ == "__main__":
    sys.exit(main())
