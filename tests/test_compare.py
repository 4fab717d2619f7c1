"""Searches side by side: the order of turns, and that running together does not change any of them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import pytest
import tvm

from colt_pipeline import compare as module
from colt_pipeline.analysis.compared import key
from colt_pipeline.analysis.labels import configurations
from colt_pipeline.analysis.tables.ratios import search_speedups
from colt_pipeline.analysis.tidy import aggregate
from colt_pipeline.compare import compare, groups, main, rounds
from colt_pipeline.config.compose import runs
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError
from colt_pipeline.job import read_summary
from colt_pipeline.records import Measurement
from colt_pipeline.runs.events import Measured, Sample
from colt_pipeline.runs.journal import Journal
from colt_pipeline.runs.layout import run_directory
from colt_pipeline.search.loop import search
from colt_pipeline.search.state import State
from stages.benchmarks.hashes import HashMeasurer
from tests.small_runs import colt
from tests.support import ROOT
from tests.toy import ToyEvaluator, ToyProgram, world

pytestmark = pytest.mark.tvm

SHAPE = ("workload.shape.inner=128", "workload.shape.outer=64", "search.warmup_samples=8")
WORKLOAD = "deepseek_r1_moe"


@pytest.fixture
def near_and_far(tmp_path: Path) -> list[Config]:
    """Two searches of one workload and seed that differ in one setting."""
    return two(tmp_path / "results")


@dataclass(frozen=True)
class Finished:
    """What is left of a comparison."""

    results: Path
    printed: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The two searches at their end. Tests copy the results and never change them."""
    results, printed = tmp_path_factory.mktemp("finished") / "results", StringIO()
    with redirect_stderr(printed):
        compare(two(results, "measure.confirm=2"), HashMeasurer)
    return Finished(results, printed.getvalue())


@pytest.fixture
def finished_near_and_far(finished: Finished, near_and_far: list[Config], tmp_path: Path) -> list[Config]:
    """The two searches, with a copy of what they came to."""
    shutil.copytree(finished.results, tmp_path / "results")
    return near_and_far


def two(results: Path, *overrides: str) -> list[Config]:
    """One run named near and one far, with different exploration parameters."""
    return [
        config
        for name, c in (("near", 0.1), ("far", 3.0))
        for config in runs([*common(results), f"search.name={name}", f"search.c={c}", *overrides])
    ]


def common(results: Path) -> list[str]:
    return [
        f"results={results}",
        "experiment=adhoc",
        f"workload={WORKLOAD}",
        "search=paper",
        "search.sample=program",
        "model_set=4",
        "samples=20",
        "measure.confirm=0",
        *SHAPE,
    ]


def journals(results: Path) -> dict[str, bytes]:
    """Name of the search -> journal of its run."""
    paths = (results / "runs").rglob("events.jsonl")
    return {path.parent.name.split("-")[1]: path.read_bytes() for path in paths}


def test_rows_of_single_models_fix_the_model_set_of_the_experiment() -> None:
    swept = "search=colt,single_small,single_large"
    made = {
        config.search.name: config for config in runs(["experiment=controls", "seed=0", f"workload={WORKLOAD}", swept])
    }
    sets = {name: [model.name for model in config.model_specs] for name, config in made.items()}
    assert {name: len(names) for name, names in sets.items()} == {"colt": 8, "single_small": 1, "single_large": 1}
    assert sets["single_small"] + sets["single_large"] == ["gpt-5-mini", "gpt-5.2"]
    alone = [vars(config.search) | {"name": "", "run_name": ""} for config in made.values()]
    assert alone == alone[:1] * 3


def test_compare_and_tune_take_the_runs_of_an_experiment_from_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hydra's own sweeper, which `tune` uses, derives the same runs from the experiment as `compare`."""
    (tmp_path / "recordings").mkdir()
    chosen = ["experiment=controls", "search=single_small,colt", "record=replay", f"results={tmp_path}"]
    assert colt(monkeypatch, "tune", *chosen, f"hydra.sweep.dir={tmp_path}/logs") == 1
    wanted = {line.split()[3] for line in capsys.readouterr().err.splitlines() if line.startswith("error: replay of")}
    assert wanted == {f"controls/{config.run}" for config in runs(chosen)}
    assert len(wanted) == 2 * 2 * 2


