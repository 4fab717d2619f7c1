"""Parts of one's own: each kind in a small search, by name, in this process and in those of a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from colt_pipeline import registry
from colt_pipeline.config import plugins as importing
from colt_pipeline.config.checks import SEARCH_CHOICES
from colt_pipeline.config.schema import ANSWERS_IN_PLACE, Config
from colt_pipeline.errors import ConfigError, SpaceError
from colt_pipeline.llm.cassette import Cassette
from colt_pipeline.records import Answer, Edit, ModelSpec, PromptContext, Proposal, Reply
from colt_pipeline.runs.events import Sample
from colt_pipeline.runs.stopwatch import Stopwatch
from colt_pipeline.search.routing import ROUTERS
from colt_pipeline.search.state import State
from colt_pipeline.space import Program, Space
from colt_pipeline.space import transformations as table
from tests.small_runs import TINY, journal, move_recordings, play
from tests.support import ROOT, Compose, configured

pytestmark = pytest.mark.tvm

SMALL = tuple(override for override in TINY if not override.startswith("samples=")) + ("samples=8",)


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test registers is gone afterwards."""
    tables: list[dict[Any, Any]] = [
        *(registry.PROPOSERS, registry.COST_MODELS, registry._MODULES, ROUTERS),
        *(SEARCH_CHOICES, ANSWERS_IN_PLACE),
    ]
    before, rows = [dict(each) for each in tables], list(table.TRANSFORMATIONS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for each, known in zip(tables, before, strict=True):
        each.clear()
        each.update(known)
    table.TRANSFORMATIONS[:] = rows


def last(models: Sequence[ModelSpec], state: State, advised: str | None, rng: np.random.Generator) -> str:
    return models[-1].name


class Eager:
    """Always proposes the last transformation on offer, without asking anybody."""

    def __init__(self, config: Config, cassette: Cassette) -> None:
        self.seed = config.seed

    def ask(self, model: ModelSpec, context: PromptContext, occurrences: Mapping[str, int]) -> Answer:
        key = f"{self.seed}-{len(context.lineage)}"
        reply = Reply("", "stop", 0, 0, 0.0, "mine", "mine")
        name, _ = context.transformations[-1]
        return Answer(key, occurrences.get(key, 0), reply, Proposal((Edit(name),), None))


class Short:
    """The shorter, the faster."""

    warm = True

    def __init__(self, config: Config, space: Space, stopwatch: Stopwatch) -> None:
        self.learned = 0

    def score(self, programs: Sequence[Program], rng: np.random.Generator) -> list[float]:
        return [-float(len(program.code)) for program in programs]

    def update(self, programs: Sequence[Program], samples: Sequence[Sample]) -> None:
        self.learned += len(programs)


def whole_tile(trace: Any, seed: int) -> Any:
    """Undo the first tiling: move the whole tile into its outermost loop."""
    for inst in trace.insts:
        if inst.kind.name == "SamplePerfectTile":
            tile = [int(factor) for factor in trace.decisions[inst]]
            whole = [int(np.prod(tile)), *[1] * (len(tile) - 1)]
            if tile != whole:
                return trace.with_decision(inst, whole, remove_postproc=False)
    return None


def events(config: Config) -> list[dict[str, Any]]:
    return [json.loads(line) for line in journal(config).splitlines()]


def calls(config: Config) -> list[dict[str, Any]]:
    return [call for event in events(config) for call in event.get("calls", ())]


def test_a_router(composed: Compose) -> None:
    registry.router("last", last)
    config = composed(*SMALL, "search.router=last")
    play(config)
    routed = {e["child"]["model"] for e in events(config) if e["kind"] == "stepped" and e["child"]}
    assert routed == {config.model_specs[-1].name}


def test_a_proposer_is_named_as_what_answers(composed: Compose) -> None:
    registry.proposer("mine", Eager, asks_models=False)
    config = composed(*SMALL, "search.proposer=mine")
    assert {model.provider for model in config.model_specs} == {"mine"}
    play(config)
    assert {tuple(call["transformations"]) for call in calls(config)} == {("Parallel",)}


def test_a_proposer_that_asks_the_runs_models_leaves_them_their_names(composed: Compose) -> None:
    registry.proposer("theirs", Eager)
    config = composed(*SMALL, "search.proposer=theirs")
    assert {model.provider for model in config.model_specs} == {"embedded"}


def test_a_cost_model_learns_and_scores(composed: Compose) -> None:
    made: list[Short] = []

    def make(config: Config, space: Space, stopwatch: Stopwatch) -> Short:
        made.append(Short(config, space, stopwatch))
        return made[-1]

    registry.cost_model("short", make)
    config = composed(*SMALL, "search.cost_model=short")
    play(config)
    assert [each.learned for each in made] == [8]
    scores = [e["child"]["score"] for e in events(config) if e["kind"] == "stepped" and e["child"]]
    assert scores and all(score < -100 for score in scores)


def test_a_transformation_is_offered_used_and_replayed(composed: Compose, tmp_path: Path) -> None:
    registry.transformation("WholeTile", whole_tile, "undo the first tiling")
    registry.proposer("eager", Eager)
    live = composed(*SMALL, "search.proposer=eager")
    job = play(live)
    step = next(e for e in events(live) if e["kind"] == "stepped" and e["calls"][0]["outcome"] == "accepted")
    assert step["calls"][0]["transformations"] == ["WholeTile"]
    child = job.world.program(job.state.programs[step["child"]["program"]])
    parent = job.world.program(job.state.programs[job.state.tree.nodes[step["parent"]].record.program])
    assert str(child.trace) == str(whole_tile(parent.trace, 1))
    replay = composed(*SMALL, "search.proposer=eager", f"results={tmp_path / 'replay'}", "record=replay")
    move_recordings(live, replay)
    play(replay)
    assert journal(replay) == journal(live)


def test_tvms_weights_leave_room_for_a_transformation(composed: Compose) -> None:
    registry.transformation("WholeTile", whole_tile, "undo the first tiling")
    assert play(composed(*SMALL, "search.proposer=tvm")).state.finished == "budget"


def test_a_transformation_may_not_change_instructions(composed: Compose) -> None:
    def shorter(trace: Any, seed: int) -> Any:
        return type(trace)(trace.insts[:-1], trace.decisions)

    registry.transformation("Shorter", shorter, "forget the end")
    with pytest.raises(SpaceError, match="the transformation Shorter changed the instructions of a trace"):
        play(composed(*SMALL))


def test_a_transformation_may_not_make_what_cannot_be_loaded(composed: Compose) -> None:
    def undecided(trace: Any, seed: int) -> Any:
        return type(trace)(trace.insts, {})

    registry.transformation("Undecided", undecided, "forget all decisions")
    with pytest.raises(
        SpaceError, match="the transformation Undecided makes a trace that cannot be loaded again: .*has no"
    ):
        play(composed(*SMALL))


@pytest.mark.parametrize("name", ["endogenous", "ucb"])
def test_a_name_that_exists_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"the router {name} exists already; choose another name"):
        registry.router(name, last)
    with pytest.raises(ConfigError, match="the proposer llm exists already"):
        registry.proposer("llm", Eager)
    with pytest.raises(ConfigError, match="the cost_model xgb exists already"):
        registry.cost_model("xgb", Short)
    with pytest.raises(ConfigError, match="the transformation Unroll exists already"):
        registry.transformation("Unroll", whole_tile, "")


