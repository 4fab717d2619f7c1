"""The results in Markdown: labelled, small, reproducible, and with valid links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from colt_pipeline.analysis.report.lead import MOST
from stages import report
from tests.support import ROOT

COMMITTED = ROOT / "results"
PIPELINES = {COMMITTED: [], COMMITTED / "studies": ["--pipeline", "stages/studies/dvc.yaml"]}


def write(results: Path, out: Path, readme: Path) -> int:
    constraints = ["--constraints", str(ROOT / "constraints.txt")]
    arguments = ["--results", str(results), "--out", str(out), "--readme", str(readme)]
    return report.main([*arguments, *constraints, *PIPELINES[results]])


@pytest.fixture(scope="module", params=PIPELINES, ids=["results", "studies"])
def results(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture(scope="module")
def text(results: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("out")
    assert write(results, directory / "report.html", directory / "README.md") == 0
    return (directory / "README.md").read_text()


def test_the_committed_page_is_what_the_stage_writes(results: Path, text: str) -> None:
    assert (results / "README.md").read_text() == text


def test_every_link_leads_to_something_committed(results: Path, text: str) -> None:
    addresses = [address.partition("#")[0] for address in re.findall(r"\]\(([^)]*)\)", text)]
    assert len(addresses) > 10
    assert [address for address in addresses if not (results / address).exists()] == []


def test_sentences_and_findings_lead(text: str) -> None:
    head, _, rest = text.partition("\n## ")
    assert head.startswith("# COLT on TVM: ")
    assert 1 < len(re.findall(r"^\d\. \*\*[^*]+\*\* \S", head, re.MULTILINE)) <= MOST
    assert "**A stand-in is a small program behind the name of a model, not the model itself.**" in head
    assert rest.startswith("Findings\n\n| section | question | value | interval | basis | conclusion |")


def test_each_experiment_has_its_labels_figure_and_numbers(results: Path, text: str) -> None:
    sections = [part for part in text.split("\n## ") if "\nExperiment `" in part]
    assert len(sections) == len(list((results / "data").iterdir()))
    for section in sections:
        key = section.split("\nExperiment ")[1].splitlines()[0]
        assert re.search(r"stand-in LLMs|LLMs via local", key)
        assert re.search(r" · (measured latency|estimated latency \(not measured\)) · ", key)
        assert section.count("![") == 1
        assert section.count("\n| workload") == 1, "one table leads"
        assert "/tables.md)" in section


def test_searches_are_compared_after_the_last_sample_only(results: Path, text: str) -> None:
    tables = re.findall(r"^\| workloads \|.*?\n\n", text + "\n\n", re.MULTILINE | re.DOTALL)
    assert len(tables) == (results.name == "studies") * 6
    for table in tables:
        header, _, *rows = ([cell.strip() for cell in line.split("|")] for line in table.splitlines() if line)
        assert len({row[header.index("samples")] for row in rows}) == 1


def test_it_stays_small_enough_to_be_read(text: str) -> None:
    assert len(text.encode()) < 4_700 * text.count("\nExperiment `")


def test_an_unwritable_place_is_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert write(COMMITTED / "studies", tmp_path / "report.html", tmp_path / "file" / "README.md") == 1
    assert "choose another file with --readme" in capsys.readouterr().err
