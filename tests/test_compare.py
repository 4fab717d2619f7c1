"""Searches side by side: whose turn it is, and that being together changes nothing in any of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import tvm
from test_tune import HashMeasurer
from toy import ToyEvaluator, ToyProgram, world

from colt_pipeline.analysis.labels import configurations
from colt_pipeline.analysis.searches import search_caption, search_speedups
from colt_pipeline.analysis.tidy import aggregate
from colt_pipeline.errors import ConfigError
from colt_pipeline.records import Measurement
from colt_pipeline.runs.events import Measured, Sample
from colt_pipeline.runs.journal import Journal
from colt_pipeline.search.loop import search
from colt_pipeline.search.state import State
from stages import benchmark
from stages.benchmarks import Options
from stages.benchmarks import search as searches
from stages.benchmarks.search import UnfinishedError, _config, rounds, rows

pytestmark = pytest.mark.tvm

SHAPE = ("workload.shape.inner=128", "workload.shape.outer=64", "search.warmup_samples=8")
WORKLOAD = "deepseek_r1_moe"
ROWS = searches.SEARCHES


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Options:
    """Two searches that differ in one setting, of one workload and seed."""
    table = {"near": ("search.name=near", "search.c=0.1"), "far": ("search.name=far", "search.c=3.0")}
    monkeypatch.setattr(searches, "SEARCHES", {name: ("search=paper", *row) for name, row in table.items()})
    results = tmp_path / "results"
    return Options(
        results=results,
        experiment="search",
        workloads=(WORKLOAD,),
        model_set="4",
        candidates=20,
        runs=results / "runs",
        rounds=1,
        searches=("near", "far"),
        seeds=(0,),
        overrides=SHAPE,
    )


def journals(options: Options) -> dict[str, bytes]:
    """Journal of each run by the name of its search."""
    paths = (options.results / "runs").rglob("events.jsonl")
    return {path.parent.name.split("-")[1]: path.read_bytes() for path in paths}


def test_rows_of_single_models_fix_the_model_set_whatever_the_command_line_chose(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searches, "SEARCHES", ROWS)
    runs = {name: _config(options, name, WORKLOAD, 0) for name in ("colt", "single_small", "single_large")}
    assert [[model.name for model in run.model_specs] for run in runs.values()] == [
        [model.name for model in runs["colt"].model_specs],
        ["gpt-5-mini"],
        ["gpt-5.2"],
    ]
    assert len(runs["colt"].model_specs) == 4
    searches_alone = [vars(run.search) | {"name": "", "run_name": ""} for run in runs.values()]
    assert searches_alone == searches_alone[:1] * 3


def test_turns_rotate_and_who_is_done_has_none() -> None:
    runs = {"a": iter([1, 2, 3]), "b": iter([10]), "c": iter([100, 200])}
    given = [list(turns.items()) for turns in rounds(runs)]
    assert given == [[("a", 1), ("b", 10), ("c", 100)], [("c", 200), ("a", 2)], [("a", 3)]]


def test_every_place_in_a_round_is_taken_equally_often() -> None:
    turns = [list(given) for given in rounds({name: iter(range(8)) for name in "abcd"})]
    assert len(turns) == 8
    for place in range(4):
        assert sorted(given[place] for given in turns) == sorted("abcd" * 2)


def test_toy_searches_measure_in_turn_and_each_as_if_alone(tmp_path: Path) -> None:
    order: list[int] = []

    class Noting(ToyEvaluator):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self._seed = seed

        def measure(self, programs: Sequence[ToyProgram]) -> list[Sample]:
            order.append(self._seed)
            return super().measure(programs)

    def batches(seed: int, path: Path) -> Iterator[Measured]:
        toy = replace(world(budget=4 * (seed + 1), seed=seed), evaluator=Noting(seed))
        journal = Journal(path)
        state = State(toy.models, toy.settings)
        yield from (event for event in search(toy, journal, state) if isinstance(event, Measured))
        journal.close()

    for seed in range(3):
        list(batches(seed, tmp_path / f"alone{seed}"))
    order.clear()
    together = {str(seed): batches(seed, tmp_path / f"together{seed}") for seed in range(3)}
    assert [list(given) for given in rounds(together)] == [["0", "1", "2"], ["1", "2"], ["2"]]
    assert order == [0, 1, 2, 1, 2, 2]
    for seed in range(3):
        assert (tmp_path / f"alone{seed}").read_bytes() == (tmp_path / f"together{seed}").read_bytes()


def test_runs_are_ordinary_runs_with_a_row_each(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    table = rows(options, HashMeasurer)
    assert [(row["search"], row["seed"], row["samples"], row["stopped"]) for row in table] == [
        ("near", 0, 20, "budget"),
        ("far", 0, 20, "budget"),
    ]
    (directory,) = (options.results / "runs" / "search" / WORKLOAD).glob("cpu-near-*")
    assert {"summary.json", "curve.csv", "calls.csv", "best.json"} <= {path.name for path in directory.iterdir()}
    progress = capsys.readouterr().err.splitlines()
    assert progress[0].startswith(f"{WORKLOAD} seed 0  near 8/20 ") and "  far 8/20 " in progress[0]
    assert "ETA 0 s" in progress[-1]


def test_equal_programs_are_measured_once(options: Options) -> None:
    measurer = HashMeasurer()
    rows(options, lambda _: measurer)
    assert 21 < len(measurer.seen) < 2 * 21, "the baseline and the initial programs are equal"
    assert len(set(measurer.seen)) == len(measurer.seen)


def test_a_kill_in_the_middle_and_the_same_command_again(options: Options, tmp_path: Path) -> None:
    class Killed(HashMeasurer):
        def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
            for measurement in super().measure(modules, best_secs):
                if len(self.seen) == 25:
                    raise KeyboardInterrupt
                yield measurement

    whole = replace(options, results=tmp_path / "whole")
    rows(whole, HashMeasurer)
    before = Killed()
    with pytest.raises(KeyboardInterrupt):
        rows(options, lambda _: before)
    assert not list(options.results.rglob("summary.json"))
    after = HashMeasurer()
    rows(options, lambda _: after)
    assert journals(options) == journals(whole)
    assert not set(before.seen[:-1]) & set(after.seen), "what was recorded before the kill is not measured again"


def test_what_is_finished_is_left_alone(options: Options) -> None:
    first = rows(options, HashMeasurer)
    times = {path: path.stat().st_mtime_ns for path in (options.results / "runs").rglob("*.*")}

    def never(_: object) -> HashMeasurer:
        raise AssertionError("everything is finished")

    assert rows(options, never) == first
    assert times == {path: path.stat().st_mtime_ns for path in (options.results / "runs").rglob("*.*")}


def test_a_failing_run_is_one_line_and_the_others_go_on(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    rows(replace(options, searches=("far",), overrides=(*SHAPE, "search.branching=3")), HashMeasurer)
    capsys.readouterr()
    with pytest.raises(UnfinishedError, match="1 of 2 runs failed"):
        rows(options, HashMeasurer)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "search.branching: 3 there, 2 now" in errors[0]
    assert list(options.results.rglob("cpu-near-*/summary.json"))


def test_two_rows_of_one_name_are_refused(options: Options) -> None:
    with pytest.raises(ConfigError, match=r"2 of the runs have the name .*cpu-same-4-.*search\.name"):
        rows(replace(options, overrides=("search.name=same",)), HashMeasurer)


def test_the_command_replays_offline(options: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows(options, HashMeasurer)
    offline = tmp_path / "offline"
    shutil.copytree(options.results / "recordings", offline / "recordings")
    chosen = ["--workloads", WORKLOAD, "--seeds", "0", "--samples", "20", "--model-set", "4"]
    command = ["search", "--results", str(offline), "--out", str(tmp_path / "out"), *chosen, "--searches"]
    assert benchmark.main([*command, "near,far", *SHAPE, "record=replay"]) == 0
    assert journals(options) == journals(replace(options, results=offline))
    table = (tmp_path / "out" / "search.csv").read_text().splitlines()
    assert len(table) == 3 and table[0].startswith("workload,seed,search,")
    assert benchmark.main([*command, "near,nowhere"]) == 1
    assert "Could not find 'search/nowhere'" in capsys.readouterr().err


def test_a_search_without_llm_stands_beside_one_with(options: Options) -> None:
    rows(replace(options, searches=("colt", "mcts_no_llm")), HashMeasurer)
    tidy = aggregate(options.results / "runs")
    assert list(configurations(tidy)["label"]) == ["COLT (4 models)", "mcts_no_llm"]
    assert search_caption(tidy).startswith("mixed LLM backends (no LLM, stand-in LLMs), measured latency")
    assert list(search_speedups(tidy).columns) == ["workload", "samples", "colt", "mcts_no_llm"]
    assert tidy.runs.set_index("search").loc["mcts_no_llm", "regular_calls"] == 0
