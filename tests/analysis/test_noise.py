"""The noise of a device: statistics of distributions with known quantiles, and rejected files."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd
import pytest

from colt_pipeline.analysis.noise import (
    MIN_MEASUREMENTS,
    NOISE_COLUMNS,
    comparison_floor,
    mean_floor,
    noise_floor,
    noise_statistics,
    read_noise,
)
from colt_pipeline.analysis.tidy import aggregate, read_tidy, write_tidy
from colt_pipeline.errors import ConfigError, JournalError
from tests.analysis.conftest import WriteNoise

TWICE = (1.0, 2.0) * 10
"""Of 190 pairs 100 differ by a factor of 2, so that is the floor."""


def _lognormal(median: float, sigma: float, count: int) -> list[float]:
    """The quantiles at the midpoints of `count` equal shares, in arbitrary order."""
    values = [median * math.exp(sigma * NormalDist().inv_cdf((index + 0.5) / count)) for index in range(count)]
    return list(np.random.default_rng(0).permutation(values))


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.4])
def test_the_floor_is_the_95th_percentile_of_pairs(sigma: float) -> None:
    floor = noise_floor(_lognormal(3e-3, sigma, 1000))
    assert math.log(floor) == pytest.approx(1.96 * math.sqrt(2) * sigma, rel=0.01)


def test_spreads_of_a_known_distribution() -> None:
    runs = _lognormal(1.0, 0.1, 1000)
    found = noise_statistics([list(np.multiply(latency, runs)) for latency in _lognormal(2e-3, 0.2, 1000)])
    assert found["median_secs"] == pytest.approx(2e-3, rel=1e-3)
    assert found["spread_within"] == pytest.approx(math.exp(0.0674490) - math.exp(-0.0674490), rel=0.01)
    assert found["spread_between"] == pytest.approx(math.exp(0.328971) - math.exp(-0.328971), rel=0.01)


def test_the_floor_does_not_depend_on_the_unit_and_is_1_without_noise() -> None:
    latencies = _lognormal(1.0, 0.3, 20)
    assert noise_floor([1e3 * secs for secs in latencies]) == pytest.approx(noise_floor(latencies))
    assert noise_floor([0.5] * MIN_MEASUREMENTS) == 1


def test_too_few_measurements_have_no_floor_but_their_row(write_noise: WriteNoise, tmp_path: Path) -> None:
    write_noise([*TWICE[: MIN_MEASUREMENTS - 1], None, None])
    row = read_noise(tmp_path / "noise").iloc[0]
    assert (row["measurements"], row["errors"], row["median_secs"]) == (7, 2, 1.0)
    assert math.isnan(row["floor"]) and row["spread_between"] == pytest.approx(1.0)
    write_noise(TWICE[:MIN_MEASUREMENTS])
    assert read_noise(tmp_path / "noise")["floor"].tolist() == [2.0]


def test_one_row_per_device_and_workload(write_noise: WriteNoise, tmp_path: Path) -> None:
    write_noise([1.0, *TWICE, None], "flux_conv", "b")
    write_noise(TWICE, "my_kernel", "a")
    frame = read_noise(tmp_path / "noise")
    assert tuple(frame.columns) == NOISE_COLUMNS
    assert frame[["device", "workload"]].values.tolist() == [["a", "my_kernel"], ["b", "flux_conv"]]
    row = frame.iloc[1]
    assert (row["program"], row["measurements"], row["errors"], row["minutes"]) == ("12e456", 21, 1, 40.0)
    assert row["spread_within"] == pytest.approx(0.1)


@pytest.mark.parametrize("latencies", [(), (None,)])
def test_nothing_measured_is_nothing_known(
    write_noise: WriteNoise, tmp_path: Path, latencies: tuple[float | None, ...]
) -> None:
    write_noise(latencies)
    row = read_noise(tmp_path / "noise").iloc[0]
    assert row["measurements"] == 0 and row["errors"] == len(latencies)
    assert all(math.isnan(row[name]) for name in ("minutes", "median_secs", "spread_within", "spread_between", "floor"))


def test_only_the_noise_of_the_runs_is_kept_and_files_give_it_back(
    runs_dir: Path, write_noise: WriteNoise, tmp_path: Path
) -> None:
    write_noise(TWICE)
    write_noise(TWICE, "flux_attention")
    write_noise(TWICE, device="gpu")
    tidy = aggregate(runs_dir, tmp_path / "noise")
    assert tidy.noise[["device", "workload", "floor"]].values.tolist() == [["cpu-2-cores", "flux_conv", 2.0]]
    assert tidy.noise["program"].tolist() == ["12e456"], "a digest that looks like a number must stay a text"
    write_tidy(tidy, tmp_path / "data")
    pd.testing.assert_frame_equal(read_tidy(tmp_path / "data").noise, tidy.noise)


@pytest.mark.parametrize("given", [False, True])
def test_no_recorded_noise_is_an_empty_frame(runs_dir: Path, tmp_path: Path, given: bool) -> None:
    (tmp_path / "noise").mkdir()
    tidy = aggregate(runs_dir, tmp_path / "noise" if given else None)
    assert tidy.noise.empty and tuple(tidy.noise.columns) == NOISE_COLUMNS
    write_tidy(tidy, tmp_path / "data")
    assert (tmp_path / "data" / "noise.csv").read_text() == ",".join(NOISE_COLUMNS) + "\n"
    pd.testing.assert_frame_equal(read_tidy(tmp_path / "data").noise, tidy.noise)


def test_a_mistyped_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="recodrings is not a directory"):
        read_noise(tmp_path / "recodrings")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"schema": 2}, "schema is 2, not 1"),
        ({"workload": "flux_attention"}, "workload is 'flux_attention', not 'flux_conv'"),
        ({"measurement": "estimated"}, "measurement is 'estimated', not 'measured'"),
    ],
)
def test_a_wrong_header_is_named(write_noise: WriteNoise, tmp_path: Path, header: dict[str, Any], message: str) -> None:
    write_noise(TWICE, header=header)
    with pytest.raises(ConfigError, match=rf"flux_conv.jsonl, line 1: .*{message}"):
        read_noise(tmp_path / "noise")


def test_an_empty_file_has_no_header(write_noise: WriteNoise, tmp_path: Path) -> None:
    write_noise(TWICE).write_text("")
    with pytest.raises(ConfigError, match=r"flux_conv.jsonl, line 1: .*schema is None"):
        read_noise(tmp_path / "noise")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"program": "12e456", "elapsed_secs": 1.0, "error": null}', "object missing required field `run_secs`"),
        (
            '{"program": "other", "elapsed_secs": 1.0, "run_secs": [1.0], "error": null}',
            "program other differs from line 2",
        ),
        ('{"program": 7, "elapsed_secs": 1.0, "run_secs": [1.0], "error": null}', "program: expected `str`"),
        (
            '{"program": "12e456", "elapsed_secs": "1", "run_secs": [1.0], "error": null}',
            "elapsed_secs: expected `float`",
        ),
        ('{"program": "12e456", "elapsed_secs": 1.0, "run_secs": [], "error": null}', "run_secs"),
        ('{"program": "12e456", "elapsed_secs": 1.0, "run_secs": [1.0, 0], "error": null}', "run_secs"),
        ('{"program": "12e456", "elapsed_secs": 1.0, "run_secs": [1e400], "error": null}', "run_secs"),
        ('{"program": "12e456", "elapsed_secs": 1.0, "run_secs": 2, "error": null}', "run_secs"),
    ],
)
def test_a_broken_line_is_named(write_noise: WriteNoise, tmp_path: Path, line: str, message: str) -> None:
    path = write_noise((1.0, 1.0))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ConfigError, match=rf"flux_conv.jsonl, line 4: {message}"):
        read_noise(tmp_path / "noise")


def test_a_line_that_a_kill_cut_off_is_named(write_noise: WriteNoise, tmp_path: Path) -> None:
    path = write_noise((1.0, 1.0))
    path.write_text(path.read_text()[:-10])
    with pytest.raises(JournalError, match=r"flux_conv.jsonl, line 3: not valid JSON"):
        read_noise(tmp_path / "noise")


@pytest.mark.parametrize(
    ("runs", "floor"),
    [
        ([("a", "measured"), ("a", "measured")], 1.5),
        ([("b", "measured")], math.nan),  # none recorded
        ([("c", "measured")], math.nan),  # too little recorded
        ([("a", "measured"), ("b", "measured")], math.nan),  # two devices
        ([("a", "measured"), ("a", "estimated")], math.nan),
        ([("b", "estimated")], 1.0),
        ([], math.nan),
    ],
)
def test_a_floor_is_known_for_one_device_and_one_kind_of_latency(runs: list[tuple[str, str]], floor: float) -> None:
    noise = pd.DataFrame({"device": ["a", "c"], "workload": "w", "floor": [1.5, math.nan]})
    frame = pd.DataFrame([(device, "w", kind) for device, kind in runs], columns=["device", "workload", "measurement"])
    assert comparison_floor(frame, noise) == pytest.approx(floor, nan_ok=True)


def test_a_mean_varies_less_than_its_parts() -> None:
    assert mean_floor([1.6]) == pytest.approx(1.6)
    assert mean_floor([1.6] * 15) == pytest.approx(math.exp(math.log(1.6) / math.sqrt(15)))
    assert mean_floor([1.6, 1.0]) == pytest.approx(math.exp(math.log(1.6) / 2)), "only one of the two varies"
    assert math.isnan(mean_floor([1.6, math.nan])) and math.isnan(mean_floor([]))


def test_the_floor_of_a_mean_holds_for_means_of_pairs() -> None:
    """Of means over n pairs of measurements of one program, 95 % differ by less."""
    rng = np.random.default_rng(2)
    floor = noise_floor(np.exp(rng.normal(scale=0.17, size=400)).tolist())
    for pairs in (1, 3, 15):
        logs = (rng.normal(scale=0.17, size=(20000, pairs, 2)) @ [1, -1]).mean(axis=1)
        assert np.mean(np.exp(np.abs(logs)) < mean_floor([floor] * pairs)) == pytest.approx(0.95, abs=0.015)
