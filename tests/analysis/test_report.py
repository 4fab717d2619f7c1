"""The report: complete, safe, reproducible, and honest about where its numbers come from."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import pytest

from colt_pipeline.analysis.report.page import LONG, PACKAGES, pinned
from colt_pipeline.analysis.report.real_models import stand_ins_and_real_models
from colt_pipeline.analysis.report.sections import TITLES
from colt_pipeline.analysis.tidy import Tidy, aggregate, read_tidy, write_tidy
from colt_pipeline.records import EMBEDDED
from stages import report
from tests.analysis.conftest import WriteRun
from tests.support import ROOT
from tests.toy_run import events_by_hand, write_run

BACKENDS = ("stand-in LLMs", "LLMs via local", "no LLM", "random answers")
COMMITTED = ROOT / "results"


class Page(HTMLParser):
    """Tags with their attributes, and text by the class of the innermost element with one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if name := dict(attrs).get("class"):
            self.texts.append((name, ""))

    def handle_data(self, data: str) -> None:
        if self.texts:
            name, text = self.texts[-1]
            self.texts[-1] = (name, text + data)

    def of_class(self, name: str) -> list[str]:
        return [text for found, text in self.texts if found == name]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", events_by_hand("TileSize"), experiment="toy")


def write(run_dir: Path | None, out: Path, results: Path = COMMITTED, *more: str) -> int:
    run = [] if run_dir is None else ["--run", str(run_dir)]
    constraints = ["--constraints", str(ROOT / "constraints.txt")]
    return report.main(["--results", str(results), "--out", str(out), *constraints, *run, *more])


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Results of one small experiment."""
    for name in ("data", "tables", "figures"):
        shutil.copytree(COMMITTED / name / "local", tmp_path / "results" / name / "local")
    return tmp_path


@pytest.fixture(scope="module")
def text(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the committed results, with a toy run's tree."""
    out = tmp_path_factory.mktemp("out") / "new" / "report.html"
    assert write(run_dir, out) == 0
    return out.read_text()


def test_the_page_needs_no_network_and_runs_only_the_script_that_its_policy_names(text: str) -> None:
    page = Page(text)
    addresses = [
        value or "" for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href")
    ]
    assert len(addresses) > len(TITLES)
    assert {address for address in addresses if not address.startswith(("#", "data:"))} == {"studies/report.html"}
    targets = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert {address[1:] for address in addresses if address.startswith("#")} <= {*targets}
    assert len(targets) == len(set(targets))
    assert not {"link", "iframe", "object", "form"} & {
        tag for tag, attributes in page.tags if attributes.get("rel") != "icon"
    }
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert [attributes for tag, attributes in page.tags if tag == "script"] == [{}]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [attributes["content"] for _, attributes in page.tags if attributes.get("http-equiv")]
    assert policy is not None and policy.split("; ")[0] == "default-src 'none'"
    assert f"script-src 'sha256-{digest}'" in policy.split("; ")
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    pictures = [unquote(address) for address in addresses if address.startswith("data:image/svg+xml")]
    assert len(pictures) > len(TITLES)
    for picture in pictures:
        assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', picture))
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", picture))
    # Namespaces and document types in images are not addresses: nothing is loaded from them.
    assert re.findall(r"https?://[^\s\"<]+", re.sub(r"src='data:[^']*'", "", text)) == ["http://www.w3.org/2000/svg"]


def test_the_same_bytes_in_another_process_from_another_place(small: Path, run_dir: Path) -> None:
    assert write(run_dir, small / "report.html", small / "results") == 0
    text = (small / "report.html").read_text()
    elsewhere = shutil.copytree(run_dir, small / "copy")
    command = [sys.executable, "-m", "stages.report", "--results", "results", "--out", "again.html"]
    shutil.copy(ROOT / "constraints.txt", small)
    subprocess.run(
        [*command, "--run", str(elsewhere)],
        check=True,
        cwd=small,
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)},
    )
    assert (small / "again.html").read_text() == text
    assert str(ROOT) not in text and str(small) not in text and str(run_dir.parent) not in text


