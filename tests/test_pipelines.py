"""The DVC pipelines: a stage's dependencies are exactly what its command imports or needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path

import grimp
import pytest
from dvc.repo import Repo

from colt_pipeline.config.arguments import CommandLine
from colt_pipeline.config.compose import possible_runs
from tests.support import ROOT


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("colt_pipeline", "stages", cache_dir=None)


@cache
def stages() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Address of a stage -> its command and its dependencies, as paths from the project's root."""
    with Repo(str(ROOT)) as repo:
        return {
            stage.addressing: (stage.cmd, tuple(str(Path(dep.fs_path).relative_to(ROOT)) for dep in stage.deps))
            for stage in repo.index.stages
        }


def closure(command: str) -> set[str]:
    """The project's files that ``python -m MODULE`` imports, directly or indirectly, including packages."""
    module = command.split()[2]
    modules = {module, *imports().find_upstream_modules(module)}
    packages = {name.rpartition(".")[0] for name in modules}
    while packages - modules - {""}:
        modules |= packages - {""}
        packages = {name.rpartition(".")[0] for name in modules}
    return {_file(name) for name in modules}


def _file(module: str) -> str:
    path = ROOT / module.replace(".", "/")
    found = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return str(found.relative_to(ROOT))


def uncovered(command: str, dependencies: Iterable[str]) -> set[str]:
    """What the command imports but no dependency covers."""
    roots = {Path(dependency) for dependency in dependencies}
    return {file for file in closure(command) if not roots & {Path(file), *Path(file).parents}}


def test_the_pipelines_have_the_stages_that_the_readme_names() -> None:
    assert {"extract", "runs@cpu", "aggregate@cpu", "tables@cpu", "figures@cpu", "report"} <= set(stages())
    studies = {name.partition(":")[2] for name in stages() if name.startswith("stages/studies/dvc.yaml:")}
    assert {"runs@search", "tables@unseen", "figures@controls", "report"} <= studies


def test_dependencies_cover_what_each_command_imports() -> None:
    gaps = {name: uncovered(command, dependencies) for name, (command, dependencies) in stages().items()}
    assert {name: files for name, files in gaps.items() if files} == {}


@pytest.mark.parametrize(
    ("stage", "lost", "gap"),
    [
        ("runs@cpu", "colt_pipeline/search", "colt_pipeline/search/loop.py"),
        ("runs@cpu", "colt_pipeline/tools/forecast.py", "colt_pipeline/tools/forecast.py"),
        ("stages/studies/dvc.yaml:runs@search", "colt_pipeline/measurement", "colt_pipeline/measurement/ledger.py"),
        ("tables@cpu", "colt_pipeline/analysis", "colt_pipeline/analysis/tidy.py"),
    ],
)
def test_a_planted_gap_is_found(stage: str, lost: str, gap: str) -> None:
    command, dependencies = stages()[stage]
    assert lost in dependencies
    assert gap in uncovered(command, (path for path in dependencies if path != lost))


def test_an_edit_in_analysis_repeats_no_search() -> None:
    runs = {name: value for name, value in stages().items() if "runs@" in name}
    assert len(runs) == 13
    for command, dependencies in runs.values():
        assert not any(file.startswith("colt_pipeline/analysis") for file in closure(command))
        assert not any(Path("colt_pipeline/analysis").is_relative_to(path) for path in dependencies)


def test_what_a_command_reads_is_among_its_dependencies() -> None:
    for name, (command, dependencies) in stages().items():
        words, roots = command.split(), {Path(dependency) for dependency in dependencies}
        read = [Path(path) for flag, path in pairwise(words) if flag in ("--conf", "--data", "--run", "--runs")]
        assert [path for path in read if not roots & {path, *path.parents}] == [], name
        if "runs@" in name:
            assert {"conf", "results/recordings", "constraints.txt"} <= {*dependencies}


def test_searches_of_the_pipelines_are_replayed_unless_somebody_says_otherwise() -> None:
    assert all("record=replay" in command.split() for name, (command, _) in stages().items() if "runs@" in name)


@pytest.mark.parametrize("stage", ["aggregate", "tables", "end_to_end", "report"])
def test_a_stage_that_draws_nothing_starts_without_the_packages_that_draw(stage: str) -> None:
    code = f"import sys, stages.{stage}; print({{'matplotlib', 'seaborn', 'scipy.stats', 'tvm'}} & {{*sys.modules}})"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"


def test_the_experiment_that_the_parameters_describe_is_measured_here_with_stand_ins() -> None:
    (arguments,) = re.findall(r"'runs=\"(.*)\"'", (ROOT / "params.yaml").read_text())
    runs = possible_runs(CommandLine(("experiment=cpu", *arguments.split())))
    assert {run.model_set for run in runs} == {"small", "8"}
    for run in runs:
        assert (run.record.mode, run.device, run.seed, run.stand_ins) == ("missing", "local", 1, True)
        assert not list((ROOT / "results" / "recordings").glob(f"*/cpu/{run.run}")), "it would be replayed"


def test_metrics_and_plots_of_every_experiment_are_declared_and_committed() -> None:
    with Repo(str(ROOT)) as repo:
        outs = [out for stage in repo.index.stages if ":tables@" in f":{stage.addressing}" for out in stage.outs]
        metrics = [Path(out.fs_path) for out in outs if out.metric]
        plots = {Path(out.fs_path): out.plot for out in outs if out.plot}
        assert not any(out.use_cache for out in outs)
    experiments = {path.name for path in metrics}
    assert {"cpu", "local", "search", "unseen"} <= experiments == {path.stem for path in plots}
    for directory in metrics:
        assert all("speedup" in json.loads(path.read_text()) for path in directory.iterdir())
    for path, properties in plots.items():
        template = (ROOT / ".dvc" / "plots" / f"{properties['template']}.json").read_text()
        encoding = json.loads(template)["encoding"]
        fields = {properties["x"], properties["y"], encoding["color"]["field"]}
        assert fields == {*path.read_text().splitlines()[0].split(",")}
