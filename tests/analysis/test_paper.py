"""The paper's numbers as data, beside ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from colt_pipeline.analysis.tables.paper import (
    SOURCE,
    TABLES,
    paper_beside,
    paper_comparison,
    paper_layout,
    paper_speedups,
    paper_table,
)
from colt_pipeline.analysis.tidy import aggregate
from colt_pipeline.errors import ConfigError
from colt_pipeline.workloads import PAPER
from tests.analysis.conftest import WriteRun
from tests.support import ROOT

TWO = {"gpt-5.2": (10, 4), "gpt-5-mini": (30, 0)}


@pytest.mark.parametrize("number", TABLES)
def test_every_table_names_its_source_and_uses_names_of_the_project(number: int) -> None:
    path = ROOT / "colt_pipeline/analysis/tables/reference" / f"table{number}.csv"
    assert path.read_text().splitlines()[0] == f"# {SOURCE}, table {number}"
    table = paper_table(number)
    known = {file.stem for file in (ROOT / "conf/models").iterdir()}
    assert set(table["largest"]) <= known and set(table.get("workload", PAPER)) == set(PAPER)
    other = {"course alterations", "course alteration rate", *(f"{name} (total)" for name in known)}
    assert set(table.get("quantity", known)) <= known | other


@pytest.mark.parametrize("number", (3, 4, 5))
def test_regular_calls_add_up_to_a_thousand(number: int) -> None:
    table = paper_table(number)
    regular = table[table["quantity"] != "course alterations"]
    totals = regular.groupby(["workload", "model_set"])["calls"].sum()
    assert len(totals) == 15 and set(totals) == {1000}


def test_the_rates_of_table_1_follow_from_table_3() -> None:
    rates = paper_table(1).query("target == 'cpu' and largest == 'gpt-5.2'").set_index(["model_set", "quantity"])
    calls = paper_table(3).groupby(["model_set", "quantity"])["calls"].sum()
    for model_set in ("2", "4", "8"):
        share = 100 * calls[model_set, "gpt-5.2"] / 5000
        assert rates.loc[(model_set, "gpt-5.2"), "percent"] == pytest.approx(share, abs=0.06)


def test_a_table_that_the_paper_lacks_is_a_message() -> None:
    with pytest.raises(ConfigError, match="no table 6; choose one of 1, 2, 3, 4, 5"):
        paper_table(6)


def test_calls_are_scaled_to_the_papers_thousand_and_name_who_answered(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,), seed=0)
    write_run("b", TWO, (0.5,), seed=1)
    table = paper_comparison(aggregate(tmp_path / "runs"))
    assert table.to_numpy().tolist() == [
        [
            3,
            f"FLUX convolution, {row}",
            "COLT(2)",
            "calls per 1000 regular ones",
            paper,
            ours,
            ours - paper,
            " (stand-in)",
            "measured",
        ]
        for row, paper, ours in (
            ("gpt-5-mini", 686.0, 750.0),
            ("gpt-5.2", 314.0, 250.0),
            ("course alterations", 122.0, 100.0),
        )
    ]


def test_rates_are_compared_only_over_the_papers_workloads(write_run: WriteRun, tmp_path: Path) -> None:
    *first, last = PAPER
    for workload in first:
        write_run(workload, TWO, (0.5,), workload=workload)
    assert set(paper_comparison(aggregate(tmp_path / "runs"))["table"]) == {3}
    write_run(last, TWO, (0.5,), workload=last)
    rates = paper_comparison(aggregate(tmp_path / "runs")).query("table == 1").set_index("row")
    assert rates["paper"].to_dict() == {
        "gpt-5.2": 27.4,
        "gpt-5-mini": 72.6,
        "course alteration rate": 16.2,
        "gpt-5.2 (total)": 35.1,
    }
    assert rates["ours"].tolist() == pytest.approx([25.0, 75.0, 100 * 4 / 30, 100 * 14 / 44])


def test_what_the_paper_has_not_is_left_out(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", {"gpt-5-mini": (5, 0)}, (0.5,), model_set="small")
    write_run("b", TWO, (0.5,), target="h100")
    write_run("c", TWO, (0.5,), workload="my_kernel")
    write_run("d", TWO, (0.5,), model_set="mine")
    assert paper_comparison(aggregate(tmp_path / "runs")).empty


def test_a_layout_has_ours_the_papers_and_the_difference_side_by_side(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,))
    tidy = aggregate(tmp_path / "runs")
    table = paper_layout(tidy, 3)
    assert list(table.columns) == ["row", "COLT(2) ours (stand-in)", "COLT(2) paper", "COLT(2) difference"]
    assert table.iloc[0].tolist() == ["FLUX convolution, gpt-5-mini", 750.0, 686.0, 64.0]
    assert paper_layout(tidy, 5).empty, "no run on a GPU"


def test_what_was_not_measured_is_marked_where_it_stands(write_run: WriteRun, tmp_path: Path) -> None:
    for workload in PAPER:
        write_run(f"cpu/{workload}", TWO, (0.5,), workload=workload)
        write_run(f"gpu/{workload}", TWO, (0.5,), workload=workload, target="gpu", measurement="estimated")
    tidy = aggregate(tmp_path / "runs")
    rates = list(paper_layout(tidy, 1).columns)
    assert "COLT(2), target=cpu ours (stand-in)" in rates
    assert "COLT(2), target=gpu ours (stand-in) (not measured)" in rates
    assert list(paper_layout(tidy, 5).columns)[1] == "COLT(2), target=gpu ours (stand-in) (not measured)"
    assert list(paper_layout(tidy, 3).columns)[1] == "COLT(2), target=cpu ours (stand-in)"


def test_measured_numbers_stand_beside_estimated_ones_and_the_papers(write_run: WriteRun, tmp_path: Path) -> None:
    eight = {"gpt-5.2": (10, 4), "gpt-5-mini": (20, 0), "tiny": (10, 0)}
    write_run("a", {"gpt-5.2": (30, 3), "gpt-5-mini": (10, 0)}, (0.5,), target="gpu")
    measured = aggregate(tmp_path / "runs")
    for name, calls, models in (("b", TWO, "2"), ("c", eight, "8")):
        facts = {"model_set": models, "measurement": "estimated"}
        write_run(f"{name}", calls, (0.5,), target="gpu", **facts)
    (tmp_path / "runs" / "a").rename(tmp_path / "a")
    table = paper_beside(measured, aggregate(tmp_path / "runs"), 5)
    heads = ("measured (stand-in)", "not measured (stand-in)", "paper")
    assert list(table.columns)[:4] == ["row", *(f"COLT(2) {head}" for head in heads)]
    assert table.iloc[0].tolist()[:4] == ["FLUX convolution, gpt-5-mini", 250.0, 750.0, 813.0]
    assert table["COLT(8) measured"].isna().all() and table["COLT(8) not measured (stand-in)"].notna().any()


@pytest.mark.parametrize(("target", "largest", "number"), [("cpu", "llama-3.3-70b-instruct", 4), ("gpu", "gpt-5.2", 5)])
def test_other_experiments_meet_their_tables(
    write_run: WriteRun, tmp_path: Path, target: str, largest: str, number: int
) -> None:
    write_run("a", TWO, (0.5,), target=target, largest=largest)
    assert set(paper_comparison(aggregate(tmp_path / "runs"))["table"]) == {number}


def test_speedups_that_the_text_names_stand_beside_ours_at_as_many_samples(write_run: WriteRun, tmp_path: Path) -> None:
    for seed, last in ((0, 0.25), (1, 0.125)):
        write_run(f"a{seed}", TWO, (0.5, last), seed=seed, model_set="8", workload="flux_conv")
    (row,) = paper_speedups(aggregate(tmp_path / "runs")).to_dict("records")
    assert (row["figure"], row["paper samples"], row["our samples"]) == (2, 100, 2)
    assert [row[name] for name in ("paper", "ours", "difference")] == pytest.approx([3.83, 32**0.5, 32**0.5 - 3.83])
    assert (row["configuration"], row["measurement"]) == ("COLT (8, 2 models, stand-in)", "measured")


def test_columns_stand_in_the_order_of_the_sets_and_real_models_are_not_marked(
    write_run: WriteRun, tmp_path: Path
) -> None:
    four = {"gpt-5.2": (10, 4), "gpt-5-mini": (20, 0), "tiny": (10, 0)}
    for model_set, calls, backend in (("8", four, "embedded"), ("4", four, "openai"), ("2", TWO, "embedded")):
        write_run(model_set, calls, (0.5,), model_set=model_set, llm_backend=backend)
    heads = [head for head in paper_layout(aggregate(tmp_path / "runs"), 3).columns if " ours" in head]
    assert heads == ["COLT(2) ours (stand-in)", "COLT(4) ours", "COLT(8) ours (stand-in)"]