def test_every_section_says_who_answered_how_it_was_timed_and_what_made_it(text: str) -> None:
    sections = re.findall(r"<section .*?</section>", text, re.DOTALL)
    assert len(sections) > 8
    for section in map(Page, sections):
        keys = section.of_class("key")
        assert keys and all(any(name in key for name in BACKENDS) for key in keys)
        assert all("measured latency" in key or "estimated latency (not measured)" in key for key in keys)
        assert len(section.of_class("made")) == 1
    outside = re.sub(r"<section .*?</section>", "", text, flags=re.DOTALL)
    assert "<img" not in outside
    for stage in ("runs@cpu", "aggregate@cpu", "tables@gpu", "figures@local"):
        assert f"<code>dvc repro {stage}</code>" in text


def test_a_figure_or_table_is_shown_once_with_one_caption(text: str) -> None:
    page = Page(text)
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == len(set(pictures))
    assert text.count("<figcaption") == len(pictures) + 1, "and the tree"
    headings = re.findall(r'<h3 id="([^"]*)">([^<]*)</h3>', text)
    tables = [name for name, _ in headings if name not in {"paper-cpu"}]
    assert len(tables) == len(set(tables)) > 20
    assert [title for _, title in headings].count("Table 3 of the paper beside ours") == 1
    assert not re.search(r'<h3[^>]*>[^<]*</h3>\s*<div class="scroll picture"', text), "the picture has its title"


def test_sentences_lead_then_the_paper_then_findings(text: str) -> None:
    before = text[: text.index('<dl class="labels">')]
    leading = re.findall(r"<li><strong>([^<]*)</strong>", before)
    assert 1 < len(leading) <= 5
    ids = re.findall(r'<h2 id="([^"]*)"', text)
    assert ids[:3] == ["paper", "findings", "cpu"]
    assert ids[-6:] == ["whole-models", "studies", "limits", "tree", "environment", "deviations"]
    parts = re.findall(r'<h3 class="part" id="[^"]*">([^<]*)</h3>', text)
    assert [part.partition(" ")[2][0] for part in parts] == ["2", "3", "4"]
    paper = text[text.index('<h2 id="paper">') : text.index('<h2 id="findings">')]
    assert all(f"Table {number} of the paper beside ours" in paper for number in (1, 2, 3, 4, 5))


def test_long_tables_are_folded_only_by_the_script(text: str) -> None:
    tables = re.findall(r"<table class=\"[^\"]*\".*?</table>", text, re.DOTALL)
    assert len(tables) > 20
    assert all(("long" in table[:30]) == (table.count("<tr>") - 1 > LONG) for table in tables)
    folded = [attributes for tag, attributes in Page(text).tags if tag == "details"]
    assert len(folded) > 5 and all("open" in attributes for attributes in folded)


def test_the_environment_is_in_the_order_of_models_and_names_searches(text: str) -> None:
    environment = text[text.index('<h2 id="environment">') :]
    assert "<td>small, large, 2, 4, 8</td>" in environment and "<td>COLT (search=paper)</td>" in environment
    versions = pinned(ROOT / "constraints.txt")
    assert all(f"{name} {versions[name]}" in environment for name in PACKAGES)


def test_experiments_are_those_with_tables_in_the_order_of_the_page(small: Path, run_dir: Path) -> None:
    for name in ("mine", "cpu"):
        for kind in ("data", "tables", "figures"):
            (small / "results" / kind / name).symlink_to(small / "results" / kind / "local")
    (small / "results" / "tables" / "stale").mkdir()
    assert write(run_dir, small / "report.html", small / "results") == 0
    text = (small / "report.html").read_text()
    assert re.findall(r'<h2 id="([^"]*)"', text) == [
        *("findings", "cpu", "local", "mine"),
        *("studies", "limits", "tree", "environment", "deviations"),
    ]


