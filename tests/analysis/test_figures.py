"""Curves and dot plots: their numbers, what is drawn of them, and that equal numbers give equal files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from colt_pipeline.analysis.figures.catalogue import draw_figures
from colt_pipeline.analysis.figures.curves import (
    search_curves_data,
    search_curves_plot,
    speedup_curves_data,
    speedup_curves_plot,
    with_bands,
)
from colt_pipeline.analysis.figures.drawing import STYLES, line_styles
from colt_pipeline.analysis.figures.finals import final_data, final_plot
from colt_pipeline.analysis.figures.pareto import pareto_data, pareto_plot
from colt_pipeline.analysis.figures.ranks import rank_data, rank_plot
from colt_pipeline.analysis.index import read_index
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
    assert _curve(data, "flux_conv", "2") == [(2, 1.0), (3, 2.0), (4, pytest.approx(16.0))], "sample 1 failed"
    monotone = data.groupby(["workload", "configuration"])["speedup"].apply(lambda x: x.is_monotonic_increasing)
    assert monotone.all()


def test_rows_stand_in_display_order(data: pd.DataFrame) -> None:
    assert list(dict.fromkeys(zip(data["workload"], data["configuration"], strict=True))) == [
        ("flux_conv", "gpt-5-mini (stand-in)"),
        ("flux_conv", "COLT (2 models, stand-in)"),
        ("my_kernel", "COLT (2 models, stand-in)"),
    ]


def test_seeds_are_averaged_only_where_all_have_a_value(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", ONE, (0.5, 0.25, 0.25, 0.125), model_set="small")
    write_run("b", ONE, (None, 0.5, 0.125), model_set="small", seed=1)
    data = speedup_curves_data(aggregate(tmp_path / "runs"))
    rows = data[["sample", "speedup", "seeds"]].to_numpy().tolist()
    assert rows == [pytest.approx(row) for row in ([2, 8**0.5, 2], [3, 32**0.5, 2])]
    assert data[["low", "high"]].isna().all(axis=None), "two seeds have no interval"


def _write_seeds(write_run: WriteRun, finals: dict[str, tuple[float, ...]], workload: str = "flux_conv") -> None:
    """Runs of one sample: per model set, the latency with each seed."""
    for model_set, latencies in finals.items():
        for seed, secs in enumerate(latencies):
            name = f"{workload}-{model_set}-{seed}"
            write_run(name, ONE, (secs,), model_set=model_set, workload=workload, seed=seed)


def test_lines_have_bands_only_where_these_tell_them_apart(write_run: WriteRun, tmp_path: Path) -> None:
    noisy, near = (0.5, 0.25, 0.125), (0.4, 0.2, 0.1)
    _write_seeds(write_run, {"small": noisy, "large": near, "mine": (0.010, 0.0101, 0.0102)})
    _write_seeds(write_run, {"small": noisy, "large": near}, "my_kernel")
    data = speedup_curves_data(aggregate(tmp_path / "runs"))
    bands = data.groupby(["workload", "configuration"])["band"].all().groupby("workload").agg(list).to_dict()
    assert bands == {"flux_conv": [True] * 3, "my_kernel": [False] * 2}
    one = data[data["workload"] == "my_kernel"]
    for name, own in (("bands", data), ("lines", one)):
        speedup_curves_plot(own, "title", "key", tmp_path / name)
        said = "bands, where lines end apart" in (tmp_path / f"{name}.svg").read_text()
        assert said == (name == "bands"), "the legend says what is drawn"


@pytest.mark.parametrize(
    ("third", "drawn"),
    [((8.5, 9.5), True), ((1.5, 9.0), False), ((np.nan, np.nan), False)],
    ids=["apart from the slow one", "overlaps both", "unknown"],
)
def test_no_band_where_one_would_tell_nothing_apart(third: tuple[float, float], drawn: bool) -> None:
    lines = {"slow": (1.0, 2.0), "fast": (8.0, 9.0), "third": third}
    rows = [("w", name, sample, *ends) for name, ends in lines.items() for sample in (1, 2)]
    data = pd.DataFrame(rows, columns=["workload", "configuration", "sample", "low", "high"])
    assert with_bands(data)["band"].eq(drawn).all()


def test_a_dot_plot_has_means_intervals_and_every_seeds_own_value(write_run: WriteRun, tmp_path: Path) -> None:
    for workload, factor in (("flux_conv", 1.0), ("my_kernel", 0.25)):
        _write_seeds(write_run, {"small": (0.5 * factor, 0.125 * factor), "large": (0.25, 0.25)}, workload)
    data = final_data(aggregate(tmp_path / "runs"))
    assert list(data["workload"].unique()) == ["Geometric mean", "FLUX convolution", "my_kernel"]
    small = data[data["family"] == "small"]
    means = small[small["seed"].isna()].set_index("workload")
    assert means["value"].tolist() == pytest.approx([8, 4, 16])
    low, high = means.loc["Geometric mean", ["low", "high"]].to_numpy(dtype=float)
    assert low < 8 < high and low * high == pytest.approx(64), "an interval of the logarithm"
    assert means.loc[["FLUX convolution", "my_kernel"], "low"].isna().all(), "two seeds are points"
    seeds = small.dropna(subset="seed").groupby("workload")["value"].agg(list)
    assert seeds.to_dict() == {
        "Geometric mean": pytest.approx([4, 16]),
        "FLUX convolution": pytest.approx([2, 8]),
        "my_kernel": pytest.approx([8, 32]),
    }
    final_plot(data, "title", "key", tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    assert svg.count("gpt-5-mini") == 2, "rows are labelled once, and no legend repeats them"
    assert ">one seed<" in svg and ">95 % interval, if known<" in svg


def test_one_seed_has_no_dot_plot_and_a_mean_lacks_what_a_workload_lacks(write_run: WriteRun, tmp_path: Path) -> None:
    _write_seeds(write_run, {"small": (0.5,), "large": (0.5,)})
    assert final_data(aggregate(tmp_path / "runs")).empty
    _write_seeds(write_run, {"small": (0.5, 0.25), "large": (0.5, 0.25)}, "my_kernel")
    data = final_data(aggregate(tmp_path / "runs"))
    assert data[data["workload"] == "Geometric mean"]["seed"].dropna().unique().tolist() == [0]


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
    title = "Best speedup so far"
    key = "stand-in LLMs · measured latency · cpu-2-cores · TVM's space · 1 seed · 2 to 4 samples · warm-up 16"
    assert f">{title}<" in svg and f">{key}<" in svg
    (entry, *_) = read_index(tmp_path / "figures", "command")
    assert (entry.title, entry.key) == (title, key) and entry.caption.split(".")[0] not in svg
    assert svg.count(">COLT (2 models, stand-in)<") == svg.count(">gpt-5-mini (stand-in)<") == 1, "one legend"
    assert ">FLUX convolution<" in svg and ">my_kernel<" in svg
    assert STYLES["2"][0] in svg and STYLES["8"][0] not in svg
    assert svg.count("font-family") == 1, "said once, or results/ would not hold the figures"


@pytest.mark.parametrize(
    ("largest", "target", "number"),
    [("gpt-5.2", "cpu", 2), ("llama-3.3-70b-instruct", "cpu", 3), ("gpt-5.2", "gpu", 4)],
)
def test_curves_name_the_figure_of_the_paper_that_they_repeat(
    write_run: WriteRun, tmp_path: Path, largest: str, target: str, number: int
) -> None:
    for model_set in ("small", "large"):
        write_run(model_set, ONE, (0.5,), model_set=model_set, largest=largest, target=target)
    draw_figures(aggregate(tmp_path / "runs"), tmp_path / "figures")
    titles = {entry.name: entry.title for entry in read_index(tmp_path / "figures", "command")}
    assert titles["speedup_curves"] == f"Figure {number} of the paper, repeated: best speedup so far"
    assert "final_speedups" not in titles and "ranks" not in titles, "one seed"


@pytest.mark.parametrize("panels", [1, 3, 4, 5])
def test_any_number_of_panels_can_be_drawn(write_run: WriteRun, tmp_path: Path, panels: int) -> None:
    for index in range(panels):
        write_run(str(index), ONE, (0.5, 0.25), model_set="mine", workload=f"kernel{index}")
    speedup_curves_plot(speedup_curves_data(aggregate(tmp_path / "runs")), "title", "key", tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    assert [f">kernel{index}<" in svg for index in range(6)] == [index < panels for index in range(6)]


def _margins(path: Path) -> np.ndarray[Any, Any]:
    """The outermost pixels of an image."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("L"))
    return np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])


