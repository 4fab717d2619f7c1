"""The report's sections, one per experiment, read from the files that the stages wrote."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote

from colt_pipeline.analysis.index import INDEX, read_index
from colt_pipeline.analysis.labels import NOT_MEASURED, display_order
from colt_pipeline.analysis.report.findings import Findings, read_findings
from colt_pipeline.analysis.tables.end_to_end import MODELS, Model, Models
from colt_pipeline.analysis.tables.files import MARKDOWN, Cells, read_tables
from colt_pipeline.analysis.tidy import Tidy, read_tidy
from colt_pipeline.errors import ConfigError, JournalError
from colt_pipeline.runs.jsonl import read_lines
from colt_pipeline.serialization import typed

TITLES = {
    "anytime": "Searches at fair settings, at any number of samples",
    "anytime_long": "Four times as many samples",
    "search": "Searches at equal samples",
    "unseen": "Workloads that COLT+ without drafts was not tuned on",
    "gpu_searches": "Searches at equal samples on a GPU",
    "controls": "What the parts of COLT+ contribute",
    "cpu": "The paper's experiment, scaled down",
    "largest_llama70b": "The paper's experiment with Llama-3.3-70B as the largest model, scaled down",
    "gpu_measured": "The paper's experiment measured on a GPU, scaled down",
    "gpu": "The paper's experiment on a GPU, scaled down",
    "live": "The paper's experiment with real models, scaled down",
    "local": "A real model, far too small",
}
"""Experiment -> title, in the order of the page; others follow, titled by name."""

WHOLE_MODELS = "end_to_end"
"""The experiment that tunes whole models; its tables are different."""

_SAFE = ' !"$()*+,-./:;<=>?@[]^_`{|}~'
"""Characters that need no escaping in an image's URI between single quotes."""


@dataclass(frozen=True)
class Figure:
    """An image, which shows its title and key, and what to say below it."""

    name: str
    """Name of its files, without suffixes."""
    title: str
    caption: str
    key: str
    command: str
    svg: bytes

    @property
    def uri(self) -> str:
        """The image as a data URI for an attribute in single quotes: a quarter shorter than base64."""
        return "data:image/svg+xml," + quote(self.svg.decode().replace("\n", " "), safe=_SAFE)


@dataclass(frozen=True)
class Table:
    """Numbers with their title, caption, key and command."""

    name: str
    """Name of its CSV file, without suffix."""
    title: str
    caption: str
    key: str
    command: str
    cells: Cells


@dataclass(frozen=True)
class Section:
    """One experiment."""

    name: str
    title: str
    tidy: Tidy
    commands: tuple[str, ...]
    """The commands that made its data, in order."""
    said: Findings
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]

    @property
    def devices(self) -> str:
        """The devices of its runs."""
        return ", ".join(sorted(set(self.tidy.runs["device"])))

    @property
    def estimated(self) -> bool:
        """Whether none of its latencies were measured."""
        return set(self.tidy.runs["measurement"]) == {"estimated"}

    @property
    def key(self) -> str:
        """The conditions of its runs, as its tables and figures have them."""
        keys = [table.key for table in self.tables] + [figure.key for figure in self.figures]
        return keys[0] if keys else ""


@dataclass(frozen=True)
class WholeModels:
    """The experiment that tunes whole models."""

    tables: tuple[Table, ...]
    """The first is the paper's table 2."""
    models: Models
    """Its finished runs, see `read_models`."""


@dataclass(frozen=True)
class Pipeline:
    """The definition of the stages that wrote the results."""

    path: Path | None = None
    """A DVC file, relative to the project; None = dvc.yaml."""

    @property
    def studies(self) -> bool:
        """Whether its experiments are studies beyond the paper's."""
        return self.path is not None

    def command(self, stage: str) -> str:
        """The command that runs a stage."""
        return f"dvc repro {stage}" if self.path is None else f"dvc repro {self.path.as_posix()}:{stage}"


@dataclass(frozen=True)
class Results:
    """What the stages of a pipeline wrote."""

    pipeline: Pipeline
    sections: tuple[Section, ...]
    """In the order of the page."""
    whole_models: WholeModels | None


def read_results(results: Path, pipeline: Pipeline) -> Results:
    """What `pipeline` wrote below `results`.

    Args:
        results: contains data/NAME, tables/NAME and figures/NAME of each experiment.
        pipeline: what made them.

    Raises:
        ConfigError: no experiment is found, or a file is missing or invalid.
    """
    return Results(pipeline, tuple(read_sections(results, pipeline)), read_whole_models(results, pipeline))


def read_sections(results: Path, pipeline: Pipeline) -> list[Section]:
    """A section for each experiment with tables below `results`, in the order of TITLES.

    Args:
        results: contains data/NAME, tables/NAME and figures/NAME of each experiment.
        pipeline: what made them.

    Raises:
        ConfigError: there is no experiment, or one lacks a file.
    """
    names = {index.parent.name for index in (results / "tables").glob(f"*/{INDEX}")} - {WHOLE_MODELS}
    if not names:
        make = pipeline.command("tables")
        raise ConfigError(
            f"no experiment has tables with an {INDEX} below {results / 'tables'}; make them with: {make}"
        )
    return [_section(results, pipeline, name) for name in display_order(names, TITLES)]


def read_whole_models(results: Path, pipeline: Pipeline) -> WholeModels | None:
    """The tables and runs of whole models; None if none was tuned.

    Raises:
        ConfigError: a file is missing or invalid.
    """
    directory, command = results / "tables" / WHOLE_MODELS, pipeline.command("end_to_end_tables")
    if not directory.exists():
        return None
    tables = tuple(_tables(directory, command))
    try:
        models = read_lines(directory / MODELS)
        typed(list[Model], models)
        if not models:
            raise ValueError("no runs")
    except (JournalError, ValueError) as error:
        raise ConfigError(
            f"{directory / MODELS} does not hold runs of whole models ({error}); make it with: {command}"
        ) from error
    return WholeModels(tables, models)


def _section(results: Path, pipeline: Pipeline, name: str) -> Section:
    run, aggregate, draw, tabulate = (
        pipeline.command(f"{stage}@{name}") for stage in ("runs", "aggregate", "figures", "tables")
    )
    section = Section(
        name=name,
        title=TITLES.get(name, name.replace("_", " ").capitalize()),
        tidy=read_tidy(results / "data" / name),
        commands=(run, aggregate),
        said=read_findings(results / "tables" / name, tabulate),
        figures=tuple(_figures(results / "figures" / name, draw)),
        tables=tuple(_tables(results / "tables" / name, tabulate)),
    )
    return replace(section, title=f"{section.title} {NOT_MEASURED}") if section.estimated else section


def _tables(directory: Path, command: str) -> list[Table]:
    cells, entries = read_tables(directory, command), read_index(directory, command)
    if missing := [entry.name for entry in entries if entry.name not in cells]:
        raise ConfigError(f"{directory / MARKDOWN} lacks {', '.join(missing)}; make it with: {command}")
    return [Table(**asdict(entry), command=command, cells=cells[entry.name]) for entry in entries]


def _figures(directory: Path, command: str) -> list[Figure]:
    return [
        Figure(**asdict(entry), command=command, svg=_svg(directory / f"{entry.name}.svg", command))
        for entry in read_index(directory, command)
    ]


def _svg(path: Path, command: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; make it with: {command}") from error
