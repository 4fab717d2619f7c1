"""aggregate(): what it collects, and what it rejects."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from colt_pipeline.analysis.compared import key
from colt_pipeline.analysis.labels import configurations, display_order, samples_are_calls, search_title
from colt_pipeline.analysis.tidy import IDS, aggregate, read_tidy, write_tidy
from colt_pipeline.errors import ConfigError, RunDirError
from stages import aggregate as aggregate_stage
from tests.analysis.conftest import WriteRun
from tests.support import ROOT

TWO = {"gpt-5.2": (1, 0), "gpt-5-mini": (3, 0)}
ONE = {"gpt-5-mini": (4, 0)}


def test_collects_nested_runs_in_order_of_their_names(runs_dir: Path) -> None:
    tidy = aggregate(runs_dir)
    assert list(tidy.runs["run"]) == ["a", "b/c", "d"]
    assert list(tidy.curves.columns[: len(IDS)]) == list(tidy.calls.columns[: len(IDS)]) == list(IDS)
    assert len(tidy.curves) == 3 + 4 + 2
    assert len(tidy.calls) == 5


def test_keeps_scalars_and_their_types(runs_dir: Path) -> None:
    runs = aggregate(runs_dir).runs
    assert list(runs["model_set"]) == ["2", "2", "small"]
    assert set(runs["best_program"]) == {"12e456"}, "a digest that looks like a number must stay a text"
    assert list(runs["speedup"]) == [4.0, 16.0, 4.0]
    assert "rejections" not in runs


def test_a_kind_of_rejection_that_a_run_does_not_list_counts_zero(runs_dir: Path) -> None:
    calls = aggregate(runs_dir).calls
    assert list(calls["truncated"]) == [0, 0, 3, 3, 0]
    assert list(calls.columns[-12:-9]) == ["truncated", "prompt_tokens", "completion_tokens"]
    assert calls["usd"].isna().all(), "nothing is paid for a stand-in"


def test_files_give_back_the_same_frames_and_bytes(runs_dir: Path, tmp_path: Path) -> None:
    tidy = aggregate(runs_dir)
    write_tidy(tidy, tmp_path / "one")
    again = read_tidy(tmp_path / "one")
    write_tidy(again, tmp_path / "two")
    for name in ("runs", "curves", "calls", "turns", "noise"):
        pd.testing.assert_frame_equal(getattr(tidy, name), getattr(again, name))
        data = (tmp_path / "one" / f"{name}.csv").read_bytes()
        assert data == (tmp_path / "two" / f"{name}.csv").read_bytes()
        assert b"\r" not in data


def test_nothing_valid_is_a_missing_value_not_a_number(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("failed", TWO, (None, None))
    tidy = aggregate(tmp_path / "runs")
    assert tidy.runs["speedup"].isna().all() and tidy.runs["speedup"].dtype == "float64"
    assert tidy.curves["best_secs"].isna().all() and list(tidy.curves["sample"]) == [1, 2]


def test_where_samples_are_calls_the_best_begins_with_the_initial_programs(write_run: WriteRun, tmp_path: Path) -> None:
    calls = {"sample_unit": "call", "programs": 5, "initial_secs": 0.5}
    write_run("a", TWO, (None, 0.8, 0.25, None), **calls)
    tidy = aggregate(tmp_path / "runs")
    assert list(tidy.curves["best_secs"]) == [0.5, 0.5, 0.25, 0.25]
    assert " · 4 calls · " in key(tidy) and samples_are_calls(tidy.runs)
    write_tidy(tidy, tmp_path / "data")
    pd.testing.assert_frame_equal(read_tidy(tmp_path / "data").runs, tidy.runs)
    write_run("b", TWO, (0.5,), seed=1)
    with pytest.raises(ConfigError, match=r"of others a measured program; aggregate them separately"):
        aggregate(tmp_path / "runs")


def test_a_run_without_llm_has_no_rows_in_calls(write_run: WriteRun, tmp_path: Path) -> None:
    run_dir = write_run("evo", ONE, (0.5,), search="evolutionary", llm_backend="none", largest=None)
    header = (run_dir / "calls.csv").read_text().splitlines()[0]
    (run_dir / "calls.csv").write_text(header + "\n")
    summary = (run_dir / "summary.json").read_text()
    (run_dir / "summary.json").write_text(
        summary.replace('"regular_calls": 4', '"regular_calls": 0').replace(
            '"small_model_calls": 4', '"small_model_calls": 0'
        )
    )
    tidy = aggregate(tmp_path / "runs")
    assert tidy.calls.empty
    assert list(configurations(tidy)["label"]) == ["TVM's evolutionary search"]
    assert key(tidy).startswith("no LLM · measured latency")


def test_an_unfinished_run_is_named(runs_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unfinished = runs_dir / "b" / "killed"
    unfinished.mkdir()
    (unfinished / "events.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match="unfinished.*b/killed"):
        aggregate(runs_dir)
    assert aggregate_stage.main(["--runs", str(runs_dir), "--out", str(runs_dir / "data")]) == 1
    assert "b/killed" in capsys.readouterr().err
    assert not (runs_dir / "data").exists()


def test_no_run_at_all_names_the_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing_here"):
        aggregate(tmp_path / "nothing_here")


@pytest.mark.parametrize("name", ["curve.csv", "calls.csv", "turns.csv"])
def test_a_missing_file_is_named(runs_dir: Path, name: str) -> None:
    (runs_dir / "b" / "c" / name).unlink()
    with pytest.raises(ConfigError, match=f"b/c has no {name}"):
        aggregate(runs_dir)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("summary.json", "{", "is broken"),
        ("summary.json", "[]", "holds a value of type list"),
        ("summary.json", '{"workload": "x"}', "lacks baseline_secs"),
        ("curve.csv", "", "not a readable table"),
        ("turns.csv", "sample\n1\n", "lacks course alterations"),
        ("curve.csv", "sample\n1\n", "lacks best_secs, latency_secs, speedup"),
        ("curve.csv", "sample,latency_secs,best_secs,speedup\nz,1,1,1\n", "has 'z' in column sample"),
        ("curve.csv", "sample,latency_secs,best_secs,speedup\n1,inf,1,1\n", "has 'inf' in column latency_secs"),
        ("curve.csv", "sample,latency_secs,best_secs,speedup\n1,0.5,0.5,2\n", "one row for each of the 2 samples"),
        ("curve.csv", "sample,latency_secs,best_secs,speedup\n1,.5,.5,2\n2,.25,.25,99\n", "a speedup that does not"),
        ("curve.csv", "sample,latency_secs,best_secs,speedup\n1,.5,.5,2\n2,.5,.25,4\n", "a best_secs that does not"),
        (
            "curve.csv",
            "sample,latency_secs,best_secs,speedup\n1,.5,.5,2\n2,.1,.1,10\n",
            "ends with 0.1 s, but",
        ),
        ("turns.csv", "sample,course alterations,gpt-5-mini\n0,0,many\n", "has 'many' in column gpt-5-mini"),
        ("turns.csv", "sample,course alterations,ghost\n0,0,1\n", "models that are not in calls.csv: ghost"),
    ],
)
def test_a_broken_file_is_named(runs_dir: Path, name: str, text: str, message: str) -> None:
    (runs_dir / "d" / name).write_text(text)
    with pytest.raises((ConfigError, RunDirError), match=f"d/{name}.*{message}"):
        aggregate(runs_dir)


def test_a_directory_in_place_of_a_file_is_named(runs_dir: Path) -> None:
    (runs_dir / "d" / "calls.csv").unlink()
    (runs_dir / "d" / "calls.csv").mkdir()
    with pytest.raises(ConfigError, match=r"cannot read .*d/calls\.csv: Is a directory"):
        aggregate(runs_dir)


def test_counts_that_contradict_each_other_are_refused(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("wrong", TWO, (0.5,), course_alterations=7)
    with pytest.raises(ConfigError, match="adds up to 0 course_alterations, summary.json says 7"):
        aggregate(tmp_path / "runs")


def test_one_run_in_two_directories_is_refused(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("first", TWO, (0.5,))
    write_run("second", TWO, (0.25,), experiment="another")
    with pytest.raises(ConfigError, match="first and .*second hold the same run"):
        aggregate(tmp_path / "runs")


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no runs.csv"):
        read_tidy(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("runs", lambda lines: lines[:1], "runs.csv holds no run"),
        ("curves", lambda lines: lines[:1], "curves.csv has 0 rows for the 9 samples"),
        ("calls", lambda lines: ["a,b", "1,2"], "calls.csv lacks .*backend"),
        ("runs", lambda lines: [*lines, lines[-1]], "runs.csv holds a run twice"),
        ("curves", lambda lines: [*lines[:-1], lines[-2]], "curves.csv does not have one row for each sample of"),
        (
            "turns",
            lambda lines: [*lines, "w,cpu,tvm,paper,2,x,zero,1,0"],
            "turns.csv has a seed that is not an int",
        ),
    ],
)
def test_a_table_that_was_cut_or_edited_is_named(
    runs_dir: Path, tmp_path: Path, name: str, change: Callable[[list[str]], list[str]], message: str
) -> None:
    write_tidy(aggregate(runs_dir), tmp_path / "data")
    path = tmp_path / "data" / f"{name}.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(ConfigError, match=message):
        read_tidy(tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("runs", "regular_calls", "-3"),
        ("runs", "speedup", "0"),
        ("curves", "speedup", "-1"),
        ("curves", "latency_secs", "inf"),
        ("curves", "sample", "nan"),
        ("calls", "children", "1.5"),
        ("calls", "course_alterations", "inf"),
    ],
)
def test_a_number_that_cannot_be_is_named(runs_dir: Path, tmp_path: Path, name: str, column: str, value: str) -> None:
    write_tidy(aggregate(runs_dir), tmp_path / "data")
    path = tmp_path / "data" / f"{name}.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[0, column] = value
    table.to_csv(path, index=False)
    with pytest.raises(ConfigError, match=rf"{name}\.csv has '{value}.*' in column {column}"):
        read_tidy(tmp_path / "data")


def test_the_key_tells_where_the_numbers_come_from(runs_dir: Path) -> None:
    assert key(aggregate(runs_dir)) == (
        "stand-in LLMs · measured latency · cpu-2-cores · TVM's space · 1 seed · 2 to 4 samples · warm-up 16"
    )


def test_the_key_lists_all_of_several_values(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,))
    write_run("b", TWO, (0.5,), seed=1, llm_backend="openai", measurement="estimated", warmup_samples=32, device="gpu")
    write_run("c", ONE, (0.5,), model_set="small", search="colt_plus")
    assert key(aggregate(tmp_path / "runs")) == (
        "real LLMs via openai, stand-in LLMs · estimated latency (not measured) and measured latency · "
        "cpu-2-cores, gpu · TVM's space · 1 to 2 seeds · 1 sample · warm-up 16 or 32 · model set 2 or small"
    )


def test_design_spaces_are_told_apart(write_run: WriteRun, tmp_path: Path) -> None:
    some = ["vector_math", "row_fusion", "register_tiles", "padding", "sound"]
    write_run("a", TWO, (0.5,))
    write_run("b", TWO, (0.25,), space=[*some, "packing"])
    write_run("c", TWO, (0.3,), space=some)
    tidy = aggregate(tmp_path / "runs")
    assert list(tidy.runs["space"]) == ["tvm", "extended", "extended without packing"]
    labels = configurations(tidy)
    assert list(labels["label"]) == [
        "COLT (2 models, stand-in), TVM's space",
        "COLT (2 models, stand-in), extended space",
        "COLT (2 models, stand-in), extended space without packing",
    ]
    assert labels["short_label"][1] == "COLT(2, stand-in), extended space"
    assert labels["title"][0] == "COLT (stand-in), TVM's space"
    assert " · TVM's space and extended space and extended space without packing · " in key(tidy)
    write_tidy(tidy, tmp_path / "data")
    assert list(configurations(read_tidy(tmp_path / "data"))["label"]) == list(labels["label"])


def test_labels_name_search_stand_ins_and_what_siblings_differ_in(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", ONE, (0.5,), model_set="small")
    write_run("b", TWO, (0.5,), search="colt_plus")
    write_run("c", TWO, (0.5,), search="paper")
    write_run("d", TWO, (0.5,), search="paper", model_set="mine")
    write_run("e", TWO, (0.5,), search="random_proposer", llm_backend="random")
    write_run("f", TWO, (0.5,), search="my_own", llm_backend="random")
    labels = configurations(aggregate(tmp_path / "runs"))
    assert list(labels["label"]) == [
        "gpt-5-mini (stand-in), search=paper",
        "COLT+ (2 models, stand-in)",
        "my_own (2 models, random)",
        "COLT (2 models, stand-in)",
        "random proposer (2 models, random)",
        "COLT (mine, 2 models, stand-in)",
    ]
    assert list(labels["title"])[1:5] == ["COLT+ (stand-in)", "my_own (random)", "COLT (stand-in)", "random proposer"]
    assert labels["short_label"][1] == "COLT+(2, stand-in)"


@pytest.mark.parametrize(
    ("search", "title"),
    [
        ("colt_plus", "COLT+"),
        ("paper", "COLT"),
        ("router_round_robin", "COLT+, router round robin"),
        ("my_search", "my_search"),
    ],
)
def test_searches_have_titles(search: str, title: str) -> None:
    assert search_title(search) == title


def test_each_search_that_comes_with_the_project_has_a_title() -> None:
    names = {path.stem for path in (ROOT / "conf" / "search").glob("*.yaml")}
    assert len(names) > 10
    assert {name for name in names if search_title(name) == name} == set()


def test_sets_that_something_else_answered_in_are_marked(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", TWO, (0.5,), llm_backend="openai")
    assert list(configurations(aggregate(tmp_path / "runs"))["label"]) == ["COLT (2 models)"]
    write_run("b", TWO, (0.5,), seed=1)
    assert list(configurations(aggregate(tmp_path / "runs"))["label"]) == ["COLT (2 models, stand-in)"]


def test_a_real_model_is_not_called_a_stand_in(write_run: WriteRun, tmp_path: Path) -> None:
    write_run("a", ONE, (0.5,), model_set="small", llm_backend="openai")
    assert list(configurations(aggregate(tmp_path / "runs"))["label"]) == ["gpt-5-mini"]
    write_run("b", ONE, (0.5,), model_set="small", seed=1)
    mixed = configurations(aggregate(tmp_path / "runs"))["label"]
    assert list(mixed) == ["gpt-5-mini (stand-in) / gpt-5-mini"]


def test_known_names_come_first_and_once() -> None:
    assert display_order(["b", "8", "small", "a", "8"], ("small", "large", "8")) == ["small", "8", "a", "b"]


def _of_seed(write_run: WriteRun, seed: int, model_set: str = "2", **changes: Any) -> Path:
    """A run of an experiment with two model sets, with what identifies it in its configuration."""
    name = f"flux_conv/cpu-{model_set}-s{seed}"
    run = write_run(name, TWO, (0.5,), seed=seed, model_set=model_set, **changes)
    (run / "config.yaml").write_text(f"experiment: live\nrun: {name}\nseed: {seed}\n")
    return run


def test_seeds_that_lack_a_run_are_left_out_if_whole_ones_are_asked_for(
    write_run: WriteRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, model_set in product((0, 1, 2, 3), ("2", "8")):
        _of_seed(write_run, seed, model_set)
    stopped = _of_seed(write_run, 4, "2", stopped="limit")
    unfinished = _of_seed(write_run, 4, "8")
    (unfinished / "summary.json").unlink()
    (tmp_path / "runs/flux_conv/cpu-2-s1/summary.json").unlink()
    shutil.rmtree(tmp_path / "runs/flux_conv/cpu-8-s3")
    with pytest.raises(ConfigError, match=r"unfinished \(no summary.json\)"):
        aggregate(tmp_path / "runs")
    tidy = aggregate(tmp_path / "runs", whole_seeds=True)
    assert sorted(zip(tidy.runs["seed"], tidy.runs["model_set"], strict=True)) == [
        *((0, "2"), (0, "8"), (2, "2"), (2, "8"))
    ]
    assert capsys.readouterr().err.splitlines() == [
        "note: seed=1 is left out: 1 of 2 runs finished",
        "note: seed=3 is left out: 1 of 2 runs finished",
        "note: seed=4 is left out: 0 of 2 runs finished",
    ]
    command = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--whole-seeds"]
    assert aggregate_stage.main(command) == 0
    assert set(read_tidy(tmp_path / "out").runs["seed"]) == {0, 2}
    only = tmp_path / "only"
    shutil.copytree(stopped, only / "run")
    with pytest.raises(ConfigError, match=r"no seed below .*only has all of its runs"):
        aggregate(only, whole_seeds=True)