def test_the_page_shows_what_the_stages_wrote_and_computes_nothing_again(small: Path) -> None:
    tables = small / "results" / "tables" / "local"
    text = (tables / "tables.md").read_text()
    (tables / "tables.md").write_text(text.replace("| workload |", "| altered by hand |"))
    found = {"question": "asked", "value": "1.5", "interval": "", "basis": "9 pairs", "conclusion": "faster"}
    (tables / "findings.json").write_text(json.dumps({"findings": [found], "limits": ["limited"]}))
    (small / "results" / "figures" / "local" / "index.json").write_text("[]")
    assert write(None, small / "report.html", small / "results") == 0
    page = (small / "report.html").read_text()
    cells = "".join(f"<td>{cell}</td>" for cell in ("local", "asked", "1.5", "-", "9 pairs", "faster"))
    assert f"<tr>{cells}</tr>" in page and "<li>limited</li>" in page
    assert ">altered by hand</th>" in page and "<img" not in page


@pytest.fixture
def on_gpu(tmp_path: Path) -> Path:
    """Results of the experiment on a GPU: estimated, and as if the same numbers had been measured on another device."""
    for kind, name in product(("data", "tables", "figures"), ("gpu", "gpu_measured")):
        shutil.copytree(COMMITTED / kind / "gpu", tmp_path / kind / name)
    runs = tmp_path / "data" / "gpu_measured" / "runs.csv"
    text = runs.read_text()
    (device,) = set(re.findall(r"estimate-[^,]*", text))
    runs.write_text(text.replace(device, "some-gpu").replace(",estimated,", ",measured,"))
    for drawing in (tmp_path / "figures").glob("*/speedup_curves.svg"):
        drawing.write_text(drawing.read_text().replace("<svg ", f'<svg id="{drawing.parent.name}" ', 1))
    return tmp_path


def test_measured_and_estimated_stand_side_by_side_and_are_told_apart(on_gpu: Path) -> None:
    assert write(None, on_gpu / "report.html", on_gpu, "--readme", str(on_gpu / "README.md")) == 0
    text = (on_gpu / "report.html").read_text()
    ids = re.findall(r'<h2 id="([^"]*)"', text)
    assert ids[:4] == ["paper", "findings", "gpu_measured", "gpu"]
    pair = text[text.index('<h2 id="paper">') : text.index('<h2 id="findings">')]
    assert "gpu_measured was measured on some-gpu. gpu was not measured" in pair and "RTX 2080 Ti" in pair
    assert pair.count("set by construction") == 2, "beside both tables"
    assert re.findall(r"<h3[^>]*>(.*)</h3>", pair) == [
        "Figure 4 and tables 1 and 5, measured and estimated",
        "Table 1 of the paper beside ours, measured and not measured",
        "Table 5 of the paper beside ours, measured and not measured",
    ]
    assert {"COLT(8) measured (stand-in)", "COLT(8) not measured (stand-in)", "COLT(8) paper"} <= {
        *re.findall(r">(COLT\(8\)[^<]*)</th>", pair)
    }
    for name in ("gpu_measured", "gpu"):
        assert text.count(f'id="figure-{name}-speedup_curves"') == 1, "drawn once"
        assert f'<figure id="figure-{name}-speedup_curves"' in pair
    assert 'id="gpu-paper_table_5"' not in text
    headings = re.findall(r"^## (.*)$", (on_gpu / "README.md").read_text(), re.MULTILINE)
    assert {TITLES["gpu_measured"], f"{TITLES['gpu']} (not measured)"} <= {*headings}


def test_without_a_measurement_the_estimate_is_marked_and_stands_alone(on_gpu: Path) -> None:
    for kind in ("data", "tables", "figures"):
        shutil.rmtree(on_gpu / kind / "gpu_measured")
    assert write(None, on_gpu / "report.html", on_gpu) == 0
    text = (on_gpu / "report.html").read_text()
    assert f'<h2 id="gpu">{TITLES["gpu"]} (not measured)</h2>'.replace("'", "&#39;") in text
    assert "<strong>Not measured.</strong>" in text and ">estimated (not measured)</td>" in text
    assert '<h3 class="part" id="paper-gpu">Figure 4 and tables 1 and 5</h3>' in text