def test_groups_are_runs_that_can_be_compared(tmp_path: Path) -> None:
    found = groups(runs(["experiment=search", f"workload=flux_conv,{WORKLOAD}", "seed=1,0", "search=colt,paper"]))
    assert [[(c.workload.name, c.seed, c.search.name) for c in group] for group in found] == [
        [("flux_conv", 1, "colt"), ("flux_conv", 1, "paper")],
        [("flux_conv", 0, "colt"), ("flux_conv", 0, "paper")],
        [(WORKLOAD, 1, "colt"), (WORKLOAD, 1, "paper")],
        [(WORKLOAD, 0, "colt"), (WORKLOAD, 0, "paper")],
    ]


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
        toy = replace(world(samples=4 * (seed + 1), seed=seed), evaluator=Noting(seed))
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


def test_runs_are_ordinary_runs(finished: Finished) -> None:
    configs = two(finished.results)
    summaries = [read_summary(config) for config in configs]
    assert [s and (s["search"], s["seed"], s["samples"], s["stopped"]) for s in summaries] == [
        ("near", 0, 20, "budget"),
        ("far", 0, 20, "budget"),
    ]
    assert [s and (s["confirmed_programs"], s["confirmed_rounds"]) for s in summaries] == [(2, 10), (2, 10)]
    directory = run_directory(configs[0].results, "adhoc", configs[0].run)
    assert {"summary.json", "curve.csv", "calls.csv", "best.json"} <= {path.name for path in directory.iterdir()}
    progress = [line for line in finished.printed.splitlines() if "  confirmed: " not in line]
    assert len(finished.printed.splitlines()) == len(progress) + 2
    assert progress[0].startswith(f"{WORKLOAD} seed 0  near(4) 8/20 ") and "  far(4) 8/20 " in progress[0]
    assert "ETA 0 s" in progress[-1]


def test_equal_programs_are_measured_once(
    near_and_far: list[Config], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measurer = HashMeasurer()
    monkeypatch.setattr(module, "table_is_shown", lambda: True)
    compare(near_and_far, lambda _: measurer)
    assert capsys.readouterr().err == "", "on a terminal a table shows how far they are"
    assert 21 < len(measurer.seen) < 2 * 21, "the baseline and the initial programs are equal"
    assert len(set(measurer.seen)) == len(measurer.seen)


def test_a_kill_in_the_middle_and_the_same_command_again(
    finished: Finished, near_and_far: list[Config], tmp_path: Path
) -> None:
    class Killed(HashMeasurer):
        def measure(self, modules: Sequence[tvm.IRModule], best_secs: float | None) -> Iterator[Measurement]:
            for measurement in super().measure(modules, best_secs):
                if len(self.seen) == 25:
                    raise KeyboardInterrupt
                yield measurement

    before = Killed()
    with pytest.raises(KeyboardInterrupt):
        compare(near_and_far, lambda _: before)
    assert not list((tmp_path / "results").rglob("summary.json"))
    after = HashMeasurer()
    compare(near_and_far, lambda _: after)
    assert journals(tmp_path / "results") == journals(finished.results)
    assert not set(before.seen[:-1]) & set(after.seen), "what was recorded before the kill is not measured again"


def test_what_is_finished_is_left_alone(finished_near_and_far: list[Config], tmp_path: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "runs").rglob("*.*")}

    def never(_: object) -> HashMeasurer:
        raise AssertionError("everything is finished")

    compare(finished_near_and_far, never)
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "results" / "runs").rglob("*.*")}


