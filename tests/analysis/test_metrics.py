"""What DVC compares, computed by hand; the unoptimized program takes 1 s, so speedup is 1 / latency."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from colt_pipeline.analysis.metrics import curves, metrics_of, short_names
from colt_pipeline.analysis.tidy import Tidy, aggregate, write_tidy
from stages import tables
from tests.analysis.conftest import WriteRun

TWO = {"gpt-5.2": (10, 4), "gpt-5-mini": (30, 0)}


@pytest.fixture
def tidy(write_run: WriteRun, tmp_path: Path) -> Tidy:
    """A set of two models, with two seeds on one workload and one on another, and a set of one model."""
    write_run("a", TWO, (None, 0.5, 0.25), workload="flux_conv")
    write_run("b", TWO, (0.5, 0.5, 0.0625), workload="flux_conv", seed=1)
    write_run("c", TWO, (1.0, 0.5, 0.5), workload="my_kernel")
    write_run("d", {"gpt-5-mini": (20, 0)}, (0.5, 0.5, 0.5), workload="flux_conv", model_set="small")
    return aggregate(tmp_path / "runs")


def test_each_configuration_has_its_numbers(tidy: Tidy) -> None:
    found = metrics_of(tidy)
    assert found == {
        "2": {
            "llm": "stand-in LLMs",
            "latency": "measured",
            "device": "cpu-2-cores",
            "seeds": 2,
            "samples": 3,
            # flux_conv: sqrt(4 x 16), my_kernel: 2; over both sqrt(8 x 2)
            "speedup": {"geomean": pytest.approx(4), "flux_conv": pytest.approx(8), "my_kernel": pytest.approx(2)},
            "calls": 3 * 44,
            "largest_percent": 25.0,
            "alterations_per_call_percent": pytest.approx(100 * 4 / 30, rel=1e-5),
        },
        "small": {
            "llm": "stand-in LLMs",
            "latency": "measured",
            "device": "cpu-2-cores",
            "seeds": 1,
            "samples": 3,
            "speedup": {"flux_conv": 2.0},  # a mean over fewer workloads would not be comparable
            "calls": 20,
        },
    }


def test_a_search_without_llm_and_an_estimate_are_called_so(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,), search="colt_plus", measurement="estimated")
    write_run("b", {"gpt-5.2": (3, 0)}, (0.5,), search="random_proposer", llm_backend="random", measurement="estimated")
    found = metrics_of(aggregate(tmp_path / "runs"))
    assert {name: own["llm"] for name, own in found.items()} == {
        "colt_plus": "stand-in LLMs",
        "random_proposer": "random answers",
    }
    assert {own["latency"] for own in found.values()} == {"estimated"}


def test_curves_are_geometric_means_and_say_who_answered(tidy: Tidy) -> None:
    data = curves(tidy)
    label = "COLT (2 models, stand-in): stand-in LLMs, measured latency"
    assert set(data["configuration"]) == {label}, "the other has no runs of one workload"
    assert data["sample"].tolist() == [2, 3], "at the first sample one run has no valid program"
    assert data["speedup"].tolist() == pytest.approx([2, 4])


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([("colt_plus", "8", "a")], ["colt_plus"]),
        ([("colt_plus", "8", "a"), ("colt_plus", "2", "a")], ["8", "2"]),
        ([("colt_plus", "8", "a"), ("single", "large", "a")], ["colt_plus", "single"]),
        (
            [("colt_plus", "8", "a"), ("colt_plus", "8", "b"), ("paper", "8", "b")],
            ["colt_plus-a", "colt_plus-b", "paper-b"],
        ),
    ],
)
def test_names_are_as_short_as_they_can_be(rows: list[tuple[str, ...]], names: list[str]) -> None:
    columns = ("search", "model_set", "largest")
    assert short_names(pd.DataFrame(rows, columns=list(columns)), columns) == names


def test_the_stage_writes_a_file_per_configuration_and_one_of_curves(tidy: Tidy, tmp_path: Path) -> None:
    write_tidy(tidy, tmp_path / "data")
    where = ["--metrics", str(tmp_path / "metrics"), "--plot", str(tmp_path / "plots" / "x.csv")]
    assert tables.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "tables"), *where]) == 0
    written = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "metrics").iterdir()}
    assert written == metrics_of(tidy)
    assert (tmp_path / "plots" / "x.csv").read_text().splitlines()[:2] == [
        "configuration,sample,speedup",
        '"COLT (2 models, stand-in): stand-in LLMs, measured latency",2,2',
    ]
