"""The pipelines of DVC: whatever a stage's command imports is among its dependencies, and no more than it needs."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path

import grimp
import pytest
from dvc.repo import Repo

from tests.support import ROOT


@cache
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("colt_pipeline", "stages", cache_dir=None)


@cache
def stages() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Stage by address -> its command and the dependencies, as paths from the project's root."""
    with Repo(str(ROOT)) as repo:
        return {
            stage.addressing: (stage.cmd, tuple(str(Path(dep.fs_path).relative_to(ROOT)) for dep in stage.deps))
            for stage in repo.index.stages
        }


def closure(command: str) -> set[str]:
    """The files of this project that ``python -m MODULE`` imports, directly or not, its packages among them."""
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
    """What the command imports and no dependency covers."""
    roots = {Path(dependency) for dependency in dependencies}
    return {file for file in closure(command) if not roots & {Path(file), *Path(file).parents}}


def test_the_pipelines_have_the_stages_that_the_readme_names() -> None:
    assert {"extract", "runs@cpu", "aggregate@cpu", "tables@cpu", "figures@cpu", "report"} <= set(stages())
    studies = {name.partition(":")[2] for name in stages() if name.startswith("stages/studies/dvc.yaml:")}
    assert {"runs@search", "tables@seeds", "figures@controls", "report"} <= studies


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
    assert len(runs) == 12
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
