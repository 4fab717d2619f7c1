"""Relative paths start at the project, whichever directory a command is called from."""

from __future__ import annotations

from pathlib import Path

import pytest

from colt_pipeline.config.checks import PACKAGE
from colt_pipeline.config.compose import composed, runs
from colt_pipeline.config.places import base


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a folder in a folder; its parent contains another project."""
    (tmp_path / "dvc.yaml").touch()
    root = tmp_path / "project"
    (root / "a" / "b").mkdir(parents=True)
    (root / "dvc.yaml").touch()
    (root / "a" / "dvc.yaml").mkdir()  # a directory makes no project
    return root


@pytest.mark.parametrize(("below", "expected"), [("", "."), ("a", ".."), ("a/b", "../..")])
def test_the_nearest_project_counts(project: Path, below: str, expected: str) -> None:
    assert base(project / below) == Path(expected)
    assert base(project / below, moves=True) == project


def test_without_a_project_paths_start_where_the_command_is_called(tmp_path: Path) -> None:
    assert base(tmp_path) == Path(".")
    assert base(tmp_path, moves=True) == tmp_path


@pytest.mark.parametrize("below", ["", "a", "a/b"])
def test_all_commands_find_the_same_files(project: Path, below: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / below)
    for config in (composed(["results=out"]), *runs(["seed=0,1", "results=out"])):
        assert Path(config.results).resolve() == project / "out"
        assert Path(config.pretraining).resolve() == project / "results/pretraining" / config.space.name
    earlier = composed(["start_from=earlier"]).start_from
    assert earlier is not None and Path(earlier).resolve() == project / "earlier"


@pytest.mark.parametrize(("space", "known"), [("tvm", "tvm"), ("extended", "extended"), ("mine", "extended")])
def test_experience_is_of_the_space_or_of_the_extended_one(
    project: Path, space: str, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    arguments = [f"space.name={space}", "space=tvm" if space == "tvm" else "space=extended"]
    assert composed(arguments).pretraining == f"results/pretraining/{known}"
    for place in (project, project.parent):
        (place / "dvc.yaml").unlink()
    assert Path(composed(arguments).pretraining) == PACKAGE / "pretraining" / known
    (project / "results/pretraining" / space).mkdir(parents=True)
    assert composed(arguments).pretraining == f"results/pretraining/{space}"


def test_a_misspelt_directory_of_experience_is_not_replaced(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert composed(["pretraining=results/pretraining/extendet"]).pretraining == "results/pretraining/extendet"


def test_paths_are_as_given_in_the_projects_own_directory(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    config = composed([f"pretraining={project / 'known'}"])
    assert (config.results, config.pretraining) == ("results", str(project / "known"))


def test_where_jobs_change_the_directory_paths_are_absolute(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "a")
    assert composed(["hydra.job.chdir=true"]).results == str(project / "results")
