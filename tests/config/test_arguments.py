"""A command line means what Hydra means by it, and live runs are announced whatever it looks like."""

from __future__ import annotations

import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest

from colt_pipeline.config.arguments import command_line, with_override
from colt_pipeline.config.compose import CONF, check_overrides, possible_runs
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError, RunDirError, UnforeseenError
from colt_pipeline.tools.forecast import announced

SPEC = (
    "provider: local, api_model: fake, parameters_b: 3, assumed: false, context_length: 8192, json_schema: true, "
    "extra: {}, prices: null"
)


def possible(*arguments: str) -> list[Config]:
    return possible_runs(command_line(arguments))


def groups(directory: Path, *models: str) -> Path:
    """A directory of one's own models."""
    (directory / "models").mkdir(parents=True)
    for name in models:
        (directory / "models" / f"{name}.yaml").write_text(f"{name}: {{{SPEC}}}\n")
    return directory


def test_a_command_line_that_asks_for_help_or_a_configuration_starts_no_jobs() -> None:
    for arguments in (["samples=3"], ["-m", "samples=3,4"], ["--multi", "samples=3"], ["--run", "samples=3"]):
        assert command_line(arguments).starts_jobs
    for arguments in (["--help"], ["-h"], ["--cfg", "job", "samples=3"], ["--info"], ["--hydra-help"], ["-c", "job"]):
        assert not command_line(arguments).starts_jobs
        assert announced(arguments) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "--cfg", "job"], "only one of --multirun and --cfg"),
        (["--run", "--info"], "only one of --run and --info"),
        (["--resolve"], "--cfg job"),
        (["--config-dir", "no/such"], "--config-dir=no/such is not a directory"),
        (["--config-dir", ""], "--config-dir= is not a directory"),
        (["=1"], "=1 lacks the key before ="),
        (["--cfg", "job", "=1"], "=1 lacks the key before ="),
        (["search=null"], "search=null: search takes the name of a file"),
        (["-m", "samples=interval(1,3)"], "write KEY=A,B"),
        (["model_set=2,4"], "start a run for each with -m"),
        (["workload=glob(flux*)"], "start a run for each with -m"),
        (["experiment=cpu", "hydra.mode=RUN", "model_set=2,4"], "start a run for each with -m"),
        (["--config-name", "nowhere"], "primary config 'nowhere'"),
    ],
)
def test_what_hydra_would_refuse_or_stumble_over_is_one_message(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        announced(arguments)
    assert message in str(raised.value)


def test_the_mode_decides_whether_an_experiments_sweep_is_run() -> None:
    unseen = ("experiment=unseen", "search=colt", "seed=0")  # on each of two workloads
    assert len(possible(*unseen)) == 2
    assert len(possible(*unseen, "hydra.mode=RUN")) == 1
    assert len(possible("-m", *unseen, "hydra.mode=RUN")) == 2
    assert len(possible("workload=flux_conv")) == len(possible("-m", "workload=flux_conv")) == 1
    assert len(possible("workload=flux_conv,flux_attention", "hydra.mode=MULTIRUN")) == 2


@pytest.mark.parametrize("flag", ["--config-dir", "-cd", "--config-d"])
def test_groups_of_ones_own_count_beside_a_search_path(tmp_path: Path, flag: str) -> None:
    first, second = groups(tmp_path / "first", "mine_a", "mine_b"), tmp_path / "second" / "budget"
    second.mkdir(parents=True)
    shutil.copy(CONF / "budget" / "smoke.yaml", second / "mine.yaml")
    chosen = [flag, str(first), "+model_sets.own=[mine_a]", "model_set=own", "largest=mine_a", "+models@models=mine_a"]
    (config,) = possible(*chosen)
    assert [model.name for model in config.model_specs] == ["mine_a"]
    (config,) = possible(*chosen, f"hydra.searchpath=['file://{second.parent}']", "budget=mine")
    assert config.samples == 8 and [model.name for model in config.model_specs] == ["mine_a"]


def test_a_glob_over_groups_of_ones_own_finds_them(tmp_path: Path) -> None:
    (tmp_path / "workload").mkdir()
    for name in ("mine_a", "mine_b"):
        (tmp_path / "workload" / f"{name}.yaml").write_text(
            "name: flux_conv\nshape: {batch: 1, channels: 3, filters: 5, height: 7, width: 6}\n"
        )
    assert len(possible("-m", "--config-dir", str(tmp_path), "workload=glob(mine*)", "run=${workload.name}")) == 2


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--config-path", "elsewhere", "samples=3"], "--config-path"),
        (["--experimental-rerun", "config.pickle"], "--experimental-rerun"),
        (["-m", "hydra.sweeper._target_=mine.Sweeper", "samples=3,4"], "mine.Sweeper"),
    ],
)
def test_where_only_hydra_knows_the_runs_it_is_said_that_there_is_no_forecast(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnforeseenError):
        possible(*arguments)
    assert announced(arguments) == []
    errors = capsys.readouterr().err
    assert errors.startswith("no forecast: ") and reason in errors


@pytest.mark.parametrize("app", ["tune", "tune_model"])
def test_live_runs_are_announced_before_hydra_starts_them(
    app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = import_module(f"colt_pipeline.{app}")

    def starts(job: object) -> None:
        raise SystemExit(capsys.readouterr().err)

    monkeypatch.setattr(module, "command", starts)
    sweep = ["-m", "workload=glob(flux*)", f"results={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["colt", "--config-dir", str(groups(tmp_path, "mine")), *sweep, "stand_ins=false"])
    with pytest.raises(SystemExit, match="no forecast: there is no recording below"):
        module.main()
    monkeypatch.setattr(sys, "argv", ["colt", *sweep])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == ""


def test_an_override_that_deletes_a_group_is_well_formed() -> None:
    check_overrides(command_line(["~search"]))


def test_where_hydra_cannot_write_its_logs_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "logs").write_text("in the way")
    for flags, key in (["--run"], "hydra.run.dir=DIR"), (["-m"], "hydra.sweep.dir=DIR"):
        with pytest.raises(RunDirError, match=rf"cannot write Hydra's logs to logs\S+: .*{key}"):
            possible(*flags)
        assert len(possible(*flags, "hydra.run.dir=elsewhere/a", "hydra.sweep.dir=elsewhere/b")) == 1


def test_a_deleted_working_directory_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(ConfigError, match="the working directory no longer exists"):
        announced(["samples=3"])


@pytest.mark.parametrize(
    ("arguments", "extended"),
    [
        (["-m", "a=1", "b=2"], ["-m", "a=1", "b=2", "seed=3"]),
        (["a=1", "seed=0,1", "--multirun"], ["a=1", "seed=0,1", "seed=3", "--multirun"]),
        (["a=1", "a=1", "-cd", "x"], ["a=1", "a=1", "seed=3", "-cd", "x"]),
        (["--config-dir", "x"], ["--config-dir", "x", "seed=3"]),
        ([], ["seed=3"]),
    ],
)
def test_one_more_override_stands_where_hydra_takes_it(arguments: list[str], extended: list[str]) -> None:
    assert with_override(arguments, "seed=3") == extended
    assert command_line([a if a != "x" else str(CONF) for a in extended]).overrides[-1] == "seed=3"
