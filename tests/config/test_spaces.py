"""Design spaces: chosen by a search or the user, named in words, read from runs, and one for all of a comparison."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from colt_pipeline.config.compose import composed as compose
from colt_pipeline.config.compose import runs
from colt_pipeline.config.schema import EXTENDED_SPACE, TVM_SPACE
from colt_pipeline.config.spaces import check_one_space, recorded_space, space_name, space_title
from colt_pipeline.errors import ConfigError, RunDirError
from colt_pipeline.runs.rundir import read_space
from colt_pipeline.serialization import written
from colt_pipeline.tools.forecast import announced
from tests.support import ROOT, Compose

SWITCHES = ("vector_math", "row_fusion", "register_tiles", "packing", "padding", "sound")

RECORDED = sorted({path.stem for path in (ROOT / "conf/experiment").glob("*.yaml")} - {"adhoc"})


@pytest.mark.parametrize(
    ("search", "space"),
    [
        *((name, "extended") for name in ("colt", "mcts_no_llm", "random_proposer", "router_ucb", "single_large")),
        *((name, "tvm") for name in ("paper", "official_code", "evolutionary")),
    ],
)
def test_a_search_comes_with_a_space_that_the_user_may_replace(composed: Compose, search: str, space: str) -> None:
    assert composed(f"search={search}").space.name == space
    for chosen in ("tvm", "extended"):
        assert composed(f"space={chosen}", f"search={search}").space.name == chosen


def test_tvms_space_is_the_one_of_recordings_and_not_in_a_runs_identity(composed: Compose) -> None:
    config = composed("search=colt", "space=tvm")
    assert config.space == TVM_SPACE and not config.space.additions
    assert composed("search=colt").space == EXTENDED_SPACE
    assert "space" not in config.identity() and "vector_math" not in config.identity()["measure"]
    extended = composed("search=colt").identity()
    assert extended["space"]["row_fusion"] and extended["measure"]["vector_math"]


@pytest.mark.parametrize("experiment", sorted({*RECORDED} - {"experience"}))
def test_every_experiment_searches_tvms_space_and_from_before_races_does_without(experiment: str) -> None:
    one_kernel = [] if experiment == "end_to_end" else ["workload=deepseek_r1_moe", "seed=0"]
    one_set = [] if experiment == "local" else ["model_set=8"]  # local has a set of its own
    configs = runs([f"experiment={experiment}", *one_set, *one_kernel])
    assert {config.space.additions for config in configs} == {()}
    assert not any("extended" in config.run for config in configs)
    races = {"racing" in config.identity()["measure"] for config in configs}
    assert races == {experiment in ("anytime", "anytime_long")}


def test_the_experience_of_the_extended_space_comes_from_there() -> None:
    (config,) = runs(["experiment=experience", "workload=deepseek_r1_moe"])
    assert config.space == EXTENDED_SPACE and config.pretraining.endswith("results/pretraining_legacy")


def test_programs_race_by_default_on_cpus_alone(composed: Compose) -> None:
    assert composed().identity()["measure"]["racing"] == 3
    assert "racing" not in composed("target=gpu").identity()["measure"]
    assert "racing" not in composed("measure=default").identity()["measure"]


def test_a_run_is_named_after_its_space_before_samples_and_seed(composed: Compose) -> None:
    assert composed("search=colt", "samples=8").run.endswith("/cpu-colt-8-gpt-5.2-extended-n8-s0")
    assert composed("search=evolutionary", "space=extended").run.endswith("/cpu-evolutionary-extended-n48-s0")
    assert composed("search=colt", "space=tvm", "samples=8").run.endswith("/cpu-colt-8-gpt-5.2-n8-s0")


def test_a_space_of_ones_own_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "space").mkdir()
    (tmp_path / "space/mine.yaml").write_text("defaults: [extended, _self_]\nname: mine\npadding: false\n")
    config = compose(["space=mine"], tmp_path)
    assert "/cpu-colt_plus-8-gpt-5.2-mine-n48-s0" in config.run
    assert space_name(config.space.additions) == "extended without padding"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["space=none"], r"Could not find 'space/none'.*Available options in 'space':\s+extended\s+tvm"),
        (["space.register_tiles=false"], r"space\.packing=true is an addition to register tiles; set space.register_t"),
        (["space=tvm", "space.padding=true"], r"or space\.padding=false"),
        (["measure.vector_math=false"], r"differs from space\.vector_math=True.*set only space\.vector_math"),
        (["space=tvm", "measure.vector_math=true"], r"set only space\.vector_math"),
        (["space.tiles=true"], r"Could not override 'space\.tiles'"),
        (["space.sound=perhaps"], r"space\.sound"),
        (["space.name=' '"], r"space\.name=.*is empty"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(overrides: Sequence[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.compile(said, re.DOTALL)):
        compose(["search=colt", *overrides])


def test_vector_math_is_measured_with_on_cpus_alone(composed: Compose, tmp_path: Path) -> None:
    assert composed("space=extended").measure.vector_math
    assert not composed("space=extended", "target=gpu").measure.vector_math
    assert not composed("space=extended", "space.vector_math=false").measure.vector_math
    lines = (ROOT / "conf/measure/default.yaml").read_text().splitlines(keepends=True)
    (tmp_path / "measure").mkdir()
    (tmp_path / "measure/old.yaml").write_text("".join(line for line in lines if "vector_math" not in line))
    assert compose(["measure=old", "space=extended"], tmp_path).measure.vector_math, "a file from before it existed"


@pytest.mark.parametrize(
    ("additions", "name", "title"),
    [
        ((), "tvm", "TVM's space"),
        (SWITCHES, "extended", "extended space"),
        (SWITCHES[:1], "tvm with vector_math", "TVM's space with vector math"),
        (SWITCHES[1:5], "extended without vector_math, sound", "extended space without vector math, sound"),
        ((*SWITCHES, "more"), "extended with more", "extended space with more"),
    ],
)
def test_words_say_what_is_on(additions: Sequence[str], name: str, title: str) -> None:
    assert (space_name(additions), space_title(name)) == (name, title)


def test_the_space_of_a_recorded_configuration(composed: Compose) -> None:
    assert recorded_space(written(composed("search=paper"))) == TVM_SPACE
    extended = composed("space=extended")
    assert recorded_space(written(extended)) == extended.space


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ("extended", "space: str instead of a mapping"),
        ({**vars(TVM_SPACE), "tiles": True}, "space: tiles is none of this version's: name, run_name, vector_math, "),
        ({**vars(TVM_SPACE), "sound": "yes"}, "sound: expected `bool`, got `str`"),
        ({"name": "tvm", "run_name": ""}, "missing required field `vector_math`"),
    ],
)
def test_a_recorded_space_is_checked(space: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        recorded_space({"space": space})
    path = tmp_path / "config.yaml"
    path.write_text("space: {name: tvm, tiles: true}\n")
    with pytest.raises(RunDirError, match=r"config\.yaml is not the configuration of a run \(space: tiles is none of"):
        read_space(path)


@pytest.mark.parametrize(
    "overrides",
    [
        ["search=colt,paper", "space=extended"],
        ["search=colt,paper", "space=tvm,extended"],
        ["search=colt", "space=tvm,extended"],
        ["search=paper,evolutionary"],
        ["search=colt,random_proposer"],
        ["search=colt", "seed=0,1", "space.vector_math=true,false"],
    ],
)
def test_searches_in_the_same_spaces_are_compared(overrides: list[str]) -> None:
    check_one_space(runs(overrides))


def test_searches_that_come_with_different_spaces_are_refused() -> None:
    configs = runs(["search=colt,evolutionary", "seed=0,1"])
    with pytest.raises(ConfigError) as refused:
        check_one_space(configs)
    assert str(refused.value) == (
        "searches are compared in one design space, but these come with different ones: colt: extended; evolutionary: "
        "tvm. Say which all of them search: space=tvm or space=extended"
    )
    with pytest.raises(ConfigError, match="colt: extended; paper: tvm"):
        announced(["-m", "search=colt,paper"])
    assert len(announced(["-m", "search=colt,paper", "space=tvm"])) == 2