def test_a_failing_run_is_one_line_and_the_others_go_on(
    near_and_far: list[Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare(two(tmp_path / "results", "search.branching=3")[1:], HashMeasurer)
    capsys.readouterr()
    assert compare(near_and_far, HashMeasurer) == [near_and_far[1].run]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "search.branching: 3 there, 2 now" in errors[0]
    assert list((tmp_path / "results").rglob("cpu-near-*/summary.json"))


def test_two_rows_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"2 of the runs have the name .*cpu-same-4-.*search\.name"):
        compare(two(tmp_path, "search.name=same"), HashMeasurer)


def test_searches_whose_samples_are_not_the_same_are_refused() -> None:
    """A call of the paper's may lead to no program, so at equal samples it would have measured fewer."""
    said = r"in these: paper: a call, evolutionary: a program\. .*search\.sample=program"
    with pytest.raises(ConfigError, match=said):
        compare(runs(["search=paper,evolutionary"]))


def test_minutes_do_not_go_with_calls_in_the_others_turns(near_and_far: list[Config]) -> None:
    near, far = near_and_far
    concurrent = replace(near, minutes=1.0, llm=replace(near.llm, concurrency=8))
    with pytest.raises(ConfigError, match=r"minutes=1 with llm.concurrency=8: calls would go on"):
        compare([concurrent, far], HashMeasurer)


def test_the_command_replays_offline_side_by_side_and_lists_what_it_did(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    chosen = [*common(tmp_path / "results"), "search=random_proposer,mcts_no_llm"]
    configs = runs(chosen)
    assert compare(configs, HashMeasurer) == []
    offline = tmp_path / "offline"
    shutil.copytree(tmp_path / "results" / "recordings", offline / "recordings")
    replay = [*chosen, f"results={offline}", "record=replay"]
    capfd.readouterr()
    assert main(replay) == 0
    captured = capfd.readouterr()
    ended = [line.split()[:2] for line in captured.err.splitlines() if line.startswith("run ")]
    assert ended == [["run", "1/2"], ["run", "2/2"]]
    rows = captured.out.splitlines()
    assert [row.split()[0] for row in rows[1:3]] == [config.run for config in configs]
    assert journals(tmp_path / "results") == journals(offline)
    (recording,) = offline.glob("recordings/*/adhoc/*/*mcts_no_llm*/measurements.jsonl")
    recording.unlink()
    shutil.rmtree(offline / "runs")
    assert main(replay) == 1
    captured = capfd.readouterr()
    assert "random_proposer" in captured.out and "mcts_no_llm" not in captured.out, "the table has what was finished"
    assert captured.err.splitlines()[-1] == "error: 1 of 2 runs failed; the same command retries only these"


def test_a_run_directory_of_another_run_is_not_listed_as_this_one(
    finished_near_and_far: list[Config], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = [*common(tmp_path / "results"), "search.name=near", "search.c=0.7"]
    capfd.readouterr()
    assert main(other) == 1
    captured = capfd.readouterr()
    assert captured.out == "" and "holds a run with another config" in captured.err


def test_a_finished_run_that_lacks_a_file_writes_it_again(finished_near_and_far: list[Config]) -> None:
    near, _ = finished_near_and_far
    turns = run_directory(near.results, "adhoc", near.run) / "turns.csv"
    before = turns.read_bytes()
    turns.unlink()
    assert compare(finished_near_and_far, HashMeasurer) == []
    assert turns.read_bytes() == before


def test_ctrl_c_ends_a_replay_at_once(tmp_path: Path) -> None:
    (tmp_path / "recordings").symlink_to(ROOT / "results" / "recordings")
    chosen = ["experiment=search", "workload=flux_attention", "record=replay", f"results={tmp_path}"]
    command = [sys.executable, "-m", "colt_pipeline.compare", *chosen]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((tmp_path / "runs").rglob("events.jsonl")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and said == ""
    assert errors.splitlines()[-1] == "interrupted; the same command resumes where it stopped"
    assert not list((tmp_path / "runs").rglob("summary.json")), "no run went on to its end"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search=nowhere"], "Could not find 'search/nowhere'"),
        (["--cfg", "job"], "unknown flag --cfg; this command takes overrides, --config-dir and --multirun"),
        (["--bogus"], "unknown flag --bogus"),
        (["seed=1,abc"], "seed=abc is not an integer"),
    ],
)
def test_a_bad_command_line_is_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and message in captured.err


def test_a_search_without_llm_stands_beside_one_with(tmp_path: Path) -> None:
    chosen = [part for part in common(tmp_path) if not part.startswith("search=")]
    compare(runs([*chosen, "search=colt,mcts_no_llm"]), HashMeasurer)
    tidy = aggregate(tmp_path / "runs")
    without = "COLT+ without drafts or LLMs"
    assert list(configurations(tidy)["label"]) == ["COLT+ without drafts (4 models, stand-in)", without]
    assert key(tidy).startswith("no LLM, stand-in LLMs · measured latency")
    assert list(search_speedups(tidy).columns) == ["workload", "samples", "COLT+ without drafts (stand-in)", without]
    assert tidy.runs.set_index("search").loc["mcts_no_llm", "regular_calls"] == 0
