"""The numbers behind the figures, and that equal numbers give equal files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from colt_pipeline.analysis.figures.curves import speedup_curves_data, speedup_curves_plot
from colt_pipeline.analysis.figures.drawing import STYLES, line_styles
from colt_pipeline.analysis.tidy import aggregate
from stages import aggregate as aggregate_stage
from stages import figures as figures_stage
from tests.analysis.conftest import WriteNoise, WriteRun

ONE = {"gpt-5-mini": (4, 0)}


@pytest.fixture
def data(runs_dir: Path) -> pd.DataFrame:
    return speedup_curves_data(aggregate(runs_dir))


def _curve(data: pd.DataFrame, workload: str, family: str) -> list[tuple[Any, ...]]:
    own = data[(data["workload"] == workload) & (data["family"] == family)]
    return list(zip(own["sample"], own["speedup"], strict=True))


def test_curves_are_best_so_far_from_the_first_valid_sample(data: pd.DataFrame) -> None:
    assert _curve(data, "my_kernel", "2") == [(1, 2.0), (2, 2.0), (3, 4.0)]
    assert _curve(data, "flux_conv", "2") == [(2, 1.0), (3, 2.0), (4, 16.0)], "sample 1 failed"
    monotone = data.groupby(["workload", "configuration"])["speedup"].apply(lambda x: x.is_monotonic_increasing)
    assert monotone.all()


def test_rows_stand_in_display_order(data: pd.DataFrame) -> None:
    assert list(dict.fromkeys(zip(data["workload"], data["configuration"], strict=True))) == [
        ("flux_conv", "gpt-5-mini (stand-in)"),
        ("flux_conv", "COLT (2 models)"),
        ("my_kernel", "COLT (2 models)"),
    ]


def test_seeds_are_averaged_only_where_all_have_a_value(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", ONE, (0.5, 0.25, 0.25, 0.125), model_set="small")
    write_run("b", ONE, (None, 0.5, 0.125), model_set="small", seed=1)
    data = speedup_curves_data(aggregate(tmp_path / "runs"))
    columns = ["sample", "speedup", "low", "high", "seeds"]
    assert data[columns].values.tolist() == [[2, 3.0, 2.0, 4.0, 2], [3, 6.0, 4.0, 8.0, 2]]


def test_files_are_identical_when_drawn_again_whatever_the_users_style(data: pd.DataFrame, tmp_path: Path) -> None:
    speedup_curves_plot(data, "Title", "stand-in LLMs", tmp_path / "one" / "curves")
    before = dict(mpl.rcParams)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None}):
        speedup_curves_plot(data, "Title", "stand-in LLMs", tmp_path / "two" / "curves")
    assert dict(mpl.rcParams) == before
    for suffix in ("png", "svg", "csv"):
        first = (tmp_path / "one" / f"curves.{suffix}").read_bytes()
        assert first == (tmp_path / "two" / f"curves.{suffix}").read_bytes()
        assert len(first) > 100


def test_stage_draws_caption_labels_and_titles(runs_dir: Path, tmp_path: Path) -> None:
    assert aggregate_stage.main(["--runs", str(runs_dir), "--out", str(tmp_path / "data")]) == 0
    assert figures_stage.main(["--data", str(tmp_path / "data"), "--out", str(tmp_path / "figures")]) == 0
    svg = (tmp_path / "figures" / "speedup_curves.svg").read_text()
    words = " ".join(re.sub("<[^>]+>", "", svg).split())  # a caption has several lines
    assert "stand-in LLMs, measured latency, search=paper with warmup_samples=16, 1 seed" in words
    assert svg.count(">COLT (2 models)<") == svg.count(">gpt-5-mini (stand-in)<") == 1, "one legend"
    assert ">FLUX convolution<" in svg and ">my_kernel<" in svg
    assert STYLES["2"][0] in svg and STYLES["8"][0] not in svg
    assert svg.count("font-family") == 1, "said once, or results/ would not hold the figures"


@pytest.mark.parametrize("panels", [1, 3, 4, 5])
def test_any_number_of_panels_can_be_drawn(write_run: WriteRun, tmp_path: Path, panels: int) -> None:
    for index in range(panels):
        write_run(str(index), ONE, (0.5, 0.25), model_set="mine", workload=f"kernel{index}")
    speedup_curves_plot(speedup_curves_data(aggregate(tmp_path / "runs")), "title", "key", tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    assert [f">kernel{index}<" in svg for index in range(6)] == [index < panels for index in range(6)]


def test_six_searches_without_a_colour_of_their_own_can_be_told_apart() -> None:
    names = [f"mine_{number}" for number in range(6)]
    styles = line_styles(pd.DataFrame({"configuration": names, "family": names}))
    assert len({(style["color"], style["marker"], tuple(style["dashes"])) for style in styles.values()}) == 6
    assert len({style["color"] for style in styles.values()}) == 6


def test_the_palette_keeps_the_colours_of_markers(data: pd.DataFrame, tmp_path: Path) -> None:
    speedup_curves_plot(data, "Title", "stand-in LLMs", tmp_path / "figure")
    with Image.open(tmp_path / "figure.png") as image:
        pixels = np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)
    for family in ("2", "small"):
        wanted = np.array(mpl.colors.to_rgb(STYLES[family][0])) * 255
        assert np.abs(pixels - wanted).max(axis=1).min() < 16


def test_nothing_valid_draws_no_panel(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", ONE, (None,), model_set="small")
    data = speedup_curves_data(aggregate(tmp_path / "runs"))
    speedup_curves_plot(data, "title", "key", tmp_path / "figure")
    assert data.empty and (tmp_path / "figure.png").exists()


def test_titles_and_caption_tell_the_noise_where_it_is_known(
    runs_dir: Path, write_noise: WriteNoise, tmp_path: Path
) -> None:
    write_noise((1.0, 1.5) * 10)
    data = speedup_curves_data(aggregate(runs_dir, tmp_path / "noise"))
    assert data.groupby("workload")["noise_floor"].first().dropna().to_dict() == {"flux_conv": 1.5}
    for name in ("one", "two"):
        speedup_curves_plot(data, "Title", "stand-in LLMs", tmp_path / name)
    svg = (tmp_path / "one.svg").read_text()
    assert ">FLUX convolution (noise ×1.50)<" in svg and ">my_kernel<" in svg
    assert "stand-in LLMs; noise: 95 % of pairs of measurements" in svg
    for suffix in ("png", "svg", "csv"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_estimates_and_unknown_noise_have_no_noise_in_the_figure(
    write_run: WriteRun, write_noise: WriteNoise, tmp_path: Path
) -> None:
    write_noise((1.0, 1.5) * 10)
    write_run("a", ONE, (0.5,), model_set="small", measurement="estimated")
    write_run("b", ONE, (0.5,), model_set="small", workload="my_kernel")
    data = speedup_curves_data(aggregate(tmp_path / "runs", tmp_path / "noise"))
    speedup_curves_plot(data, "title", "key", tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    assert ">caption<" in svg and "noise" not in svg
    assert ">FLUX convolution (not measured)<" in svg and ">my_kernel<" in svg and ">Measured samples<" in svg


def test_a_figure_of_estimates_only_has_no_measured_samples(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", ONE, (0.5,), model_set="small", measurement="estimated")
    speedup_curves_plot(speedup_curves_data(aggregate(tmp_path / "runs")), "title", "key", tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    assert ">FLUX convolution (not measured)<" in svg and ">Samples<" in svg


def test_a_long_title_has_its_noise_on_a_second_line(
    write_run: WriteRun, write_noise: WriteNoise, tmp_path: Path
) -> None:
    write_noise((1.0, 1.5) * 10, "llama3_8b_attention_core")
    write_run("a", ONE, (0.5,), model_set="small", workload="llama3_8b_attention_core")
    data = speedup_curves_data(aggregate(tmp_path / "runs", tmp_path / "noise"))
    speedup_curves_plot(data, "title", "key", tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    assert "llama3_8b_attention_core\n(noise" in svg or ">(noise ×1.50)<" in svg
