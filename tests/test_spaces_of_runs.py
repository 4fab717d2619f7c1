"""Whatever reads a run takes the design space of that run, and says which it is."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tvm
import yaml

from colt_pipeline import space as package
from colt_pipeline.analysis.tree.run import read_run
from colt_pipeline.app import summary_table
from colt_pipeline.compare import main as compare
from colt_pipeline.errors import RunDirError
from colt_pipeline.exports import winner
from colt_pipeline.job import Job
from colt_pipeline.prediction import experience, run_space
from colt_pipeline.prediction.experience_files import read_files
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.layout import CONFIG, SUMMARY
from colt_pipeline.runs.summary import read_summary
from colt_pipeline.serialization import KEY_WIDTH
from colt_pipeline.show import describe
from colt_pipeline.space import Space
from colt_pipeline.tools.noise import best_recorded
from tests.support import Recorded

pytestmark = pytest.mark.tvm

TINY = (
    *(
        "workload=deepseek_r1_moe",
        "workload.shape={batch: 1, tokens: 8, inner: 32, outer: 24}",
        "search=paper",
        "search.sample=program",
    ),
    *("search.warmup_samples=4", "search.batch_size=2", "model_set=2", "samples=6"),
)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The additions of each space that is made."""
    found = []

    class Noted(Space):
        def __init__(self, module: tvm.IRModule, target: dict[str, Any], additions: Any = ()) -> None:
            found.append(tuple(additions))
            super().__init__(module, target, additions)

    for module in (package, run_space):
        monkeypatch.setattr(module, "Space", Noted)
    return found


@pytest.fixture
def extended(recorded: Recorded) -> Job:
    return recorded(*TINY, "space=extended", "run=tiny/extended")


@pytest.fixture
def usual(recorded: Recorded) -> Job:
    return recorded(*TINY, "run=tiny/usual")


@pytest.fixture
def runs(extended: Job, usual: Job, tmp_path: Path) -> Path:
    """Copies of the two runs below one directory of runs."""
    for job in (extended, usual):
        shutil.copytree(job.rundir.path, tmp_path / "runs" / job.config.run)
    return tmp_path / "runs"


def best_of(job: Job) -> Sample:
    assert job.state.best is not None
    return job.state.best


def test_an_export_is_of_the_runs_own_space(extended: Job, usual: Job, made: list[tuple[str, ...]]) -> None:
    for job in (extended, usual):
        found = winner.read_winner(job.rundir.path)
        assert made[-1] == job.config.space.additions
        assert found.program.key == best_of(job).program


def test_a_space_that_is_none_is_refused(runs: Path) -> None:
    path = runs / "tiny/extended" / CONFIG
    config = yaml.safe_load(path.read_text())
    config["space"]["tiles"] = True
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(RunDirError, match=r"is not the configuration of a run \(space: tiles is none of"):
        winner.read_winner(path.parent)
    with pytest.raises(RunDirError, match="space: tiles is none of this version's"):
        experience.collect_experience(runs, runs / "out")


def test_experience_has_the_programs_of_both_spaces(
    extended: Job, usual: Job, runs: Path, made: list[tuple[str, ...]]
) -> None:
    experience.collect_experience(runs, runs / "out")
    assert set(made) == {extended.config.space.additions, ()}
    programs = {sample.program for job in (extended, usual) for sample in job.state.samples}
    files = read_files(runs / "out")
    assert {file.origin and file.origin.additions for file in files} == {extended.config.space.additions, ()}
    assert sorted(key for file in files for key in file.keys) == sorted(program[:KEY_WIDTH] for program in programs)


def test_noise_is_that_of_the_fastest_program_in_any_space(extended: Job, usual: Job, runs: Path) -> None:
    fastest = min((extended, usual), key=lambda job: best_of(job).latency_secs or math.inf)
    started = read_run(usual.rundir.path).started
    backend: Any = SimpleNamespace(device=SimpleNamespace(slug=started.device), target=started.target)
    best = best_recorded(runs, usual.workload, backend)
    assert best is not None and best.program == best_of(fastest).program and best.space == fastest.config.space
    space = Space(usual.workload.module, started.target, best.space.additions)
    assert space.load(best.program, best.trace).key == best.program


def test_a_run_says_which_space_it_searched(extended: Job, usual: Job) -> None:
    ours, tvms = (read_summary(job.rundir.path / SUMMARY) for job in (extended, usual))
    assert ours["space"] == list(extended.config.space.additions) and "space" not in tvms
    assert "space" not in yaml.safe_load((usual.rundir.path / CONFIG).read_text())
    assert "\n  space       extended space\n" in describe(read_run(extended.rundir.path))
    assert "latency, TVM's space, search=paper" in describe(read_run(usual.rundir.path))
    both = summary_table([ours, tvms])
    assert "design spaces: extended space: tiny/extended; TVM's space: tiny/usual" in both
    assert "\ndesign space: TVM's space\n" in summary_table([tvms])


def test_a_comparison_in_two_spaces_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare([*TINY[:2], "search=colt,evolutionary", f"results={tmp_path / 'results'}"]) == 1
    assert "colt: extended; evolutionary: tvm. Say which all of them search: space=tvm" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()