def test_studies_have_a_page_without_a_tree_and_with_their_own_commands(small: Path) -> None:
    assert write(None, small / "report.html", small / "results", "--pipeline", "stages/studies/dvc.yaml") == 0
    text = (small / "report.html").read_text()
    assert "<code>dvc repro stages/studies/dvc.yaml:tables@local</code>" in text and "dvc repro tables" not in text
    assert "#tree" not in text and '<h2 id="tree">' not in text and "#whole-models" not in text
    assert "studies beyond the paper</h1>" in text and 'href="../report.html"' in text and "#studies" not in text


def test_a_whole_model_has_its_tables_and_a_sentence(text: str) -> None:
    assert text.count('id="whole-models-table_2"') == text.count('id="whole-models-kernels"') == 1
    section = text[text.index('<h2 id="whole-models">') : text.index('<h2 id="studies">')]
    assert "gpt-5-mini (stand-in)" in section and "COLT+ without drafts (8 models, stand-in)" in section
    assert section.count("<code>dvc repro end_to_end_tables</code>") == 1
    assert "<strong>A whole model.</strong>" in text[: text.index('<dl class="labels">')]


@pytest.mark.parametrize("spoiled", ["", "{}\n"])
def test_unusable_runs_of_whole_models_are_one_message(
    spoiled: str, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = shutil.copytree(COMMITTED / "tables" / "end_to_end", small / "results" / "tables" / "end_to_end")
    (directory / "models.jsonl").write_text(spoiled)
    assert write(None, small / "report.html", small / "results") == 1
    said = capsys.readouterr().err
    assert "models.jsonl does not hold runs of whole models" in said and "dvc repro end_to_end_tables" in said


def test_a_small_key_stands_at_the_top(text: str) -> None:
    head = text[text.index("<header>") : text.index("</header>")]
    assert "<h1>COLT on TVM: the paper's experiments</h1>".replace("'", "&#39;") in head
    assert "A stand-in is a small program behind the name of a model, not the\nmodel itself." in head
    assert "<dd>estimated and measured; estimated means computed, not measured</dd>" in head


def test_text_of_a_run_stays_text(small: Path, run_dir: Path) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    other = write_run(small / "run", events_by_hand(hostile), run=hostile, experiment="toy")
    pages = []
    for directory, out in ((run_dir, small / "harmless.html"), (other, small / "hostile.html")):
        assert write(directory, out, small / "results") == 0
        pages.append(Page(out.read_text()))
    assert [tag for tag, _ in pages[0].tags] == [tag for tag, _ in pages[1].tags]


def without(*parts: str) -> Callable[[Path], None]:
    def remove(root: Path) -> None:
        path = root.joinpath(*parts)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def broken(*parts: str) -> Callable[[Path], object]:
    return lambda root: root.joinpath(*parts).write_text("[{}]")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without("results", "data", "local"), "local has no runs.csv"),
        (without("results", "tables"), "no experiment has tables with an index.json"),
        (
            without("results", "tables", "local", "tables.md"),
            "No such file or directory; make it with: dvc repro tables",
        ),
        (
            lambda root: (root / "results" / "tables" / "local" / "tables.md").write_text("# Tables"),
            "tables.md lacks speedups, statistics",
        ),
        (without("results", "tables", "local", "findings.json"), "make it with: dvc repro tables@local"),
        (
            without("results", "figures", "local"),
            "index.json: No such file or directory; make it with: dvc repro figures",
        ),
        (without("results", "figures", "local", "speedup_curves.svg"), "make it with: dvc repro figures@local"),
        (broken("results", "figures", "local", "index.json"), "is not an index"),
        (without("run"), "run directory"),
    ],
)
def test_what_is_missing_is_one_message(
    spoil: Callable[[Path], object], message: str, run_dir: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(run_dir, small / "run")
    spoil(small)
    assert write(small / "run", small / "report.html", small / "results") == 1
    said = capsys.readouterr().err
    assert message in said and said.startswith("error: ") and said.count("\n") == 1
    assert not (small / "report.html").exists()


@pytest.mark.parametrize(
    ("text", "message"), [(None, "name it with --constraints"), ("numpy==1", "pins no apache-tvm")]
)
def test_versions_that_nobody_knows_are_a_message(
    text: str | None, message: str, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (small / "pins.txt").write_text(text)
    assert write(None, small / "report.html", small / "results", "--constraints", str(small / "pins.txt")) == 1
    assert message in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_a_message(
    run_dir: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small / "file").write_text("")
    assert write(run_dir, small / "file" / "report.html", small / "results") == 1
    assert "choose another file with --out" in capsys.readouterr().err


def test_a_package_with_several_pins_shows_them_all(tmp_path: Path) -> None:
    lines = [f"{name}==1.0" for name in PACKAGES if name != "numpy"]
    lines += ["numpy==2.0 ; python_full_version < '3.13'", "numpy==3.0 ; python_full_version >= '3.13'"]
    (tmp_path / "constraints.txt").write_text("\n".join(lines))
    assert pinned(tmp_path / "constraints.txt")["numpy"] == "2.0 or 3.0"


REAL = {"gpt-5.2": (1, 1), "gpt-5-mini": (3, 0)}


def tidy_of(write_run: WriteRun, tmp_path: Path, name: str, backend: str, *runs: tuple[int, float]) -> Tidy:
    """Runs of one configuration: seed and seconds of the best program; all cost 3 USD per million prompt tokens."""
    for seed, secs in runs:
        write_run(
            f"{name}/s{seed}", REAL, (secs,), seed=seed, llm_backend=backend, prices=dict.fromkeys(REAL, (3.0, 0.0))
        )
    return aggregate(tmp_path / "runs" / name)


def test_runs_of_stand_ins_and_of_real_models_are_compared_where_both_made_them(
    write_run: WriteRun, tmp_path: Path
) -> None:
    stand_ins = tidy_of(write_run, tmp_path, "stand_ins", "embedded", (0, 0.5), (1, 0.125), (2, 0.001))
    real = tidy_of(write_run, tmp_path, "real", "openrouter", (0, 0.1), (1, 0.4), (7, 0.9))
    real.calls["usd"] = 0.25
    table = stand_ins_and_real_models(stand_ins, real)
    assert table.to_dict("records") == [
        {
            **{"workload": "FLUX convolution", "models": "COLT (2 models)", "seeds": 2},
            **{"calls, stand-ins": 10, "calls, real models": 10},
            **{"speedup, stand-ins": pytest.approx(4.0), "speedup, real models": pytest.approx(5.0)},
            **{"USD, stand-ins": pytest.approx(2 * 400 * 3 / 1e6), "USD, real models": pytest.approx(1.0)},
        }
    ]
    real.calls.loc[0, "usd"] = None
    assert stand_ins_and_real_models(stand_ins, real)["USD, real models"].isna().all(), "a price was unknown"
    others = replace(real, runs=real.runs[real.runs["seed"] == 7])
    assert stand_ins_and_real_models(stand_ins, others).empty


def test_the_report_shows_real_models_beside_stand_ins_if_it_is_given_both(
    small: Path, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = small / "theirs" / "data" / "local"
    shutil.copytree(small / "results" / "data" / "local", theirs)
    beside = ("--beside", str(small / "theirs"))
    assert write(run_dir, small / "report.html", small / "results", *beside) == 1
    said = capsys.readouterr().err
    assert "no experiment has the same runs from stand-ins in one and from real models in the other" in said
    tidy = read_tidy(theirs)
    played = replace(tidy, runs=tidy.runs.assign(llm_backend=EMBEDDED), calls=tidy.calls.assign(backend=EMBEDDED))
    write_tidy(played, theirs)
    assert write(run_dir, small / "report.html", small / "results", *beside) == 0
    text = (small / "report.html").read_text()
    heading = text.index('<h3 id="local-real_models">Stand-ins and real models</h3>')
    table = text[heading : text.index("</table>", heading)]
    assert "real LLMs via local" in table and "stand-ins: stand-in LLMs" in table
    assert all(
        f"{what}, {side}" in table for what in ("calls", "speedup", "USD") for side in ("stand-ins", "real models")
    )