def test_a_cell_that_is_executed_again_replaces_its_own_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def again(models: Sequence[ModelSpec], state: State, advised: str | None, rng: np.random.Generator) -> str:
        return models[0].name

    registry.router("last", last)
    registry.router("last", again)
    assert ROUTERS["last"] is again and SEARCH_CHOICES["router"].count("last") == 1
    monkeypatch.setattr(again, "__module__", "elsewhere")
    with pytest.raises(ConfigError, match=f"the router last exists already, from {__name__}"):
        registry.router("last", again)


PLUGIN = """
from colt_pipeline import registry


def last(models, state, advised, rng):
    return models[-1].name


registry.router("last", last)
"""


def test_plugins_are_part_of_a_run_only_if_there_are_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_router.py").write_text(PLUGIN)
    monkeypatch.chdir(tmp_path)
    assert "plugins" not in configured(*TINY).identity()
    config = configured(*TINY, "plugins=[my_router]", "search.router=last")
    assert config.identity()["plugins"] == ["my_router"] and "last" in SEARCH_CHOICES["router"]
    del sys.modules["my_router"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "ModuleNotFoundError: No module named 'bad_plugin'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (
            "from colt_pipeline import registry\nregistry.router('ucb', print)",
            "ConfigError: the router ucb exists already",
        ),
    ],
)
def test_a_plugin_that_cannot_be_imported_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, reason: str
) -> None:
    if text is not None:
        (tmp_path / "bad_plugin.py").write_text(text)
    with pytest.raises(ConfigError, match=f"plugins: bad_plugin cannot be imported: {reason}"):
        importing.import_plugins(["bad_plugin"], tmp_path)


def test_a_plugin_has_the_name_of_a_module() -> None:
    with pytest.raises(ConfigError, match=r"plugins=\.\./evil is not the name of a module"):
        configured("plugins=['../evil']")


def test_a_command_and_the_processes_that_it_starts_import_plugins(tmp_path: Path) -> None:
    (tmp_path / "my_router.py").write_text(PLUGIN)
    small = (
        "workload=deepseek_r1_moe",
        "workload.shape.inner=128",
        "search=paper",
        "search.sample=program",
        "samples=2",
        "model_set=2",
    )
    here = ("target=h100", "device=estimate", "plugins=[my_router]", "search.router=last", "search.initial_programs=2")
    command = [sys.executable, "-m", "colt_pipeline.tune", "--multirun", "hydra/launcher=joblib", "seed=0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, *small, *here], cwd=tmp_path, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    runs = sorted((tmp_path / "results" / "runs").rglob("summary.json"))
    assert len(runs) == 1 and all("plugins:\n- my_router" in (run.parent / "config.yaml").read_text() for run in runs)
