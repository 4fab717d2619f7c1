"""One page with everything that was found: figures, tables, a tree, where the numbers come from, what they show.

The page needs no network and no script, and its bytes depend on what it is made from only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import yaml

from colt_pipeline.analysis.labels import WORKLOAD_TITLES, display_order, workload_title
from colt_pipeline.analysis.report.findings import PAPER_SAMPLES, PAPER_SEEDS, backends
from colt_pipeline.analysis.tables.invocation import shown
from colt_pipeline.analysis.tidy import Tidy
from colt_pipeline.analysis.tree.page import PAGES, tree_drawing
from colt_pipeline.analysis.tree.run import Run
from colt_pipeline.analysis.tree.words import caption as tree_caption
from colt_pipeline.errors import ConfigError

PACKAGES = ("apache-tvm", "apache-tvm-ffi", "xgboost-cpu", "numpy", "pandas", "matplotlib", "seaborn", "scour")
"""What numbers and pictures depend on."""

_SAFE = ' !"$()*+,-./:;<=>?@[]^_`{|}~'
"""What the address of a picture may hold as it is, between single quotes; all else is escaped."""


@dataclass(frozen=True)
class Figure:
    """A picture with its words."""

    title: str
    caption: str
    command: str
    svg: bytes

    @property
    def uri(self) -> str:
        """The picture as an address that holds it, for an attribute in single quotes: a quarter shorter than base64."""
        return "data:image/svg+xml," + quote(self.svg.decode().replace("\n", " "), safe=_SAFE)


@dataclass(frozen=True)
class Table:
    """Numbers with their words."""

    title: str
    caption: str
    command: str
    frame: pd.DataFrame

    @property
    def cells(self) -> tuple[list[str], list[list[str]], list[bool]]:
        """Header, rows, and which columns are numbers."""
        return shown(self.frame)


@dataclass(frozen=True)
class Section:
    """One experiment."""

    name: str
    title: str
    tidy: Tidy
    commands: tuple[str, ...]
    """What made its data, in order."""
    findings: tuple[str, ...]
    limits: tuple[str, ...]
    caption: str
    """What all its figures and tables have in common."""
    figures: tuple[Figure, ...]
    tables: tuple[Table, ...]


def report_html(
    sections: Sequence[Section], run: Run, versions: dict[str, str], whole_models: Sequence[Table] = ()
) -> str:
    """The page.

    Args:
        sections: In the order of the page.
        run: Whose tree is drawn.
        versions: Package -> version, see `pinned`.
        whole_models: Tables of whole models, after the sections.
    """
    return PAGES.get_template("report.html.j2").render(
        sections=sections,
        whole_models=whole_models,
        limits=shared_limits(sections),
        llms=sorted({name for section in sections for name in backends(section.tidy)}),
        measurements=_distinct(sections, "measurement"),
        devices=_distinct(sections, "device"),
        versions=versions,
        environment=_cells(environment(sections)),
        noise=_cells(noise(sections)),
        warmups={section.name: sorted(set(section.tidy.runs["warmup_samples"])) for section in sections},
        paper_samples=PAPER_SAMPLES,
        paper_seeds=PAPER_SEEDS,
        run=run.config["run"],
        tree_title=workload_title(run.started.workload),
        tree_caption=tree_caption(run),
        tree_command=f"python -m colt_pipeline.show results/runs/{run.config['experiment']}/{run.config['run']} --tree",
        **tree_drawing(run),
    )


def shared_limits(sections: Sequence[Section]) -> list[str]:
    """What the sections say of their limits, each once; what not all of them say names whose it is."""
    said: dict[str, list[str]] = {}
    for section in sections:
        for text in section.limits:
            said.setdefault(text, []).append(section.title)
    common = [text for text, titles in said.items() if len(titles) == len(sections)]
    own = [f"{' and '.join(titles)}: {text}" for text, titles in said.items() if len(titles) < len(sections)]
    return common + own


def environment(sections: Sequence[Section]) -> pd.DataFrame:
    """What was run where: one row per experiment, device, target and kind of latency."""
    rows = []
    for section in sections:
        for (device, target, measurement), runs in section.tidy.runs.groupby(["device", "target", "measurement"]):
            rows.append(
                {"experiment": section.name, "device": device, "target": target, "latency": measurement}
                | {"runs": len(runs), "seeds": runs["seed"].nunique(), "samples": _range(runs["samples"])}
                | {"searches": ", ".join(sorted(set(runs["search"])))}
                | {"model sets": ", ".join(sorted(set(runs["model_set"])))}
            )
    return pd.DataFrame(rows)


def noise(sections: Sequence[Section]) -> pd.DataFrame:
    """How far repeated measurements of one program differ: one row per device and workload."""
    table = pd.concat([section.tidy.noise for section in sections]).drop_duplicates(["device", "workload"])
    order = {name: rank for rank, name in enumerate(display_order(table["workload"], WORKLOAD_TITLES))}
    table = table.sort_values(["device", "workload"], key=lambda c: c.map(order) if c.name == "workload" else c)
    names = {"workload": "workload", "device": "device", "measurements": "measurements", "minutes": "minutes"}
    names |= {"floor": "95 % of pairs differ by less than ×"}
    return table[list(names)].assign(workload=table["workload"].map(workload_title)).rename(columns=names)


def pinned(constraints: Path) -> dict[str, str]:
    """Package -> version that `constraints` pins, of PACKAGES; several, for several Pythons, with "or" between them.

    Raises:
        ConfigError: The file is missing, or one of them is not pinned in it.
    """
    text = _read(constraints)
    found = {name: re.findall(rf"^{re.escape(name)}==([^\s;]+)", text, re.MULTILINE) for name in PACKAGES}
    if missing := [name for name, versions in found.items() if not versions]:
        raise ConfigError(f"{constraints} pins no {', '.join(missing)}; restore it")
    return {name: " or ".join(versions) for name, versions in found.items()}


def stage_command(pipeline: Path, stage: str) -> str:
    """The command of a stage of DVC, in one line; a stage of a group is called ``group@key``.

    Raises:
        ConfigError: The file is missing or not what it should be, or there is no such stage.
    """
    group, _, key = stage.partition("@")
    try:
        entry = yaml.safe_load(_read(pipeline))["stages"][group]
        items = entry["foreach"] if key else {}
        item = key if key and isinstance(items, list) else items[key] if key else None
        command = str((entry["do"] if key else entry)["cmd"])
        known = {"key": key, "item": item}
        known |= {f"item.{name}": value for name, value in item.items()} if isinstance(item, dict) else {}
        command = re.sub(r"\$\{([a-z.]+)\}", lambda match: str(known[match[1]]), command)
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"{pipeline} has no command of a stage {stage} ({error}); restore it") from error
    return " ".join(command.split())


def stage_keys(pipeline: Path, group: str) -> dict[str, Any]:
    """Key -> item of a group of stages of DVC.

    Raises:
        ConfigError: The file is missing or not what it should be, or there is no such group.
    """
    try:
        return dict(yaml.safe_load(_read(pipeline))["stages"][group]["foreach"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{pipeline} has no group of stages {group} ({error}); restore it") from error


def read_figure(path: Path, command: str) -> bytes:
    """An SVG file.

    Raises:
        ConfigError: It is missing.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; make it with: {command}") from error


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; name the directory that holds it") from error


def _cells(frame: pd.DataFrame) -> dict[str, Any]:
    return dict(zip(("header", "rows", "numeric"), shown(frame), strict=True))


def _distinct(sections: Sequence[Section], column: str) -> list[str]:
    return sorted({value for section in sections for value in section.tidy.runs[column]})


def _range(counts: pd.Series[Any]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"
