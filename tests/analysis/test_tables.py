"""Tables against numbers computed by hand; see the fixture runs_dir for the counts."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from colt_pipeline.analysis.index import Entry, read_index
from colt_pipeline.analysis.tables.files import read_tables, shown, write_files
from colt_pipeline.analysis.tables.invocation import (
    best_latencies,
    call_counts,
    invocation_rates,
    speedups,
)
from colt_pipeline.analysis.tidy import Tidy, aggregate
from colt_pipeline.errors import ConfigError
from stages import aggregate as aggregate_stage
from stages import tables as tables_stage
from tests.analysis.conftest import WriteRun


@pytest.fixture
def tidy(runs_dir: Path) -> Tidy:
    return aggregate(runs_dir)


def test_invocation_rates(tidy: Tidy) -> None:
    table = invocation_rates(tidy).set_index("model")
    assert list(table.columns) == ["COLT(2, stand-in)"], "sets of one model have no rates to compare"
    rates = table["COLT(2, stand-in)"]
    assert rates.to_dict() == {
        "gpt-5.2 (stand-in)": pytest.approx(25.0),  # 40 / 160
        "gpt-5-mini (stand-in)": pytest.approx(75.0),  # 120 / 160
        "Course alteration rate": pytest.approx(10.0),  # 12 / 120
        "gpt-5.2 (stand-in) (total)": pytest.approx(100 * 52 / 172),
    }
    assert rates.iloc[:2].sum() == pytest.approx(100.0)


def test_rates_of_sets_that_were_never_asked_are_missing_not_zero(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", {"gpt-5.2": (0, 0), "gpt-5-mini": (0, 0)}, (0.5,))
    assert invocation_rates(aggregate(tmp_path / "runs"))["COLT(2, stand-in)"].isna().all()


def test_searches_are_not_pooled(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", {"gpt-5.2": (1, 0), "gpt-5-mini": (1, 0)}, (0.5,))
    write_run("b", {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}, (0.5,), search="colt_plus")
    table = invocation_rates(aggregate(tmp_path / "runs")).set_index("model")
    assert table.loc["gpt-5.2 (stand-in)"].to_dict() == {
        "COLT+(2, stand-in)": 25.0,
        "COLT(2, stand-in)": 50.0,
    }


def test_call_counts(tidy: Tidy) -> None:
    assert call_counts(tidy).astype(object).where(lambda table: table.notna(), None).values.tolist() == [
        ["FLUX convolution", "gpt-5-mini (stand-in)", None, 50, 0],
        ["FLUX convolution", "COLT (2 models, stand-in)", 30, 90, 8],
        ["my_kernel", "COLT (2 models, stand-in)", 10, 30, 4],
    ]


def test_seeds_add_up_in_call_counts_and_have_a_geometric_mean_in_speedups_and_latencies(
    write_run: WriteRun, tmp_path: Path
) -> None:
    write_run("a", {"gpt-5-mini": (5, 0)}, (0.5,), model_set="small")
    write_run("b", {"gpt-5-mini": (7, 0)}, (0.25,), model_set="small", seed=1)
    tidy = aggregate(tmp_path / "runs")
    assert call_counts(tidy)["gpt-5-mini (stand-in)"].tolist() == [12]
    assert speedups(tidy)["gpt-5-mini (stand-in)"].tolist() == pytest.approx([8**0.5] * 2)
    assert best_latencies(tidy)["gpt-5-mini (stand-in)"].tolist() == pytest.approx([1000 / 8**0.5])


def test_speedups_and_their_geometric_mean(tidy: Tidy) -> None:
    table = speedups(tidy)
    assert table["workload"].tolist() == ["FLUX convolution", "my_kernel", "Geometric mean"]
    assert table["COLT (2 models, stand-in)"].tolist() == pytest.approx([16.0, 4.0, 8.0])
    single = table["gpt-5-mini (stand-in)"]
    assert single[0] == pytest.approx(4.0)
    assert math.isnan(single[1]) and math.isnan(single[2]), "a mean over fewer workloads cannot be compared"


def test_a_seed_that_found_nothing_is_not_left_out_of_the_mean(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", {"gpt-5-mini": (5, 0)}, (0.5,), model_set="small")
    write_run("b", {"gpt-5-mini": (5, 0)}, (None,), model_set="small", seed=1)
    assert speedups(aggregate(tmp_path / "runs"))["gpt-5-mini (stand-in)"].isna().all()


def test_best_latencies_are_milliseconds(tidy: Tidy) -> None:
    table = best_latencies(tidy)
    assert table["unoptimized"].tolist() == pytest.approx([1000.0, 1000.0])
    assert table["COLT (2 models, stand-in)"].tolist() == pytest.approx([62.5, 250.0])


def test_all_tables_stand_on_one_page_each_under_its_name_with_its_caption(tmp_path: Path) -> None:
    frame = pd.DataFrame({"model": ["a_b & 5% #1 | x"], "rate": [0.123456789], "calls": pd.array([None], "Int64")})
    entries = [Entry("first", "100%", "Of stand-in_LLMs.", "1 seed"), Entry("second_one", "Second", "C.", "2 seeds")]
    write_files(dict(zip(entries, (frame, frame[["model"]]), strict=True)), tmp_path / "new")
    assert (tmp_path / "new" / "tables.md").read_text() == (
        "# Tables\n\nEach is also a CSV file of its name, with all digits.\n\n"
        "## first\n\n100% (1 seed). Of stand-in_LLMs.\n\n"
        "| model | rate | calls |\n| :--- | ---: | ---: |\n| a_b & 5% #1 \\| x | 0.12 | - |\n\n"
        "## second_one\n\nSecond (2 seeds). C.\n\n| model |\n| :--- |\n| a_b & 5% #1 \\| x |\n"
    )
    latex = (tmp_path / "new" / "tables.tex").read_text()
    assert latex.index("% first\n") < latex.index("% second_one\n")
    assert r"\caption{100\% (1 seed). Of stand-in\_LLMs.}" in latex
    assert r"a\_b \& 5\% \#1 \textbar{} x & 0.12 & - \\" in latex
    assert r"\begin{tabular}{lrr}" in latex and latex.count(r"\end{table}") == 2
    assert (tmp_path / "new" / "first.csv").read_bytes() == b"model,rate,calls\na_b & 5% #1 | x,0.123456789,\n"
    assert read_index(tmp_path / "new", "") == entries


def test_cells_come_back_from_markdown(tmp_path: Path) -> None:
    columns = {"a | b": ["x | y", "|", "", "a\\|"], "speedup": [1.0, float("nan"), 0.05, 12.345]}
    ratios, calls = pd.Series([">3.00", "2", None, "-"]), pd.array([1, None, 2, 3], "Int64")
    frame = pd.DataFrame(columns).assign(ratio=ratios, calls=calls)
    other = pd.DataFrame({"x": [1]})
    write_files(
        {Entry("t", "title", "Caption.", "key"): frame, Entry("u", "title", "Caption.", "key"): other}, tmp_path
    )
    cells = read_tables(tmp_path, "dvc repro tables")
    assert cells == {"t": shown(frame), "u": shown(other)}
    assert cells["t"].numeric == [False, True, False, True], "a ratio that is a text stays one"


def test_tables_that_are_missing_or_empty_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read.*make it with: dvc repro tables@x"):
        read_tables(tmp_path, "dvc repro tables@x")
    (tmp_path / "tables.md").write_text("# Tables\n\n## t\n\ncaption\n")
    with pytest.raises(ConfigError, match="does not contain the table t; make it with: dvc repro tables@x"):
        read_tables(tmp_path, "dvc repro tables@x")


def test_latex_prints_bounds(tmp_path: Path) -> None:
    write_files({Entry("t", "T", "C.", "K."): pd.DataFrame({"samples": [">64"], "ratio": ["<0.5"]})}, tmp_path)
    assert r"\textgreater{}64 & \textless{}0.5 \\" in (tmp_path / "tables.tex").read_text()


def test_latex_escapes_a_backslash_once(tmp_path: Path) -> None:
    write_files({Entry("t", "title", "c", "key"): pd.DataFrame({"x": [r"\{~^$"]})}, tmp_path)
    assert r"\textbackslash{}\{\textasciitilde{}\textasciicircum{}\$ \\" in (tmp_path / "tables.tex").read_text()


def test_stage_says_stand_in_in_every_table(runs_dir: Path, tmp_path: Path) -> None:
    assert aggregate_stage.main(["--runs", str(runs_dir), "--out", str(tmp_path / "data")]) == 0
    assert tables_stage.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "tables")]) == 0
    tables = sorted(path.stem for path in (tmp_path / "tables").glob("*.csv"))
    assert len(tables) == 9 and sorted(read_tables(tmp_path / "tables", "")) == tables
    for name in ("tables.md", "tables.tex"):
        text = (tmp_path / "tables" / name).read_text().replace("\\", "")
        assert text.count("stand-in LLMs · measured latency") == len(tables)
    for cells in read_tables(tmp_path / "tables", "").values():
        columns = any("(stand-in)" in head or ", stand-in)" in head for head in cells.header)
        assert columns or all("stand-in" in "".join(row) for row in cells.rows)


def test_stage_without_data_fails_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables_stage.main(["--data", str(tmp_path / "gone"), "--out", str(tmp_path / "tables")]) == 1
    assert "gone has no runs.csv" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a"}',
        '[{"name": 5, "title": "t", "caption": "c", "key": "k"}]',
        '[{"name": "../../secret", "title": "t", "caption": "c", "key": "k"}]',
        '[{"name": "", "title": "t", "caption": "c", "key": "k"}]',
        "[" * 100_000,
    ],
)
def test_an_index_that_is_none_or_leaves_its_directory_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ConfigError, match=r"index\.json is not .*make it with: dvc repro"):
        read_index(tmp_path, "dvc repro tables@cpu")
