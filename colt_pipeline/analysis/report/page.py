"""One page with all results: what they show, the paper's figures and tables beside ours, experiments, a search tree.

The page needs no network, and its bytes depend only on its inputs. Its only script sorts, filters and folds tables;
without it everything is visible.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from colt_pipeline.analysis.labels import (
    MODEL_SETS,
    SEARCH_TITLES,
    WORKLOAD_TITLES,
    display_order,
    search_title,
    unmeasured,
    workload_title,
)
from colt_pipeline.analysis.report.beside import Part, rest
from colt_pipeline.analysis.report.findings import PAPER_SAMPLES, PAPER_SEEDS, backends
from colt_pipeline.analysis.report.lead import Lead
from colt_pipeline.analysis.report.sections import Pipeline, Results, Section
from colt_pipeline.analysis.tables.files import shown
from colt_pipeline.analysis.tidy import SPACE
from colt_pipeline.analysis.tree.page import PAGES, PALETTE, tree_drawing
from colt_pipeline.analysis.tree.run import Run
from colt_pipeline.analysis.tree.words import caption as tree_caption
from colt_pipeline.config.spaces import space_title
from colt_pipeline.errors import ConfigError

PACKAGES = ("apache-tvm", "apache-tvm-ffi", "xgboost-cpu", "numpy", "pandas", "matplotlib", "seaborn", "scour")
"""Packages that numbers and figures depend on."""

LONG = 12
"""Tables with more rows can be filtered, and are folded on a screen."""


def title(pipeline: Pipeline) -> str:
    """The title of the report about the results of `pipeline`."""
    return "COLT on TVM: studies beyond the paper" if pipeline.studies else "COLT on TVM: the paper's experiments"


def report_html(
    results: Results, leading: Sequence[Lead], parts: Sequence[Part], versions: dict[str, str], run: Run | None
) -> str:
    """The page as HTML.

    Args:
        results: what the page shows.
        leading: the sentences at its top, see `leads`.
        parts: what repeats the paper's figures and tables, see `paper_parts`; shown before all else.
        versions: package -> version, see `pinned`.
        run: the run whose tree is drawn; None for no tree.
    """
    sections = results.sections
    script = PAGES.get_template("tables.js.j2").render()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return PAGES.get_template("report.html.j2").render(
        title=title(results.pipeline),
        studies=results.pipeline.studies,
        leads=leading,
        parts=parts,
        sections=[rest(section, parts) for section in sections],
        whole_models=results.whole_models,
        **facts(sections),
        findings=shown(findings(sections)),
        versions=versions,
        environment=shown(environment(sections)),
        noise=shown(noise(sections)),
        warmups=_range(pd.concat([section.tidy.runs["warmup_samples"] for section in sections])),
        samples=_range(pd.Series([section.tidy.runs["samples"].max() for section in sections])),
        seeds=_range(pd.Series([section.tidy.runs["seed"].nunique() for section in sections])),
        paper_samples=PAPER_SAMPLES,
        paper_seeds=PAPER_SEEDS,
        commands=commands,
        long=LONG,
        palette=PALETTE,
        script=script,
        script_hash=f"sha256-{digest}",
        tree=None if run is None else _tree(run),
    )


def commands(*groups: Iterable[Any]) -> list[str]:
    """The distinct commands that made the items of the groups; an item may be a command."""
    items = [item for group in groups for item in group]
    return list(dict.fromkeys(item if isinstance(item, str) else item.command for item in items))


def findings(sections: Sequence[Section]) -> pd.DataFrame:
    """What every section found: one row per question."""
    columns = ["section", "question", "value", "interval", "basis", "conclusion"]
    rows = [
        [section.name + (unmeasured("estimated") if section.estimated else ""), *vars(found).values()]
        for section in sections
        for found in section.said.findings
    ]
    return pd.DataFrame(rows, columns=columns).replace("", None)


def _tree(run: Run) -> dict[str, Any]:
    """What the page shows about the run whose tree is drawn."""
    return {
        "run": run.config["run"],
        "title": workload_title(run.started.workload),
        "caption": tree_caption(run),
        "command": f"python -m colt_pipeline.show results/runs/{run.config['experiment']}/{run.config['run']} --tree",
        **tree_drawing(run),
    }


def facts(sections: Sequence[Section]) -> dict[str, list[str]]:
    """What all sections state: their limits, what answered, where latencies come from, devices and design spaces."""
    return {
        "limits": shared_limits(sections),
        "llms": sorted({name for section in sections for name in backends(section.tidy)}),
        "measurements": _distinct(sections, "measurement"),
        "devices": _distinct(sections, "device"),
        "spaces": list(map(space_title, _distinct(sections, SPACE))),
    }


def shared_limits(sections: Sequence[Section]) -> list[str]:
    """The limits stated by the sections, each once; those not common to all name their sections."""
    said: dict[str, list[str]] = {}
    for section in sections:
        for text in section.said.limits:
            said.setdefault(text, []).append(section.name)
    common = [text for text, names in said.items() if len(names) == len(sections)]
    own = [f"{', '.join(names)}: {text}" for text, names in said.items() if len(names) < len(sections)]
    return common + own


def environment(sections: Sequence[Section]) -> pd.DataFrame:
    """What was run where: one row per experiment, device, target and source of latencies."""
    rows = []
    for section in sections:
        for (device, target, measurement), runs in section.tidy.runs.groupby(["device", "target", "measurement"]):
            spaces = " and ".join(map(space_title, sorted(set(runs["space"]))))
            latency = f"{measurement}{unmeasured(str(measurement))}"
            rows.append(
                {"experiment": section.name, "device": device, "target": target, "latency": latency}
                | {"runs": len(runs), "seeds": runs["seed"].nunique(), "samples": _range(runs["samples"])}
                | {"design space": spaces}
                | {"searches": ", ".join(map(_search, display_order(runs["search"], SEARCH_TITLES)))}
                | {"model sets": ", ".join(display_order(runs["model_set"], MODEL_SETS))}
            )
    return pd.DataFrame(rows)


def noise(sections: Sequence[Section]) -> pd.DataFrame:
    """How much repeated measurements of one program differ: one row per device and workload."""
    table = pd.concat([section.tidy.noise for section in sections]).drop_duplicates(["device", "workload"])
    order = {name: rank for rank, name in enumerate(display_order(table["workload"], WORKLOAD_TITLES))}
    table = table.sort_values(["device", "workload"], key=lambda c: c.map(order) if c.name == "workload" else c)
    names = {"workload": "workload", "device": "device", "measurements": "measurements", "minutes": "minutes"}
    names |= {"floor": "95 % of pairs differ by less than ×"}
    whole = table["measurements"].astype("int64")  # an experiment without noise leaves objects
    shown_rows = table[list(names)].assign(workload=table["workload"].map(workload_title), measurements=whole)
    return shown_rows.rename(columns=names)


def pinned(constraints: Path) -> dict[str, str]:
    """Package -> version pinned by `constraints`, for PACKAGES; versions for different Pythons are joined by "or".

    Raises:
        ConfigError: the file is missing or does not pin one of them.
    """
    try:
        text = constraints.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read {constraints}: {error.strerror}; name it with --constraints") from error
    found = {name: re.findall(rf"^{re.escape(name)}==([^\s;]+)", text, re.MULTILINE) for name in PACKAGES}
    if missing := [name for name, versions in found.items() if not versions]:
        raise ConfigError(f"{constraints} pins no {', '.join(missing)}; restore it")
    return {name: " or ".join(versions) for name, versions in found.items()}


def _search(name: str) -> str:
    return f"{search_title(name)} (search={name})"


def _distinct(sections: Sequence[Section], column: str) -> list[str]:
    return sorted({value for section in sections for value in section.tidy.runs[column]})


def _range(counts: pd.Series[Any]) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"