def test_long_names_and_keys_are_wrapped_not_cut(write_run: WriteRun, tmp_path: Path) -> None:
    searches = ("colt_plus", "no_course_alteration", "random_course_alteration", "router_round_robin")
    for search in searches:
        for seed in (0, 1, 2):
            write_run(f"{search}{seed}", ONE, (0.5 / (seed + 1),), search=search, seed=seed)
    tidy = aggregate(tmp_path / "runs")
    key = " · ".join(f"condition {number} of the runs" for number in range(12))
    for name, data, plot in (
        ("curves", search_curves_data(tidy), search_curves_plot),
        ("finals", final_data(tidy), final_plot),
        ("ranks", rank_data(tidy), rank_plot),
        ("costs", pareto_data(tidy), pareto_plot),
    ):
        plot(data, "A title", key, tmp_path / name)
        assert _margins(tmp_path / f"{name}.png").min() > 250, f"{name} is cut"
        svg = (tmp_path / f"{name}.svg").read_text()
        lines = re.findall(r">(condition [^<]*)<", svg)
        assert " · ".join(lines) == key and 1 < len(lines) < 4, "lines end between two conditions"


def test_a_model_set_and_a_search_of_one_colour_can_be_told_apart() -> None:
    styles = line_styles(pd.DataFrame({"configuration": ["one", "two"], "family": ["colt_plus", "8"]}))
    assert styles["one"]["color"] == styles["two"]["color"]
    assert styles["one"]["markerfacecolor"] != styles["two"]["markerfacecolor"]


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


