"""What must hold of the committed tables, findings and reports, whatever their numbers are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from colt_pipeline.analysis.labels import configurations
from colt_pipeline.analysis.report.findings import read_findings
from colt_pipeline.analysis.tables.files import read_tables
from colt_pipeline.analysis.tidy import read_tidy
from tests.support import ROOT

EXPERIMENTS = sorted(
    path.parent
    for results in ("results", "results/studies")
    for path in (ROOT / results / "tables").glob("*/index.json")
    if (ROOT / results / "data" / path.parent.name).exists()
)
POOLED = ("persistence", "alterations_and_chance")
"""Tables whose intervals are those of programs, not of seeds."""
SIZE_LIMIT = 2_000_000  # bytes, small enough to be mailed

each = pytest.mark.parametrize("tables", EXPERIMENTS, ids=[path.name for path in EXPERIMENTS])


def _seeds(tables: Path) -> int:
    runs = read_tidy(tables.parent.parent / "data" / tables.name).runs
    return int(runs.groupby(["search", "model_set", "workload"])["seed"].nunique().max())


def _intervals(tables: Path) -> Iterator[tuple[str, pd.Series[float], pd.Series[float], pd.Series[float]]]:
    """Of each table: its name, and the columns of an estimate and of the ends of its interval."""
    for path in sorted(tables.glob("*.csv")):
        frame = pd.read_csv(path)
        for low in (name for name in frame.columns if name.endswith("low")):
            what = low.removesuffix("low").strip() or "value"
            yield path.stem, frame[what], frame[low], frame[low.removesuffix("low") + "high"]


@each
def test_no_interval_is_a_point_and_each_contains_its_estimate(tables: Path) -> None:
    for name, what, low, high in _intervals(tables):
        known = low.notna()
        assert (known == high.notna()).all(), name
        assert (low < high)[known].all(), name
        assert ((low <= what) & (what <= high))[known].all(), name


@each
def test_one_seed_gives_no_interval_and_no_verdict(tables: Path) -> None:
    if _seeds(tables) > 1:
        return
    assert all(name in POOLED or low.isna().all() for name, _, low, _ in _intervals(tables))
    figures = tables.parent.parent / "figures" / tables.name
    assert not (figures / "ranks.csv").exists()
    costs = figures / "cost_against_quality.csv"
    assert not costs.exists() or not pd.read_csv(costs)["front"].any()
    for path in (tables / "comparisons.csv", tables / "ratios.csv"):
        if path.exists():
            verdicts = set(pd.read_csv(path)["verdict"].dropna())
            assert not verdicts & {"faster", "slower", "equal"}, path.name


@each
def test_every_number_of_a_stand_in_is_marked(tables: Path) -> None:
    """In the row or, where a column is a configuration, in its heading."""
    calls = read_tidy(tables.parent.parent / "data" / tables.name).calls
    if set(calls["backend"]) != {"embedded"}:
        return  # searches with random answers or without LLMs have rows of their own
    for name, cells in read_tables(tables, "dvc repro").items():
        marked = any("stand-in" in heading for heading in cells.header)
        unmarked = [row for row in cells.rows if not marked and not any("stand-in" in cell for cell in row)]
        assert all(any("TVM" in cell or "without LLMs" in cell for cell in row) for row in unmarked), (name, unmarked)


@each
def test_findings_say_what_they_rest_on(tables: Path) -> None:
    findings = read_findings(tables, "dvc repro").findings
    assert all(finding.basis and finding.conclusion for finding in findings)
    assert findings or len(configurations(read_tidy(tables.parent.parent / "data" / tables.name))) == 1


@pytest.mark.parametrize("page", ["results/report.html", "results/studies/report.html"])
def test_reports_are_small_and_need_no_network(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert len(text.encode()) <= SIZE_LIMIT
    assert "default-src 'none'" in text
    assert "src='http" not in text and 'src="http' not in text
