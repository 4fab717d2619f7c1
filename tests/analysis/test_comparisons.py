"""A difference below the noise floor, or without a known floor, never counts as an improvement."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from colt_pipeline.analysis.tables.comparisons import comparisons, verdict
from colt_pipeline.analysis.tidy import aggregate
from stages import aggregate as aggregate_stage
from stages import tables as tables_stage
from tests.analysis.conftest import WriteNoise, WriteRun

LARGE = {"gpt-5.2": (4, 0)}
SMALL = {"gpt-5-mini": (4, 0)}
TWO = {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}
TWICE = (1.0, 2.0) * 10  # a floor of 2


Compare = Callable[[], dict[str, dict[Any, Any]]]


@pytest.fixture
def compare(tmp_path: Path) -> Compare:
    """`comparisons` of the runs and recordings written so far: label -> row."""

    def compare() -> dict[str, dict[Any, Any]]:
        recordings = tmp_path / "noise"
        recordings.mkdir(exist_ok=True)
        table = comparisons(aggregate(tmp_path / "runs", recordings))
        return {row["configuration"]: row for row in table.to_dict("records")}

    return compare


@pytest.mark.parametrize(
    ("ratio", "floor", "expected"),
    [
        (1.5, 1.4, "faster"),
        (1.4, 1.4, "within noise"),
        (1 / 1.4, 1.4, "within noise"),
        (1 / 1.5, 1.4, "slower"),
        (1e6, math.nan, "noise unknown"),
        (1.001, 1.0, "faster"),
        (0.999, 1.0, "slower"),
        (1.0, 1.0, "equal"),
        (math.nan, 1.4, None),
        (math.nan, math.nan, None),
    ],
)
def test_verdicts(ratio: float, floor: float, expected: str) -> None:
    assert verdict(ratio, floor) == expected


def test_a_row_by_hand(write_run: WriteRun, write_noise: WriteNoise, compare: Compare) -> None:
    write_noise(TWICE)
    write_run("a", LARGE, (0.5, 0.1), model_set="large")
    write_run("b", TWO, (0.04,))
    write_run("c", SMALL, (0.06,), model_set="small")
    rows = compare()
    assert rows["COLT (2 models)"] == {
        "workload": "FLUX convolution",
        "configuration": "COLT (2 models)",
        "measurement": "measured",
        "latency (ms)": pytest.approx(40.0),
        "reference": "gpt-5.2 (stand-in)",
        "ratio": pytest.approx(2.5),
        "noise floor": 2.0,
        "verdict": "faster",
    }
    assert rows["gpt-5-mini (stand-in)"]["verdict"] == "within noise", "a ratio of 1.67 is below the floor of 2"
    assert (rows["gpt-5.2 (stand-in)"]["ratio"], rows["gpt-5.2 (stand-in)"]["verdict"]) == (1.0, "reference")


def test_without_recorded_noise_no_difference_counts(
    write_run: WriteRun, write_noise: WriteNoise, compare: Compare
) -> None:
    write_noise(TWICE, device="another-machine")
    write_run("a", LARGE, (0.1,), model_set="large")
    write_run("b", TWO, (1e-6,))
    assert compare()["COLT (2 models)"]["verdict"] == "noise unknown"


def test_estimates_have_no_noise_and_say_that_they_are_estimates(
    write_run: WriteRun, write_noise: WriteNoise, compare: Compare
) -> None:
    write_noise(TWICE)
    write_run("a", LARGE, (0.1,), model_set="large", measurement="estimated")
    write_run("b", TWO, (0.099,), measurement="estimated")
    write_run("c", SMALL, (0.1,), model_set="small", measurement="estimated")
    rows = compare()
    assert [row["verdict"] for row in rows.values()] == ["equal", "reference", "faster"]
    assert {row["measurement"] for row in rows.values()} == {"estimated (not measured)"}
    assert {row["noise floor"] for row in rows.values()} == {1.0}


def test_an_estimate_is_not_compared_with_a_measurement_nor_devices_with_each_other(
    write_run: WriteRun, write_noise: WriteNoise, compare: Compare
) -> None:
    write_noise(TWICE)
    write_noise(TWICE, device="other")
    write_run("a", LARGE, (0.1,), model_set="large")
    write_run("b", TWO, (0.001,), measurement="estimated")
    write_run("c", SMALL, (0.001,), model_set="small", device="other")
    assert [row["verdict"] for row in compare().values()] == ["noise unknown", "reference", "noise unknown"]


def test_only_common_seeds_are_compared(write_run: WriteRun, write_noise: WriteNoise, compare: Compare) -> None:
    write_noise(TWICE)
    write_run("a0", LARGE, (0.3,), model_set="large")
    write_run("a1", LARGE, (0.1,), model_set="large", seed=1)
    write_run("b1", TWO, (0.05,), seed=1)
    write_run("b2", TWO, (0.01,), seed=2)
    write_run("c2", SMALL, (0.01,), model_set="small", seed=2)
    rows = compare()
    assert rows["COLT (2 models)"]["ratio"] == pytest.approx(2.0), "0.1 / 0.05, seed 1"
    assert rows["COLT (2 models)"]["latency (ms)"] == pytest.approx(30.0), "the mean of its own seeds"
    assert math.isnan(rows["gpt-5-mini (stand-in)"]["ratio"])
    assert pd.isna(rows["gpt-5-mini (stand-in)"]["verdict"])


def test_a_seed_that_found_nothing_leaves_no_verdict(
    write_run: WriteRun, write_noise: WriteNoise, compare: Compare
) -> None:
    write_noise(TWICE)
    write_run("a", LARGE, (0.1,), model_set="large")
    write_run("b", TWO, (0.001,))
    write_run("c", TWO, (None,), seed=1)
    write_run("d", LARGE, (0.1,), model_set="large", seed=1)
    row = compare()["COLT (2 models)"]
    assert math.isnan(row["latency (ms)"]) and pd.isna(row["verdict"])


def test_the_reference_is_the_large_model_of_the_same_search(write_run: WriteRun, compare: Compare) -> None:
    write_run("a", LARGE, (0.1,), model_set="large", search="colt")
    write_run("b", LARGE, (0.2,), model_set="large")
    write_run("c", TWO, (0.1,))
    write_run("d", TWO, (0.1,), search="colt")
    rows = compare()
    assert rows["COLT (2 models), search=paper"]["reference"] == "gpt-5.2 (stand-in), search=paper"
    assert rows["COLT (2 models), search=colt"]["reference"] == "gpt-5.2 (stand-in), search=colt"


def test_without_a_large_model_the_first_configuration_of_the_target_is_the_reference(
    write_run: WriteRun, compare: Compare
) -> None:
    write_run("a", TWO, (0.1,))
    write_run("b", SMALL, (0.2,), model_set="small")
    write_run("c", TWO, (0.1,), target="gpu")
    rows = compare()
    assert {label: row["reference"] for label, row in rows.items()} == {
        "gpt-5-mini (stand-in), target=cpu": "gpt-5-mini (stand-in), target=cpu",
        "COLT (2 models), target=cpu": "gpt-5-mini (stand-in), target=cpu",
        "COLT (2 models), target=gpu": "COLT (2 models), target=gpu",
    }


def test_a_workload_that_the_reference_has_not_run_has_no_ratio(write_run: WriteRun, compare: Compare) -> None:
    write_run("a", LARGE, (0.1,), model_set="large", workload="my_kernel")
    write_run("b", TWO, (0.1,))
    row = compare()["COLT (2 models)"]
    assert math.isnan(row["ratio"]) and pd.isna(row["verdict"]) and row["reference"] == "gpt-5.2 (stand-in)"


def test_stages_carry_the_noise_into_the_table(write_run: WriteRun, write_noise: WriteNoise, tmp_path: Path) -> None:
    write_noise(TWICE)
    write_run("a", LARGE, (0.1,), model_set="large")
    write_run("b", TWO, (0.04,))
    runs, noise, data, out = (str(tmp_path / name) for name in ("runs", "noise", "data", "tables"))
    assert aggregate_stage.main(["--runs", runs, "--noise", noise, "--out", data]) == 0
    assert tables_stage.main(["--data", data, "--out", out]) == 0
    assert (tmp_path / "tables" / "comparisons.csv").read_text().splitlines()[2] == (
        "FLUX convolution,COLT (2 models),measured,40,gpt-5.2 (stand-in),2.5,2,faster"
    )
    latex = (tmp_path / "tables" / "tables.tex").read_text()
    assert r"95 \% of pairs of measurements" in latex and r"\begin{tabular}{lllrlrrl}" in latex


def test_a_mistyped_noise_directory_is_a_message(
    runs_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--runs", str(runs_dir), "--noise", str(tmp_path / "gone"), "--out", str(tmp_path / "data")]
    assert aggregate_stage.main(arguments) == 1
    assert "gone is not a directory" in capsys.readouterr().err