def test_panels_tell_the_noise_where_it_is_known(runs_dir: Path, write_noise: WriteNoise, tmp_path: Path) -> None:
    write_noise((1.0, 1.5) * 10)
    data = speedup_curves_data(aggregate(runs_dir, tmp_path / "noise"))
    assert data.groupby("workload")["noise_floor"].first().dropna().to_dict() == {"flux_conv": 1.5}
    for name in ("one", "two"):
        speedup_curves_plot(data, "Title", "stand-in LLMs", tmp_path / name)
    svg = (tmp_path / "one.svg").read_text()
    assert ">FLUX convolution (noise ×1.50)<" in svg and ">my_kernel<" in svg
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
    assert "noise" not in svg
    assert ">FLUX convolution (not measured)<" in svg and ">my_kernel<" in svg and ">Measured samples<" in svg
    assert ">Partly estimated speedup over<" in svg


def test_a_figure_of_estimates_only_has_no_measured_samples(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", ONE, (0.5,), model_set="small", measurement="estimated")
    speedup_curves_plot(speedup_curves_data(aggregate(tmp_path / "runs")), "title", "key", tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    assert ">FLUX convolution (not measured)<" in svg and ">Samples<" in svg
    assert ">Estimated speedup over<" in svg


def test_a_long_title_has_its_noise_on_a_second_line(
    write_run: WriteRun, write_noise: WriteNoise, tmp_path: Path
) -> None:
    write_noise((1.0, 1.5) * 10, "llama3_8b_attention_core")
    write_run("a", ONE, (0.5,), model_set="small", workload="llama3_8b_attention_core")
    data = speedup_curves_data(aggregate(tmp_path / "runs", tmp_path / "noise"))
    speedup_curves_plot(data, "title", "key", tmp_path / "figure")
    svg = (tmp_path / "figure.svg").read_text()
    assert "llama3_8b_attention_core\n(noise" in svg or ">(noise ×1.50)<" in svg
