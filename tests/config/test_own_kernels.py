"""A kernel of the user's own: its run is named after the file and what is in it, and knows no path."""

from __future__ import annotations

from pathlib import Path

import pytest

from colt_pipeline.config.arguments import command_line, with_open_keys
from colt_pipeline.config.compose import composed, possible_runs, runs
from colt_pipeline.config.schema import Config
from colt_pipeline.errors import ConfigError

GIVEN = ("workload=own", "workload.source='my kernel.v2.py'")


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my kernel.v2.py"
    path.write_text("# nothing reads it here\n")
    return path


def of(kernel: Path, *overrides: str) -> Config:
    return composed([*GIVEN, *overrides])


def test_the_name_is_stem_and_digest(kernel: Path) -> None:
    config = of(kernel)
    stem, _, digest = config.workload.name.rpartition("-")
    assert stem == "my_kernel_v2" and len(digest) == 8
    assert config.run == f"{config.workload.name}/cpu-colt_plus-8-gpt-5.2-extended-n48-s0"


def test_whatever_defines_the_program_is_in_the_digest(kernel: Path) -> None:
    inputs = kernel.with_name("inputs.npz")
    inputs.write_bytes(b"1")
    variants = [
        [],
        ["workload.function=f"],
        ["workload.bind.n=8"],
        ["workload.bind.n=9"],
        ["workload.inputs=inputs.npz"],
    ]
    names = [of(kernel, *overrides).workload.name for overrides in variants]
    inputs.write_bytes(b"2")
    names.append(of(kernel, "workload.inputs=inputs.npz").workload.name)
    kernel.write_text("# edited\n")
    names.append(of(kernel).workload.name)
    assert len(set(names)) == len(names)


def test_the_same_contents_elsewhere_are_the_same_run(kernel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = of(kernel)
    other = kernel.parent / "other"
    other.mkdir()
    (other / kernel.name).write_bytes(kernel.read_bytes())
    monkeypatch.chdir(other)
    there = of(kernel)
    assert Path(there.workload.source or "") == other / kernel.name
    assert there.identity() == here.identity()
    assert str(kernel.parent) not in str(here.identity())


def test_sizes_need_no_prefix(kernel: Path) -> None:
    overrides = with_open_keys([*GIVEN, "workload.bind.n=8"])
    assert overrides[-1] == "++workload.bind.n=8"
    (config,) = possible_runs(command_line(overrides))
    assert config.workload.bind == {"n": 8}
    assert [c.workload.bind["n"] for c in runs([*GIVEN, "workload.bind.n=8,16"])] == [8, 16]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["workload=own"], "workload.source=FILE"),
        (["workload=own", "workload.source=missing.py"], "missing.py is not a file"),
        (["workload=own", "workload.source=."], "is not a file"),
        (["+workload.source=missing.py"], "needs workload=own"),
        (["workload=flux_conv", "workload.bind.n=8"], "workload.bind is for a kernel or model of your own"),
        (["workload=own", "workload.source='my kernel.v2.py'", "workload.inputs=no.npz"], "no.npz is not a file"),
        (
            ["workload=own", "workload.source='my kernel.v2.py'", "workload.bind.n=0"],
            "workload.bind.n=0 must be at least 1",
        ),
        (["workload=own", "workload.source='my kernel.v2.py'", "workload.bind.n=x"], "workload.bind.n"),
    ],
)
def test_what_is_missing_is_named(kernel: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        composed(overrides)
    assert message in str(raised.value)


def test_limits_and_what_follows_the_search_are_not_the_runs_identity(kernel: Path) -> None:
    assert of(kernel, "minutes=1").samples == 10_000
    assert of(kernel, "minutes=1", "samples=9").samples == 9
    plain = of(kernel, "samples=9").identity()
    assert of(kernel, "samples=9", "minutes=1", "measure.confirm=0").identity() == plain
    assert "confirm" not in plain["measure"] and "minutes" not in plain


def test_outside_the_project_the_package_has_measured_programs(kernel: Path) -> None:
    packaged = Path(of(kernel).pretraining)
    assert len(list(packaged.glob("*.csv"))) == 5
    assert composed(["pretraining=mine"]).pretraining == "mine"
